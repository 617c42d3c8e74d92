"""The constraint graph, as explanations read it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import networkx as nx

from .kinds import Kinds

Axis = tuple[str, int]

Kind = Literal["equal", "part", "product", "parent", "pinned"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The constraint graph of an analysis, and where in the user's source its nodes come from."""

    graph: nx.MultiGraph
    sources: Mapping[str, str]
    buffers: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Per node, the buffers met there that stay, and would move if the user said so."""
    find_kinds: Callable[[], Kinds] | None = None
    """Finds the kinds of all blocks, when somebody asks for them."""
    has_odd_ops: bool = False
    """Was an op run, such as tanh, after which units may change their signs?"""
