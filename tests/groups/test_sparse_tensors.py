"""Graph networks: sparse adjacencies as inputs, buffers and attributes keep nodes in place."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from networks import f
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.models.precision import to_double

torch.set_num_threads(1)

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CS. tensor support is in beta")

DENSE = torch.eye(5) + (torch.rand(5, 5, generator=torch.Generator().manual_seed(0)) > 0.5).float()
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
LAYOUTS = {
    "coo": torch.sparse_coo,
    "csr": torch.sparse_csr,
    "csc": torch.sparse_csc,
}
PRODUCTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sparse.mm": torch.sparse.mm,
    "matmul": torch.matmul,
    "operator": lambda a, h: a @ h,
    "addmm": lambda a, h: torch.sparse.addmm(h, a, h),
    "transposed": lambda a, h: a.t() @ h,
    "to_dense": lambda a, h: a.to_dense() @ h,
}


class GraphConvolution(nn.Module):
    """Two rounds of messages along the edges of a graph."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor], where: str, graph: Tensor):
        super().__init__()
        self.enter, self.inner, self.leave = nn.Linear(3, 8), nn.Linear(8, 7), nn.Linear(7, 2)
        self.product = product
        if where == "buffer":
            self.register_buffer("edges", graph)
        elif where == "attribute":
            self.edges = graph

    def forward(self, x: Tensor, graph: Tensor | None = None) -> Tensor:
        edges = self.edges if graph is None else graph
        h = self.product(edges, self.enter(x).relu())
        return self.leave(self.product(edges, self.inner(h).tanh()))


@pytest.mark.parametrize("where", ["input", "buffer", "attribute"])
@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_move_and_nodes_stay(layout: str, product: str, where: str) -> None:
    torch.manual_seed(0)
    graph = DENSE.to_sparse(layout=LAYOUTS[layout])
    a, b = (GraphConvolution(PRODUCTS[product], where, graph) for _ in "ab")
    args = (X, graph) if where == "input" else (X,)
    symmetry = fr.analyze(b, args=args)
    assert symmetry.log_order == pytest.approx(f(8) + f(7))
    assert not symmetry.unknown_ops
    aligned = fr.rebasin(b, to=a, args=args, progress=False)
    assert difference([aligned(*args)], [b(*args)]) < 1e-5


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export", "eager"])
def test_random_permutations_keep_the_function(front_end: str) -> None:
    graph = DENSE.double().to_sparse()
    model = randomise(GraphConvolution(torch.sparse.mm, "input", graph))
    symmetry = fr.analyze(model, (X.double(), graph), front_ends=[front_end])  # type: ignore[list-item]
    assert symmetry.log_order == pytest.approx(f(8) + f(7))
    expected = evaluate(model, (X, graph))
    for seed in range(4):
        moves = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        assert difference(evaluate(moves.apply_to(model), (X, graph)), expected) < 1e-10


def test_a_sparse_tensor_made_of_units_pins_them() -> None:
    """What is not understood about sparse tensors is not guessed."""

    class Sparsified(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(torch.sparse.softmax(self.enter(x).relu().to_sparse(), 1).to_dense())

    found = fr.analyze(Sparsified(), (X,))
    assert found.log_order == 0.0
    assert found.unknown_ops


def test_sparse_buffers_stay_in_state_dicts_and_models() -> None:
    graph = DENSE.to_sparse()
    a, b = (GraphConvolution(torch.sparse.mm, "buffer", graph.clone()) for _ in "ab")
    symmetry = fr.analyze(b, (X,))
    found = fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    moved = copy.deepcopy(b)
    moved.load_state_dict(found.apply(b.state_dict()))
    assert difference([moved(X)], [b(X)]) < 1e-5
    assert moved.edges.layout == torch.sparse_coo


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_model_is_left_as_it_was(layout: str) -> None:
    graph = DENSE.to_sparse(layout=LAYOUTS[layout])
    model = GraphConvolution(torch.matmul, "buffer", graph)
    fr.analyze(model, (X,))
    assert model.edges is graph
    assert torch.equal(graph.to_dense(), DENSE)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert to_double(copy.deepcopy(model.enter)).weight.dtype == torch.float64
