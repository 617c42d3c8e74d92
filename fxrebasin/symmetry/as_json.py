"""Symmetry groups as JSON text.

The text has all of a group but the evidence that explanations are given from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..errors import FileFormatError
from ..layouts.causes import PinKind
from .parts import AxisGroup, Block, Group, ParameterSymmetry, Pinned, Segment

FORMAT = "fxrebasin.symmetry/2"
_BEFORE_KINDS = "fxrebasin.symmetry/1"
"""Says why units are pinned in a sentence only; still read."""


class Content(NamedTuple):
    """What a symmetry is made from; the names are those of its fields."""

    blocks: Mapping[str, Block]
    parameters: tuple[ParameterSymmetry, ...]
    pinned: tuple[Pinned, ...]
    unknown_ops: Mapping[str, int]
    outputs: tuple[ParameterSymmetry, ...]
    front_end: str
    notes: tuple[str, ...]
    untouched: tuple[str, ...] = ()
    tested_at: str = ""


def dumps(symmetry: Group, *, indent: int | None = None) -> str:
    """A group as text."""
    content = {
        "format": FORMAT,
        "log_order": symmetry.log_order,
        "blocks": [vars(block) for block in symmetry.blocks.values()],
        "parameters": [_parameter_content(p) for p in symmetry.parameters],
        "outputs": [_parameter_content(p) for p in symmetry.outputs],
        "pinned": [{**vars(pin), "kind": pin.kind.value} for pin in symmetry.pinned],
        "unknown_ops": dict(symmetry.unknown_ops),
        "front_end": symmetry.front_end,
        "notes": symmetry.notes,
        "untouched": symmetry.untouched,
        "tested_at": symmetry.tested_at,
    }
    return json.dumps(content, indent=indent)


def loads(text: str) -> Content:
    """Read what :func:`dumps` has written; whether the parts fit together is not looked at.

    Raises:
        FileFormatError: the text is in no format that is known.
        AttributeError, KeyError, TypeError, ValueError: something is missing or not what it is
            in this format.
    """
    content = json.loads(text)
    found = content["format"]
    if found not in (FORMAT, _BEFORE_KINDS):
        raise FileFormatError(f"expected the format {FORMAT!r}, found {found!r}")
    return Content(
        {b["name"]: _block(b) for b in content["blocks"]},
        tuple(_parameter(p) for p in content["parameters"]),
        tuple(_pinned(p) for p in content["pinned"]),
        content["unknown_ops"],
        tuple(_parameter(p) for p in content["outputs"]),
        content["front_end"],
        tuple(content["notes"]),
        tuple(content.get("untouched", ())),
        content.get("tested_at", ""),
    )


def _block(b: dict[str, Any]) -> Block:
    axes = tuple((name, dim) for name, dim in b["axes"])
    return Block(b["name"], b["size"], b["parent"], b["count"], axes)


def _pinned(p: dict[str, Any]) -> Pinned:
    if "reason" in p:
        text = p.pop("reason")
        return Pinned(**p, kind=PinKind.UNRECORDED, text=text)
    return Pinned(**{**p, "kind": PinKind(p["kind"])})


def _parameter_content(p: ParameterSymmetry) -> dict[str, Any]:
    return {
        "names": p.names,
        "shape": p.shape,
        "is_buffer": p.is_buffer,
        "groups": [
            {
                "axes": g.axes,
                "segments": [
                    {
                        "blocks": s.blocks,
                        "parents": s.parents,
                        "shape": s.positions.shape,
                        "positions": s.positions.ravel().tolist(),
                    }
                    for s in g.segments
                ],
            }
            for g in p.groups
        ],
    }


def _parameter(p: dict[str, Any]) -> ParameterSymmetry:
    groups = tuple(
        AxisGroup(tuple(g["axes"]), tuple(_segment(s) for s in g["segments"])) for g in p["groups"]
    )
    return ParameterSymmetry(tuple(p["names"]), tuple(p["shape"]), p["is_buffer"], groups)


def _segment(s: dict[str, Any]) -> Segment:
    positions = np.array(s["positions"], dtype=np.int64).reshape(s["shape"])
    return Segment(tuple(s["blocks"]), positions, tuple(s["parents"]))
