"""What weight matching would take for a Llama-like model: arithmetic on its blocks.

Rotary embeddings turn each pair of features of queries and keys by an angle of its own, so those
features stay in place inside their head; features of values move freely. What may move is

* the residual stream, one block that every tensor shares,
* the hidden units of each gated MLP,
* the heads of each layer, and inside them the features of their values.
"""

from __future__ import annotations

from dataclasses import dataclass

FLOAT32, BFLOAT16 = 4, 2


@dataclass(frozen=True)
class Block:
    """Blocks of one kind."""

    name: str
    count: int
    units: int
    """Rows of the cost matrix."""
    entries: int
    """Of the tensors of one model that its cost matrix is a product of."""
    batch: int
    """How many assignment problems a visit solves."""
    size: int
    """Rows of each of them."""

    @property
    def flops(self) -> int:
        """Of computing the cost matrices of all blocks of the kind once, in full."""
        return 2 * self.count * self.units * self.entries

    @property
    def nbytes(self) -> int:
        """Of one cost matrix."""
        return FLOAT32 * self.units**2


@dataclass(frozen=True)
class Llama:
    """A decoder with RMSNorm, gated MLPs, rotary embeddings and as many key as query heads."""

    hidden: int = 4096
    layers: int = 32
    intermediate: int = 11008
    heads: int = 32
    vocabulary: int = 32000

    @property
    def attention(self) -> int:
        """Entries of the four projections of a layer."""
        return 4 * self.hidden**2

    @property
    def mlp(self) -> int:
        """Entries of the three matrices of a layer."""
        return 3 * self.hidden * self.intermediate

    @property
    def layer_parameters(self) -> int:
        return self.attention + self.mlp + 2 * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + (2 * self.vocabulary + 1) * self.hidden

    @property
    def blocks(self) -> tuple[Block, ...]:
        half = self.attention // 2
        inside = (self.heads**2, self.hidden // self.heads)
        return (
            Block("residual stream", 1, self.hidden, self.parameters, 1, self.hidden),
            Block("MLP", self.layers, self.intermediate, self.mlp, 1, self.intermediate),
            Block("heads", self.layers, self.heads, half, 1, self.heads),
            Block("values inside heads", self.layers, self.hidden, half, *inside),
        )

    @property
    def flops(self) -> int:
        """Of every cost matrix once, in full: a sweep."""
        return sum(block.flops for block in self.blocks)

    @property
    def matrix_bytes(self) -> int:
        """Of all cost matrices."""
        return sum(block.count * block.nbytes for block in self.blocks)
