"""The backend of ``torch.compile``: outputs, gradients, live weights, other shapes and modes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult

import fxrebasin as fr
from fxrebasin.compile import Backend, live
from fxrebasin.passes import Falsify, Propagate, Refine, Trace
from fxrebasin.passes.state import state_of
from fxrebasin.symmetry import action

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")

INNER = ("eager", "aot_eager")


@pytest.fixture(autouse=True)
def _forget_what_was_compiled() -> None:
    torch._dynamo.reset()


class Convolutional(nn.Module):
    """BatchNorm, a residual stream, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.head = nn.Conv2d(6, 6, 1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.stem(x)).relu()
        return self.head((h + self.inner(h).tanh()).mean((2, 3)))


class Waves(nn.Sequential):
    """Units that change their signs, before running statistics and after."""

    def __init__(self) -> None:
        between = nn.Tanh(), nn.BatchNorm2d(6), nn.Tanh()
        super().__init__(nn.Conv2d(3, 6, 3), *between, nn.Flatten(), nn.Linear(24, 2))


class Tied(nn.Module):
    """One weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.mix, self.out = nn.Embedding(7, 6), nn.Linear(6, 6), nn.Linear(6, 7)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(self.words(x)).relu())


class Broken(nn.Module):
    """Two stretches between which Dynamo captures nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5))
        self.second = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        torch._dynamo.graph_break()
        return self.second(h)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


IMAGES: Callable[[int], Tensor] = lambda n: torch.randn(n, 3, 4, 4)  # noqa: E731
VECTORS: Callable[[int], Tensor] = lambda n: torch.randn(n, 3)  # noqa: E731
WORDS: Callable[[int], Tensor] = lambda n: torch.randint(7, (n, 3))  # noqa: E731
TOKENS: Callable[[int], Tensor] = lambda n: torch.randn(n, 3, 8)  # noqa: E731

MODELS: dict[Callable[[], nn.Module], Callable[[int], Tensor]] = {
    Convolutional: IMAGES,
    Waves: IMAGES,
    Tied: WORDS,
    Broken: VECTORS,
    Attention: TOKENS,
}


def pair(kind: Callable[[], nn.Module]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The reference, the model to compile, and a copy of that to compare with."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(kind())
    return made[0], made[1], copy.deepcopy(made[1])


def assert_alike(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def moved_units(compiled: Any) -> int:
    return fr.backend.report(compiled).moved_units


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("kind", MODELS)
def test_a_compiled_model_is_trained_like_the_model(
    kind: Callable[[], nn.Module], inner: str
) -> None:
    assert_trained_alike(kind, inner)


@pytest.mark.slow
def test_inductor_trains_a_compiled_model_like_the_model() -> None:
    assert_trained_alike(Convolutional, "inductor")


def assert_trained_alike(kind: Callable[[], nn.Module], inner: str) -> None:
    reference, model, plain = pair(kind)
    compiled: Any = torch.compile(model, backend=fr.backend(to=reference, inner=inner))
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (model, plain)]
    for batch in (4, 4, 5, 3):
        x = MODELS[kind](batch)
        outputs = [m(x) for m in (compiled, plain)]
        assert_alike(*outputs)
        for output in outputs:
            output.square().mean().backward()
        for (name, p), q in zip(model.named_parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5, msg=name)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert_alike(model.state_dict(), plain.state_dict())
    model.eval(), plain.eval()
    assert_alike(compiled(x), plain(x))
    assert moved_units(compiled) > 0


def test_the_model_itself_is_not_changed() -> None:
    reference, model, plain = pair(Convolutional)
    compiled: Any = torch.compile(model.eval(), backend=fr.backend(to=reference, inner="eager"))
    before = reference.state_dict()
    with torch.no_grad():
        compiled(IMAGES(2))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    for name, tensor in before.items():
        assert torch.equal(reference.state_dict()[name], tensor), name


def test_weights_that_are_loaded_count_in_the_next_call() -> None:
    reference, model, _ = pair(Convolutional)
    compiled: Any = torch.compile(model.eval(), backend=fr.backend(to=reference, inner="eager"))
    x = IMAGES(2)
    with torch.no_grad():
        compiled(x)
        model.load_state_dict(reference.state_dict())
        assert_alike(compiled(x), reference.eval()(x))
        for tensor in (*model.parameters(), *reference.parameters()):
            tensor.data.mul_(1.1)
        assert_alike(compiled(x), reference(x))
        stem = model.get_parameter("stem.weight")
        stem.data = torch.zeros_like(stem)
        reference.get_parameter("stem.weight").data.zero_()
        assert_alike(compiled(x), reference(x))


def test_the_eager_model_updates_statistics_of_the_compiled_one() -> None:
    reference, model, plain = pair(Convolutional)
    compiled: Any = torch.compile(model.eval(), backend=fr.backend(to=reference, inner="eager"))
    x = IMAGES(2)
    compiled(x)
    for one in (model, plain):
        one.train()(x)
        one.eval()
    assert_alike(compiled(x), plain(x))


def test_weights_are_gathered_only_where_they_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[tuple[int, ...]] = []

    def take(tensor: Tensor, axes: tuple[int, ...], source: Any) -> Tensor:
        gathered.append(tuple(tensor.shape))
        return original(tensor, axes, source)

    original = action.take
    reference, model, _ = pair(lambda: nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)))
    compiled: Any = torch.compile(model, backend=fr.backend(to=reference, inner="eager"))
    x = VECTORS(4)
    compiled(x)
    monkeypatch.setattr(live, "take", take)
    compiled(x)
    with torch.no_grad():
        compiled(x)  # another graph, with the same weights
    assert gathered == []
    with torch.no_grad():
        model.get_parameter("0.weight").mul_(2)
    compiled(x)
    compiled(x)
    assert gathered == [(6, 3)]


def test_nothing_is_solved_anew_for_other_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []

    def counting(*args: Any, **options: Any) -> Any:
        solved.append(1)
        return fr.solvers.coordinate_descent(*args, **options)

    reference, model, plain = pair(Convolutional)
    backend = fr.backend(to=reference, inner="eager", solver=counting)
    compiled: Any = torch.compile(model, backend=backend)
    for batch, training in ((2, True), (3, True), (3, False), (5, False)):
        model.train(training), plain.train(training)
        assert_alike(compiled(IMAGES(batch)).shape, plain(IMAGES(batch)).shape)
    (part,) = fr.backend.report(compiled).parts
    assert len(solved) == 1
    assert part.graphs >= 3


@pytest.mark.parametrize("dynamic", [True, False])
def test_whole_graphs_with_shapes_of_any_kind(dynamic: bool) -> None:
    reference, model, plain = pair(Convolutional)
    backend = fr.backend(to=reference, inner="aot_eager")
    compiled: Any = torch.compile(model.eval(), backend=backend, fullgraph=True, dynamic=dynamic)
    plain.eval()
    for batch in (2, 4, 7):
        x = IMAGES(batch)
        assert_alike(compiled(x), plain(x))


def test_each_stretch_between_graph_breaks_is_aligned_for_itself() -> None:
    reference, model, plain = pair(Broken)
    compiled: Any = torch.compile(model, backend=fr.backend(to=reference, inner="eager"))
    x = VECTORS(4)
    assert_alike(compiled(x), plain(x))
    report = fr.backend.report(compiled)
    assert [part.symmetry.movable_units for part in report.parts] == [6, 8]
    assert "1 graph breaks; what crosses them stays in place" in str(report)


def test_what_is_found_is_what_rebasin_finds() -> None:
    reference, model, _ = pair(Convolutional)
    x = IMAGES(2)
    aligned = fr.rebasin(model, to=reference, args=(x,), progress=False)
    compiled: Any = torch.compile(model.eval(), backend=fr.backend(to=reference, inner="eager"))
    compiled(x)
    report = fr.backend.report(compiled)
    (part,) = report.parts
    assert part.symmetry.log_order == pytest.approx(aligned.report.symmetry.log_order)
    assert report.objective_after == pytest.approx(aligned.report.objective_after)
    assert report.objective_before == pytest.approx(aligned.report.objective_before)
    assert part.verification.error < 1e-10


def test_a_symmetry_that_is_known_is_used() -> None:
    reference, model, plain = pair(Convolutional)
    symmetry = fr.analyze(model, args=(IMAGES(2),), constraints=[fr.pin("stem.weight", 0)])
    backend = fr.backend(to=reference, inner="eager", symmetry=symmetry)
    compiled: Any = torch.compile(model.eval(), backend=backend)
    x = IMAGES(2)
    assert_alike(compiled(x), plain.eval()(x))
    (part,) = backend.report(backend).parts
    assert part.symmetry is symmetry


class Rotated(nn.Module):
    """Angles that no state dict holds, as of rotary embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("angles", torch.arange(3.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x * self.get_buffer("angles").cos()).relu())


def test_the_reference_may_be_a_state_dict() -> None:
    reference, model, plain = pair(Rotated)
    backend = fr.backend(to=reference.state_dict(), inner="eager")
    compiled: Any = torch.compile(model, backend=backend)
    x = VECTORS(4)
    assert_alike(compiled(x), plain(x))
    assert moved_units(compiled) > 0


# by name


def test_it_is_listed_and_takes_options() -> None:
    assert "fxrebasin" in torch.compiler.list_backends()
    reference, model, plain = pair(Convolutional)
    options: Any = {"to": reference, "inner": "eager"}
    compiled: Any = torch.compile(model, backend="fxrebasin", options=options)
    for batch in (3, 4):
        x = IMAGES(batch)
        assert_alike(compiled(x), plain(x))
    assert len(fr.backend.report(compiled).parts) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"needs to know what to align with: .*options=\{'to': reference\}"),
        ({"to": "a.pt"}, "to: expected the reference model or its state dict, found 'a.pt'"),
        ({"from": 1}, "options: expected some of to, passes, inner, .* found 'from'"),
        ({"to": nn.Linear(3, 4)}, "and its name, 'stem.weight', is none of the reference's"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    _, model, _ = pair(Convolutional)
    compiled: Any = torch.compile(model, backend="fxrebasin", options=options)
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=message):
        compiled(IMAGES(2))


def test_a_reference_of_another_shape() -> None:
    reference, model, _ = pair(Convolutional)
    reference.head = nn.Linear(6, 3)
    compiled: Any = torch.compile(model, backend=fr.backend(to=reference, inner="eager"))
    message = r"'head.weight' has shape \(2, 6\) in the compiled model, but \(3, 6\) in the ref"
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=message):
        compiled(IMAGES(2))


class Uncaptured(nn.Module):
    """Dynamo runs it as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    @torch._dynamo.disable
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return found


def test_what_dynamo_cannot_capture_is_an_error_or_runs_eagerly() -> None:
    """An error where a whole graph is asked for; else it runs eagerly, and the report is empty."""
    torch._dynamo.reset()
    reference, model = Uncaptured(), Uncaptured()
    x = torch.randn(3, 4)
    options: Any = {"to": reference, "inner": "eager"}
    whole: Any = torch.compile(model, backend="fxrebasin", options=options, fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="disable"):
        whole(x)
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, backend="fxrebasin", options=options)
    assert torch.equal(compiled(x), model(x))
    assert fr.backend.report(compiled).parts == ()


def test_backends_that_cannot_be() -> None:
    reference = nn.Linear(2, 2)
    with pytest.raises(fr.errors.InvalidArgumentError, match=r"either to=, .* or passes="):
        Backend()
    with pytest.raises(fr.errors.InvalidArgumentError, match=r"either to=, .* or passes="):
        Backend(to=reference, passes=[Trace()])
    with pytest.raises(fr.errors.InvalidArgumentError, match=r"inner: .*inductor.*found 'indct'"):
        Backend(to=reference, inner="indct")
    with pytest.raises(fr.errors.InvalidArgumentError, match="compiled: expected a compiled model"):
        Backend.report(reference)


def test_a_model_told_by_identity() -> None:
    reference, model, plain = pair(Convolutional)
    model.eval(), plain.eval()

    def use(x: Tensor) -> Tensor:
        return 2 * model(x)

    other = nn.Linear(1, 1)
    x = IMAGES(2)
    compiled = torch.compile(use, backend=fr.backend(to=reference, inner="eager", model=model))
    assert_alike(compiled(x), 2 * plain(x))
    torch._dynamo.reset()
    compiled = torch.compile(use, backend=fr.backend(to=reference, inner="eager", model=other))
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="its name, none, is none"):
        compiled(x)


# passes


class Doubled(PassBase):
    """Doubles what a graph returns, as a pass of the user's own may."""

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        (output,) = graph_module.graph.find_nodes(op="output")
        with graph_module.graph.inserting_before(output):
            ((value,),) = output.args
            doubled = graph_module.graph.call_function(torch.mul, (value, 2))
        output.args = ((doubled,),)
        graph_module.recompile()
        return PassResult(graph_module, True)


class Note(PassBase):
    """Notes the symmetry that the passes before it have found."""

    def __init__(self) -> None:
        self.found: list[fr.Symmetry] = []

    def call(self, graph_module: nn.Module) -> PassResult:
        symmetry = state_of(graph_module, "symmetry").symmetry
        assert symmetry is not None
        self.found.append(symmetry)
        return PassResult(graph_module, False)


@pytest.mark.parametrize("inner", INNER)
def test_passes_run_before_the_inner_backend(inner: str) -> None:
    _, model, plain = pair(Convolutional)
    note = Note()
    passes = [Doubled(), Trace(), Propagate(), Refine(), Falsify(), note]
    compiled: Any = torch.compile(model, backend=fr.backend(passes=passes, inner=inner))
    optimizers = [torch.optim.SGD(m.parameters(), 0.1) for m in (model, plain)]
    for batch in (4, 4, 3):
        x = IMAGES(batch)
        outputs = compiled(x), 2 * plain(x)
        assert_alike(*outputs)
        for output, optimizer in zip(outputs, optimizers, strict=True):
            output.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_alike(model.state_dict(), plain.state_dict())
    assert [found.movable_units for found in note.found] == [6] * len(note.found)
    assert note.found


def test_passes_before_an_alignment() -> None:
    reference, model, plain = pair(Convolutional)
    inner = fr.backend(to=reference, inner="eager")
    backend = fr.backend(passes=[Doubled()], inner=inner)
    compiled: Any = torch.compile(model.eval(), backend=backend)
    x = IMAGES(2)
    assert_alike(compiled(x), 2 * plain.eval()(x))
    assert moved_units(compiled) > 0


def test_a_pass_that_returns_something_else() -> None:
    model = nn.Linear(2, 3)
    backend = fr.backend(passes=[lambda gm: gm], inner="eager")
    compiled: Any = torch.compile(model, backend=backend)
    message = "passes: expected a PassResult with a GraphModule from function"
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match=message):
        compiled(torch.zeros(1, 2))


def test_functions_without_weights_are_handed_on() -> None:
    backend = fr.backend(to=nn.Linear(2, 2), inner="eager")
    x = torch.randn(3)
    compiled = torch.compile(F.relu, backend=backend)
    assert torch.equal(compiled(x), F.relu(x))
