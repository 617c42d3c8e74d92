"""Symmetry groups as JSON text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ..errors import FileFormatError
from .group import Symmetry
from .parts import AxisGroup, Block, ParameterSymmetry, Pinned, Segment

FORMAT = "fxrebasin.symmetry.group/1"


def dumps(symmetry: Symmetry, *, indent: int | None = None) -> str:
    """Everything but the evidence that explanations are given from."""
    content = {
        "format": FORMAT,
        "log_order": symmetry.log_order,
        "blocks": [vars(block) for block in symmetry],
        "parameters": [_parameter_content(p) for p in symmetry.parameters],
        "outputs": [_parameter_content(p) for p in symmetry.outputs],
        "pinned": [vars(p) for p in symmetry.pinned],
        "unknown_ops": dict(symmetry.unknown_ops),
        "front_end": symmetry.front_end,
        "notes": symmetry.notes,
    }
    return json.dumps(content, indent=indent)


def loads(text: str) -> Symmetry:
    """Read what :func:`dumps` has written.

    Raises:
        FileFormatError: the text is not a symmetry.
    """
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise FileFormatError(f"expected the format {FORMAT!r}, found {content['format']!r}")
        symmetry = Symmetry(
            {b["name"]: _block(b) for b in content["blocks"]},
            tuple(_parameter(p) for p in content["parameters"]),
            tuple(Pinned(**p) for p in content["pinned"]),
            content["unknown_ops"],
            tuple(_parameter(p) for p in content["outputs"]),
            content["front_end"],
            tuple(content["notes"]),
        )
    except FileFormatError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"this is not a symmetry written as JSON: {error}") from error
    _check_names(symmetry)
    return symmetry


def _check_names(symmetry: Symmetry) -> None:
    """Every block that is named must be there."""
    for parameter in (*symmetry.parameters, *symmetry.outputs):
        for group in parameter.groups:
            for segment in group.segments:
                for name in segment.blocks:
                    if name not in symmetry.blocks:
                        raise FileFormatError(
                            f"{parameter.name!r} is moved by block {name!r}, which is missing"
                        )


def _block(b: dict[str, Any]) -> Block:
    axes = tuple((name, dim) for name, dim in b["axes"])
    return Block(b["name"], b["size"], b["parent"], b["count"], axes)


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
