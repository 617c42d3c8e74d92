"""Symmetry groups as JSON text.

The text has all of a group but the evidence that explanations are given from, and a digest of all
that it says: a digit that is another, two positions that changed places or a line that is gone are
seen when it is read. How the text is laid out does not matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import FileFormatError
from ..layouts.causes import PinKind
from .kinds import Kinds
from .kinds_as_json import kinds_content, read_kinds
from .parts import AxisGroup, Block, Group, ParameterSymmetry, Pinned, Segment

FORMAT = "fxrebasin.symmetry/3"
_BEFORE_DIGESTS = "fxrebasin.symmetry/2"
"""Has no digest; still read."""
_BEFORE_KINDS = "fxrebasin.symmetry/1"
"""Says why units are pinned in a sentence only; still read."""

UNREADABLE = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError)
"""What is raised where a text is not in the format, those of this library included."""

Positions = NDArray[np.int64]


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
    units_not_understood: int = 0
    known_kinds: Kinds | None = None


def dumps(symmetry: Group, *, indent: int | None = None) -> str:
    """A group as text."""
    content = _content(symmetry, apart=False, kinds=True)
    content["digest"] = digest_of(content)
    return json.dumps(content, indent=indent, separators=(",", ":") if indent is None else None)


def dumps_apart(symmetry: Group, *, kinds: bool = False) -> tuple[str, Positions]:
    """A group as text without the positions of its segments, and these, one after another.

    The kinds of its blocks, which take time to be found, are left out where nobody needs them.
    """
    content = _content(symmetry, apart=True, kinds=kinds)
    content["digest"] = digest_of(content)
    return json.dumps(content, separators=(",", ":")), _positions_of(symmetry)


def fingerprint_of(symmetry: Group) -> str:
    """A SHA-256 of which units there are and how they move: not of notes, or of why some stay."""
    content = _content(symmetry, apart=True, kinds=False)
    moves = {key: content[key] for key in ("blocks", "parameters", "outputs")}
    positions = np.ascontiguousarray(_positions_of(symmetry), dtype="<i8")
    return hashlib.sha256(digest_of(moves).encode() + positions.tobytes()).hexdigest()


def _positions_of(symmetry: Group) -> Positions:
    """Of all segments, one after another."""
    tensors = (*symmetry.parameters, *symmetry.outputs)
    segments = [s for p in tensors for g in p.groups for s in g.segments]
    return np.concatenate([np.empty(0, dtype=np.int64), *(s.positions.ravel() for s in segments)])


def digest_of(content: Mapping[str, Any]) -> str:
    """A SHA-256 of all that a text says, but for the digest itself."""
    said = {key: value for key, value in content.items() if key != "digest"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _content(symmetry: Group, *, apart: bool, kinds: bool) -> dict[str, Any]:
    found = symmetry.kinds if kinds else Kinds({})
    return {
        "format": FORMAT,
        "log_order": symmetry.log_order,
        "blocks": [vars(block) for block in symmetry.blocks.values()],
        "parameters": [_parameter_content(p, apart=apart) for p in symmetry.parameters],
        "outputs": [_parameter_content(p, apart=apart) for p in symmetry.outputs],
        "pinned": [{**vars(pin), "kind": pin.kind.value} for pin in symmetry.pinned],
        "unknown_ops": dict(symmetry.unknown_ops),
        "front_end": symmetry.front_end,
        "notes": symmetry.notes,
        "untouched": symmetry.untouched,
        "tested_at": symmetry.tested_at,
        "units_not_understood": symmetry.units_not_understood,
        **({"kinds": kinds_content(found)} if found.blocks else {}),
    }


def loads(text: str, positions: Positions | None = None) -> Content:
    """Read what :func:`dumps` or :func:`dumps_apart` has written; whether the parts fit together is
    not looked at.

    Raises:
        FileFormatError: the text is in no format that is known, or is not what was written.
        AttributeError, KeyError, TypeError, ValueError: something is missing or not what it is
            in this format.
    """
    content = json.loads(text)
    found = content["format"]
    if found not in (FORMAT, _BEFORE_DIGESTS, _BEFORE_KINDS):
        raise FileFormatError(f"expected the format {FORMAT!r}, found {found!r}")
    if found == FORMAT or "digest" in content:
        expected, digest = content.get("digest"), digest_of(content)
        if expected != digest:
            raise FileFormatError(
                f"expected content with the digest {expected!r} that it names, found {digest!r}: "
                "the text was changed after it was written"
            )
    rest = None if positions is None else _Rest(positions)
    read = Content(
        {b["name"]: _block(b) for b in content["blocks"]},
        tuple(_parameter(p, rest) for p in content["parameters"]),
        tuple(_pinned(p) for p in content["pinned"]),
        content["unknown_ops"],
        tuple(_parameter(p, rest) for p in content["outputs"]),
        content["front_end"],
        tuple(content["notes"]),
        tuple(content.get("untouched", ())),
        content.get("tested_at", ""),
        content.get("units_not_understood", 0),
        read_kinds(content["kinds"]) if "kinds" in content else None,
    )
    if rest is not None and rest.left:
        raise FileFormatError(f"expected positions for every segment, found {rest.left} too many")
    return read


def what_lacks(error: BaseException) -> str:
    """What an error says of a text that could not be read."""
    if isinstance(error, KeyError):
        return f"expected {error.args[0]!r} in it, found nothing of that name"
    if isinstance(error, RecursionError):
        return "expected a dozen levels of nesting, found far more"
    return str(error)


class _Rest:
    """Positions that were written one after another, taken in that order."""

    def __init__(self, positions: Positions) -> None:
        self._positions, self._taken = positions, 0

    @property
    def left(self) -> int:
        return len(self._positions) - self._taken

    def take(self, count: int) -> Positions:
        self._taken += count
        return self._positions[self._taken - count : self._taken]


def _block(b: dict[str, Any]) -> Block:
    axes = tuple((name, dim) for name, dim in b["axes"])
    return Block(b["name"], b["size"], b["parent"], b["count"], axes)


def _pinned(p: dict[str, Any]) -> Pinned:
    if "reason" in p:
        text = p.pop("reason")
        return Pinned(**p, kind=PinKind.UNRECORDED, text=text)
    return Pinned(**{**p, "kind": PinKind(p["kind"])})


def _parameter_content(p: ParameterSymmetry, *, apart: bool) -> dict[str, Any]:
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
                        **({} if apart else {"positions": s.positions.ravel().tolist()}),
                    }
                    for s in g.segments
                ],
            }
            for g in p.groups
        ],
    }


def _parameter(p: dict[str, Any], rest: _Rest | None) -> ParameterSymmetry:
    groups = tuple(
        AxisGroup(tuple(g["axes"]), tuple(_segment(s, rest) for s in g["segments"]))
        for g in p["groups"]
    )
    return ParameterSymmetry(tuple(p["names"]), tuple(p["shape"]), p["is_buffer"], groups)


def _segment(s: dict[str, Any], rest: _Rest | None) -> Segment:
    if rest is None:
        positions = np.array(s["positions"], dtype=np.int64)
    else:
        positions = rest.take(prod(s["shape"]))
    return Segment(tuple(s["blocks"]), positions.reshape(s["shape"]), tuple(s["parents"]))
