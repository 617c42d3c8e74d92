"""What is asked of the nodes of a graph."""

from __future__ import annotations

from typing import Any

from torch import fx


def name_of(node: fx.Node) -> str:
    """What an op is called, however it was spelled."""
    if isinstance(node.target, str):
        return node.target
    packet = getattr(node.target, "overloadpacket", node.target)
    return str(getattr(packet, "__name__", packet)).strip("_")


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """An argument that may have been given by position or by name."""
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)
