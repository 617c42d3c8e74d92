"""Networks that nobody designed: whatever is drawn, the group that is found must be one.

Hypothesis draws the steps of a network one by one, so what fails shrinks to a few of them. Many
more networks go through ``python -m benchmarks.fuzz``, whose ``--recipe`` repeats what fails here.
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import soundness
from benchmarks.fuzz.networks import PROFILES, Recipe, UnfitError, build, draw, example_inputs, grow
from benchmarks.fuzz.ops import OPS
from benchmarks.fuzz.shrinking import shrink
from benchmarks.fuzz.soundness import VISIBLE, analyse, judge, trial
from benchmarks.measuring.random_weights import difference, evaluate

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

VECTORS = ((6,), (12,), (24,), (5,))
TOKENS = ((4, 12), (3, 8), (2, 1))
IMAGES = ((12, 4, 4), (6, 3, 3), (24, 6, 6), (1, 2, 2))
SHAPES = (*VECTORS, *TOKENS, *IMAGES)
NARROW = ((1,), (2,), (3,), (3, 2), (2, 4, 4))
"""Shapes that only parts of networks have."""
SMALL = (2, 2, 1)
CROPPED = (("linear", 12), ("crop", 3, 6))

REGRESSIONS: tuple[Recipe, ...] = (
    # Of these, an analysis that does not test itself has once claimed too much.
    (("vector", 5, 24), ("branches", (), (("glu",), ("linear", 24))), ("each",)),
    (("vector", 5, 6), ("halves", (("one_parameter_twice",),)), ("each",)),
    (("vector", 5, 8), ("halves", (("glu",), ("pad", 0, 2))), ("each",)),
    (("vector", 5, 6), ("dense", (("gated_halves",), ("pad", 1, 2))), ("each",)),
    (("vector", 5, 6), ("dense", (("halves", ()),)), ("each",)),
    (("vector", 5, 6), ("part", 2, (("glu",), ("pad", 0, 1))), ("each",)),
    (("vector", 5, 6), ("branches", (("ordered_pairs",),), ()), ("each",)),
    (("vector", 5, 6), ("crop", 3, 3), ("one_parameter_twice",), ("pad", 4, 5), ("each",)),
    (("vector", 5, 6), ("part", 2, (("gated_halves",), ("pad", 0, 1))), ("each",)),
    (
        ("vector", 5, 6),
        ("dense", (("scatter_piece", 3, 3), ("branches", (), CROPPED), ("crop", 3, 6))),
        ("each",),
    ),
    (
        ("vector", 5, 6),
        ("sorted_channels",),
        ("piece_to_front", 1, 3),
        ("pad", 0, 16),
        ("each",),
    ),
    # What forward keeps on its module was the same for all inputs, with equal weights.
    (("vector", 5, 6), ("tied", 6, (("softmax",),)), ("kept",)),
    (
        ("vector", 5, 6),
        (
            *("tied", 8),
            (
                ("summed", (("per_group", 4, 2, "loop"),), (("rms_norm", "module"),)),
                ("per_group", 4, 2, "matmul"),
                ("recall", 1, "multiply"),
            ),
        ),
        ("one_of_two_names",),
        ("kept",),
    ),
    # What was concluded contradicted itself, and the analysis went on for ever.
    (
        ("tokens", 3, 8),
        ("channel_attention", 2),
        ("skip", (("multihead", 2), ("gram", 2, 4), ("pad", 2, 2))),
        ("halves", (("layer_norm", False),)),
        ("each",),
    ),
)


@st.composite
def recipes(draw_one: st.DrawFn, profile: str) -> Recipe:
    return draw(lambda options: draw_one(st.sampled_from(options)), profile, SMALL)


def fuzzed(profile: str, count: int) -> Callable[[Callable[[Recipe], None]], Callable[[], None]]:
    """Run a test on random networks, the same ones every time."""
    limits = settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    return lambda test: limits(given(recipes(profile))(test))


def assert_sound(recipe: Recipe) -> None:
    verdict = judge(recipe)
    assume(verdict.judged)
    assert verdict.sound, (
        f"permuting changes an output by {verdict.error:.1e}, relative. Repeat it with\n"
        f'python -m benchmarks.fuzz --recipe "{recipe}"'
    )


@fuzzed("ordinary", 60)
def test_networks_of_ordinary_layers(recipe: Recipe) -> None:
    assert_sound(recipe)


@fuzzed("odd", 140)
def test_networks_of_odd_ops(recipe: Recipe) -> None:
    assert_sound(recipe)


@fuzzed("program", 60)
def test_networks_whose_forward_is_a_program(recipe: Recipe) -> None:
    assert_sound(recipe)


@pytest.mark.parametrize("recipe", REGRESSIONS, ids=str)
def test_networks_that_were_once_wrong(recipe: Recipe) -> None:
    verdict = judge(recipe)
    assert verdict.judged
    assert verdict.sound and verdict.raw_sound, recipe


# the power of these tests


def test_a_group_of_another_network_is_seen_to_be_wrong() -> None:
    stem, head = ("vector", 5, 6), ("each",)
    symmetry, _ = analyse((stem, ("activation", "tanh"), head))
    for step in (("flip",), ("roll", 1)):
        other = trial((stem, step, ("activation", "tanh"), head))
        assert other is not None
        assert other.error(symmetry) > 1e-3


def test_a_tensor_left_in_its_place_is_seen() -> None:
    verdicts = [judge(draw(random.Random(seed).choice, "ordinary", SMALL)) for seed in range(12)]
    symmetric = [v for v in verdicts if v.log_order > 0]
    visible = [v for v in symmetric if v.control > VISIBLE]
    assert len(symmetric) >= 10
    assert len(visible) >= 0.9 * len(symmetric)


def test_networks_are_run_at_all_sizes_that_they_take() -> None:
    tokens = ("tokens", 3, 8)
    taken = {("each",): [(2, 3), (3, 5), (3, 3)], ("flat",): [(2, 3), (3, 3)]}
    for head, sizes in taken.items():
        tried = trial((tokens, ("places_read", "slice"), head))
        assert tried is not None
        assert [tuple(sized.inputs[0].shape[:2]) for sized in tried.sizes] == sizes


@pytest.mark.parametrize(("kind", "tensors"), [("distribution", 2), ("nested", 2), ("kept", 2)])
def test_what_is_answered_in_objects_is_compared(kind: str, tensors: int) -> None:
    tried = trial((("vector", 5, 6), (kind,)))
    assert tried is not None
    assert len(tried.sizes[0].expected) == tensors


def test_weights_that_amplify_rounding_errors_are_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = (("vector", 5, 6), ("each",))
    assert judge(recipe).judged
    monkeypatch.setattr(soundness, "CALM", 0.0)
    verdict = judge(recipe)
    assert not verdict.judged
    assert not verdict.sound
    assert math.isclose(verdict.log_order, math.log(720))


# the generator


@pytest.mark.parametrize("name", OPS)
def test_every_op_takes_all_the_arguments_that_it_offers(name: str) -> None:
    offered = [(shape, found) for shape in SHAPES for found in OPS[name].options(shape)]
    assert offered
    narrow = [(shape, found) for shape in NARROW for found in OPS[name].options(shape)]
    for shape, arguments in [*narrow, *random.Random(0).sample(offered, min(20, len(offered)))]:
        _, made = grow((name, *arguments), [shape])
        if not OPS[name].outer:
            assert len(made) == len(shape)
            assert len(shape) != 2 or made[0] == shape[0]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_recipe_rebuilds_its_network(profile: str) -> None:
    for seed in range(10):
        recipe = draw(random.Random(seed).choice, profile)
        assert recipe == draw(random.Random(seed).choice, profile)
        again = ast.literal_eval(repr(recipe))
        first, second = build(recipe), build(again)
        inputs = example_inputs(recipe)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
            assert torch.equal(a, b)
        outputs = [evaluate(model.double(), inputs) for model in (first, second)]
        assert difference(*outputs) == 0


def test_building_leaves_the_random_state_as_it_was() -> None:
    before = torch.get_rng_state()
    build((("tokens", 4, 12), ("multihead", 3), ("flat",)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_that_does_not_fit_is_named_with_the_shape() -> None:
    with pytest.raises(UnfitError, match=r"\('group_norm', 5, True\) does not fit \(12,\)"):
        build((("vector", 5, 12), ("group_norm", 5, True), ("each",)))
    with pytest.raises(UnfitError, match=r"a body of 'skip' makes \(6,\) of \(12,\)"):
        build((("vector", 5, 12), ("skip", (("linear", 6),)), ("each",)))
    with pytest.raises(UnfitError, match="would join"):
        build((("vector", 5, 12), ("linear", 6), ("recall", 1, "add"), ("each",)))


def test_what_fails_shrinks_to_what_makes_it_fail() -> None:
    recipe = (
        ("tokens", 4, 24),
        ("linear", 12),
        ("skip", (("mlp", 8), ("branches", (("flip",),), (("scale",),)), ("linear", 12))),
        ("pool_tokens", "mean"),
        ("partial",),
    )
    smallest = shrink(recipe, lambda r: "'skip'" in repr(r) and "'flip'" in repr(r))
    assert smallest == (("vector", 5, 6), ("skip", (("flip",),)), ("each",))
