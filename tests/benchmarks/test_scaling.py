"""The benchmark of scaling: fits, what is counted, and the arithmetic of the extrapolation."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pytest
import torch
from torch import nn

import fxrebasin as fr
from benchmarks.measuring.processes import Lost
from benchmarks.scaling import __main__ as scaling
from benchmarks.scaling.extrapolation import Extrapolation, Gpu
from benchmarks.scaling.families import FAMILIES, random_pair
from benchmarks.scaling.fits import Curve, PowerLaw, fit, interpolated, seconds_per_problem
from benchmarks.scaling.llama import Llama
from benchmarks.scaling.measuring import measured
from benchmarks.scaling.plot import draw
from benchmarks.scaling.rows import Row, dumps, loads
from benchmarks.scaling.steps import ASSIGNMENT, PRODUCTS, Solved, Steps, demand, steps_timed
from benchmarks.scaling.tables import document
from fxrebasin.matching.trees import trees_of
from fxrebasin.objectives import weights

SIZES = (64, 128, 256, 512)
SMALL_LLAMA = Llama(hidden=24, layers=2, intermediate=40, heads=3, vocabulary=16)


def row(width: int, depth: int = 2) -> Row:
    """One whose steps grow with known exponents."""
    return Row(
        *("mlp", width, depth, "abc", 2),
        parameters=1000,
        blocks=3,
        runs=1,
        sweeps=2,
        discovery=0.5 * depth,
        products=1e-9 * width**3,
        assignment=1e-8 * width**2 * depth,
        evaluation=2e-6 * width,
        rest=1e-6 * width,
        flops=40 * width**3,
        pass_flops=20 * width**3,
        matrix_bytes=4 * width**2,
        memory=6.0 * width**2,
        solved=(Solved(2, width, 3, 6e-8 * width**2),),
    )


CURVES = (
    Curve("mlp", "width", tuple(row(n) for n in SIZES)),
    Curve("mlp", "depth", tuple(row(64, n) for n in SIZES)),
)
LARGE = (row(1024), row(2048))


def test_fit_is_of_the_upper_half() -> None:
    values = {1: 100.0, 2: 0.1, 4: 3 * 4**2.5, 8: 3 * 8**2.5, 16: 3 * 16**2.5}
    law = fit(values)
    assert law == pytest.approx((3.0, 2.5))
    assert law is not None
    assert law.at(32) == pytest.approx(3 * 32**2.5)


@pytest.mark.parametrize("values", [{4: 1.0}, {4: 1.0, 8: 0.0, 16: 2.0}, {}])
def test_there_is_no_fit_without_two_positive_figures(values: dict[int, float]) -> None:
    assert fit(values) is None


def test_between_sizes_lines_are_straight_and_beyond_them_the_law_holds() -> None:
    values = {10: 1.0, 1000: 100.0}
    law = PowerLaw(factor=1.0, exponent=3.0)
    assert interpolated(values, law, 100) == pytest.approx(10.0)
    assert interpolated(values, law, 2000) == pytest.approx(800.0)


def test_problems_of_a_batch_share_its_time() -> None:
    one = replace(row(64), solved=(Solved(4, 64, 2, 8.0), Solved(1, 64, 2, 4.0)))
    assert seconds_per_problem([one, row(128)]) == pytest.approx({64: 1.2, 128: 1e-8 * 128**2})


def test_time_inside_another_step_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = chain([0.0, 1.0, 3.0, 4.0, 8.0, 10.0], repeat(10.0))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    steps = Steps()
    inner = steps.timed(ASSIGNMENT, lambda: None)
    steps.timed(PRODUCTS, lambda: (inner(), inner()))()
    assert steps.seconds[ASSIGNMENT] == 2 + 4
    assert steps.seconds[PRODUCTS] == 10 - 6


@pytest.mark.parametrize("family", FAMILIES)
def test_demand_is_what_the_library_multiplies(family: str) -> None:
    pair = random_pair(family, 64, 1)
    a, b = pair.a.state_dict(), pair.b.state_dict()
    symmetry = fr.analyze(pair.b, args=(pair.inputs,), check=False)
    objective = weights(symmetry, b, a)
    indices = fr.Permutation.identity(symmetry).indices
    sources = [objective.sources(indices, t) for t in range(len(objective.terms))]
    trees = trees_of(objective)
    with steps_timed() as steps:
        for tree in trees:
            for cost in tree.costs.values():
                cost.update(indices, sources, set(tree.terms))
    assert (steps.flops, sum(tree.nbytes for tree in trees)) == demand(symmetry, b)
    assert steps.seconds[PRODUCTS] > 0 == steps.seconds[ASSIGNMENT]


def test_demand_of_one_hidden_layer() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5))
    symmetry = fr.analyze(net, args=(torch.zeros(1, 3),))
    assert demand(symmetry, net.state_dict()) == (2 * 8 * 8 * (3 + 1 + 5), 4 * 8 * 8)


@pytest.mark.slow
def test_llama_takes_what_the_library_finds_in_a_small_one() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=SMALL_LLAMA.vocabulary,
        hidden_size=SMALL_LLAMA.hidden,
        intermediate_size=SMALL_LLAMA.intermediate,
        num_hidden_layers=SMALL_LLAMA.layers,
        num_attention_heads=SMALL_LLAMA.heads,
        num_key_value_heads=SMALL_LLAMA.heads,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    assert sum(p.numel() for p in model.parameters()) == SMALL_LLAMA.parameters
    symmetry = fr.analyze(model, args=(torch.tensor([[3, 4, 5, 6]]),), check=False)
    expected = (SMALL_LLAMA.flops, SMALL_LLAMA.matrix_bytes)
    assert demand(symmetry, model.state_dict()) == expected


def test_llama_has_seven_billion_parameters() -> None:
    model = Llama()
    assert model.parameters == 6_738_415_616
    by_hand = 2 * 4096 * model.parameters + 32 * 2 * 11008 * 3 * 4096 * 11008
    by_hand += 32 * 2 * (4096 + 32) * 2 * 4096**2
    assert model.flops == by_hand


def test_extrapolation_scales_the_largest_run() -> None:
    found = Extrapolation(LARGE, SMALL_LLAMA)
    assert found.rate == pytest.approx(40e9)
    assert found.law.exponent == pytest.approx(2)
    assert found.seconds_to_solve(4096) == pytest.approx(1e-8 * 4096**2)
    estimate = found.on_cpu()
    growth = SMALL_LLAMA.parameters / 1000
    problem = 1e-8 * 1024**2  # no smaller one was measured
    assert estimate.products == pytest.approx(SMALL_LLAMA.flops / 40e9)
    assert estimate.assignment == pytest.approx((1 + 2 + 2 + 2 * 9) * problem)
    assert estimate.evaluation == pytest.approx(2e-6 * 2048 * growth)
    assert estimate.rest == pytest.approx(1e-6 * 2048 * growth)
    assert estimate.dominant == "assignment"


def test_small_networks_do_not_tell_how_assignment_grows() -> None:
    with pytest.raises(ValueError, match="two sizes from 512 on must have been measured, got"):
        Extrapolation((row(64), row(128)), SMALL_LLAMA)


def test_gpu_is_limited_by_arithmetic_or_by_memory() -> None:
    found = Extrapolation(LARGE, SMALL_LLAMA)
    operands = 8 * (SMALL_LLAMA.parameters + SMALL_LLAMA.layers * (3 * 24 * 40 + 2 * 2 * 24**2))
    slow = Gpu(flops=10.0, bandwidth=1e9, link=100.0, share=0.5)
    assert found.on_gpu(slow).products == pytest.approx(SMALL_LLAMA.flops / 5)
    starved = Gpu(flops=1e30, bandwidth=10.0, link=100.0, share=0.5)
    assert found.on_gpu(starved).products == pytest.approx(operands / 5)
    assert found.on_gpu(starved).rest == pytest.approx(SMALL_LLAMA.matrix_bytes / 50)
    assert found.on_gpu(starved).assignment == found.on_cpu().assignment


def test_rows_are_kept_as_they_are() -> None:
    assert loads(dumps(row(64))) == row(64)


def test_a_row_is_measured() -> None:
    found = measured(Row("residual_mlp", 64, 1, "abc", torch.get_num_threads()))
    assert found.blocks == 2
    assert found.flops >= found.pass_flops > 0
    assert sum(solved.calls for solved in found.solved) >= found.blocks
    assert {solved.size for solved in found.solved} == {64, 128}
    assert min(found.products, found.assignment, found.evaluation, found.rest) > 0


def test_curves_are_in_order_without_repetition() -> None:
    curves = scaling.wanted_curves(("transformer",), (2048, 1024, 2048), (4, 2, 4))
    assert [key[1] for key in curves[0].keys] == [1024, 2048]
    assert [key[2] for key in curves[1].keys] == [2, 4]


def test_document_and_picture_have_the_exponents() -> None:
    text = document((*CURVES, Curve("mlp", "width", LARGE)))
    assert " 3.00 |" in next(r for r in text.splitlines() if r.startswith("| MLP, width at depth"))
    figure = draw(CURVES)
    legend = figure.axes[1].get_legend()
    assert legend is not None
    labels = [label.get_text() for label in legend.get_texts()]
    assert r"assignment $\sim d^{1.00}$" in labels


def test_what_takes_too_long_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured_widths = []

    def measure(wanted: Row) -> Row | Lost[Row]:
        measured_widths.append(wanted.width)
        if wanted.width > 256:
            return Lost(wanted, "it never ended")
        return replace(row(wanted.width), family=wanted.family, depth=wanted.depth)

    monkeypatch.setattr(scaling, "measure", measure)
    options = Namespace(
        families=("transformer",),
        widths=SIZES,
        depths=(2, 4),
        threads=1,
        results=tmp_path / "rows.jsonl",
        fresh=False,
    )
    for again in ([64, 128, 128, 256, 512], [512]):
        width, depth = scaling.run(options)
        assert (width.sizes, depth.sizes) == ([64, 128, 256], [2, 4])
        assert measured_widths == again
        measured_widths.clear()
    assert "('transformer', 512, 2): left out, it never ended" in capsys.readouterr().err
