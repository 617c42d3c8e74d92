"""The kinds of blocks in the JSON text of a symmetry: plain lists and numbers, and back."""

from __future__ import annotations

from typing import Any

from .kinds import KINDS, Absorption, BlockKind, Cap, Factor, Kinds


def kinds_content(kinds: Kinds) -> dict[str, Any]:
    """All that kinds say, in the types that JSON has."""
    return {
        "blocks": {name: _block_content(found) for name, found in kinds.blocks.items()},
        "factors": [
            {
                "place": place,
                "block": factor.block,
                "parity": factor.parity,
                "scales": factor.scales,
                "signs": factor.signs,
            }
            for place, factor in kinds.factors.items()
        ],
        "absorptions": [
            {
                "block": one.block,
                "vector": one.vector,
                "readers": [[place, powers] for place, powers in one.readers.items()],
            }
            for one in kinds.absorptions
        ],
        "variances": dict(kinds.variances),
        "centred": list(kinds.centred),
    }


def _block_content(found: BlockKind) -> dict[str, Any]:
    return {
        "kind": found.kind.name,
        "scales": found.scales,
        "signs": found.signs,
        "caps": [[cap.kind.name, cap.op, cap.node] for cap in found.caps],
        "absorbed": found.absorbed,
        "before": found.before.name if found.before else None,
    }


def read_kinds(content: dict[str, Any]) -> Kinds:
    """Read what :func:`kinds_content` has written.

    Raises:
        KeyError, TypeError, ValueError: something is missing or not what it is in this format.
    """
    factors = {
        _place(one["place"]): Factor(
            one["block"],
            tuple(one["parity"]),
            tuple(map(tuple, one["scales"])),
            tuple(map(tuple, one["signs"])),
        )
        for one in content["factors"]
    }
    absorptions = tuple(
        Absorption(
            one["block"],
            one["vector"],
            {_place(place): tuple(map(int, powers)) for place, powers in one["readers"]},
        )
        for one in content["absorptions"]
    )
    blocks = {name: _block(found) for name, found in content["blocks"].items()}
    centred = tuple(_place(place) for place in content.get("centred", ()))
    return Kinds(blocks, factors, absorptions, dict(content["variances"]), centred)


def _block(found: dict[str, Any]) -> BlockKind:
    return BlockKind(
        KINDS[found["kind"]],
        found["scales"],
        found["signs"],
        tuple(Cap(KINDS[kind], op, node) for kind, op, node in found["caps"]),
        tuple(found["absorbed"]),
        KINDS[found["before"]] if found["before"] else None,
    )


def _place(given: list[Any]) -> tuple[str, int, int, int]:
    name, group, segment, dim = given
    return str(name), int(group), int(segment), int(dim)
