"""What running a model on units has found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import networkx as nx

from .events import Event
from .layout import Parameter
from .units import Units
from .unread import Reading


@dataclass
class Facts:
    """What running a model on units has found."""

    units: Units
    parameters: list[Parameter]
    graph: nx.MultiGraph
    unknown_ops: Counter[str] = field(default_factory=Counter)
    outputs: list[Parameter] = field(default_factory=list)
    """The outputs whose units may move, as if they were stored tensors."""
    sources: dict[str, str] = field(default_factory=dict)
    """Per node of the constraint graph's edges, the line of the user's source."""
    runs: int = 0
    """On how many examples the model was run."""
    touched: set[str] = field(default_factory=set)
    """The parameters that an op has met."""
    constant_buffers: dict[str, set[str]] = field(default_factory=dict)
    """Per node, the buffers that units met there, and that would move if the user said so."""
    shapes_read: bool = False
    """Did an op run whose result has a shape that depends on values?"""
    reading: Reading = field(default_factory=Reading)
    """What ops have read of their operands, and what they have left out."""
    values_read: dict[str, None] = field(default_factory=dict)
    """The nodes at which control flow read a value that depends on inputs or parameters."""

    events: list[Event] = field(default_factory=list)
    """What ops have done, in the order in which they ran."""
    values_made: int = 0
    """How many values there are besides those of the parameters."""

    def new_number(self) -> int:
        """A number for a value that an op has made; the first are those of the parameters."""
        self.values_made += 1
        return len(self.parameters) + self.values_made - 1

    def untouched(self) -> tuple[str, ...]:
        """The parameters that nothing that was run has met."""
        return tuple(
            p.name
            for p in self.parameters
            if not p.is_buffer and max(p.shape, default=1) > 1 and p.name not in self.touched
        )
