"""Blocks are written down also on axes that hold the same units several times."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise

INPUTS = (
    torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    torch.randint(5, (5, 4), generator=torch.Generator().manual_seed(0)),
)


class Messages(nn.Module):
    """Nodes and edges of one stream of features; edges are made of themselves and both nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mix = nn.Linear(3, 6), nn.Linear(18, 6)
        self.of_nodes, self.of_edges = nn.LayerNorm(6), nn.LayerNorm(6)

    def forward(self, edges: Tensor, neighbours: Tensor) -> Tensor:
        edges = self.enter(edges)
        nodes = self.of_nodes(edges[:, 0])
        for _ in range(2):
            own = nodes[:, None].expand(-1, edges.shape[1], -1)
            around = torch.cat([own, torch.cat([edges, nodes[neighbours]], -1)], -1)
            edges = self.of_edges(edges + self.mix(around))
        return around


def test_entries_of_one_value_that_are_joined_to_it_are_copies_of_their_own() -> None:
    model = randomise(Messages())
    symmetry = fr.analyze(model, args=INPUTS, free_outputs=True)
    assert symmetry.movable_units == 6
    (output,) = symmetry.outputs
    ((group,), (segment,)) = output.groups, output.groups[0].segments
    assert group.axes == (2,)
    assert sorted(segment.positions.T.tolist()) == torch.arange(18).reshape(3, 6).tolist()
    permutation = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    expected = permutation.permute(output, model(*INPUTS))
    torch.testing.assert_close(permutation.apply_to(model)(*INPUTS), expected)
