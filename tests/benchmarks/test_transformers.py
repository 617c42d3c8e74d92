"""The benchmark of transformers: its networks compute what they should, and its page is written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.merging.fashion import Data, Images
from benchmarks.merging.rows import Results
from benchmarks.merging.training import Recipe
from benchmarks.transformers import page, speeches
from benchmarks.transformers.circuits import with_circuits
from benchmarks.transformers.glmc import glmc, rotate
from benchmarks.transformers.methods import LEARNED, PERMUTED, STEPS, Pair, methods_for
from benchmarks.transformers.networks import GPT, Transformer, ViT, perceptron
from benchmarks.transformers.training import PERCEPTRONS, TRANSFORMERS, Setting


def small_vit() -> ViT:
    return ViT(width=16, layers=2, heads=2, hidden=24, patch=14)


def small_gpt() -> GPT:
    return GPT(width=16, layers=2, heads=2, characters=7, length=9)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def characters(count: int = 4) -> Tensor:
    return torch.randint(7, (count, 9), generator=torch.Generator().manual_seed(0))


Build = Callable[[], Transformer]
Inputs = Callable[[], Tensor]

CASES: list[tuple[Build, Inputs]] = [(small_vit, images), (small_gpt, characters)]


def random_weights(model: Transformer, seed: int) -> Transformer:
    """Other weights, but norms that have absorbed theirs, in float64."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.double().parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).double())
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.fill_(1)
    return model.eval()


def wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


@pytest.mark.parametrize(("build", "inputs"), CASES)
def test_products_compute_what_matrices_do_and_rotate(build: Build, inputs: Inputs) -> None:
    model, x = random_weights(build(), 0), wide(inputs())
    products = with_circuits(model)
    torch.testing.assert_close(products(x), model(x))
    drawn = torch.randn(16, 16, generator=torch.Generator().manual_seed(1)).double()
    centre = torch.eye(16).double() - 1 / 16
    left, _, right = torch.linalg.svd(centre @ drawn @ centre + 100 / 16)
    rotation = left @ right
    torch.testing.assert_close(rotation.sum(1), torch.ones(16).double())
    rotated = copy.deepcopy(products)
    with torch.no_grad():
        rotate(rotated, rotation)
    assert not torch.allclose(rotated.head.weight, products.head.weight)
    torch.testing.assert_close(rotated(x), model(x))


@pytest.mark.parametrize(("build", "inputs"), CASES)
def test_glmc_keeps_what_networks_compute_and_finds_itself(build: Build, inputs: Inputs) -> None:
    model, x = random_weights(build(), 0), wide(inputs())
    other = random_weights(build(), 2)
    a, b = glmc(model, other)
    torch.testing.assert_close(a(x.float() if x.is_floating_point() else x), model(x).float())
    found = b(x.float() if x.is_floating_point() else x)
    torch.testing.assert_close(found, other(x).float(), atol=1e-3, rtol=1e-3)
    a, b = glmc(model, model)
    for one, same in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(one, same)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["permutations, by weights", "and learned, 25 steps"])
def test_both_networks_of_a_method_compute_what_they_did(method: str) -> None:
    labels = torch.arange(10).repeat(2)
    data = Data(Images(images(20), labels), Images(images(20), labels))
    recipe = Recipe("of a test", small_vit, epochs=1)
    setting = Setting("of a test", recipe, lambda: data, 20, tested=20, watched=20, batch=4)
    pair = Pair(setting, small_vit().eval(), small_vit().eval(), seed=0)
    a, b = {**PERMUTED, **LEARNED}[method](pair)
    for found, given in ((a, pair.a), (b, pair.b)):
        torch.testing.assert_close(found(images()), given(images()), atol=1e-4, rtol=1e-4)


def test_transformers_can_be_rotated_and_perceptrons_change_signs() -> None:
    kinds = {
        kind
        for block in fr.analyze(small_gpt(), (characters(),)).kinds.blocks.values()
        for kind in [block.kind.name]
    }
    assert kinds == {"O|1", "GL", "S"}
    assert any("learned" in name for name in methods_for(TRANSFORMERS[0], 1))
    assert [len(methods_for(s, 0)) for s in PERCEPTRONS] == [7, 7, 4]
    assert perceptron(nn.Tanh, 5)(images()).shape == (4, 10)


def test_windows_of_text_are_followed_by_the_next_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [f"speech {k}: " + "abcdefgh" * 20 for k in range(20)]
    monkeypatch.setattr(speeches, "_read", lambda: texts)
    speeches.load_speeches.cache_clear()
    try:
        data = speeches.load_speeches()
    finally:
        speeches.load_speeches.cache_clear()
    for part in (data.train, data.test):
        assert part.images.shape == part.labels.shape
        assert part.images.shape[1] == speeches.LENGTH
        assert torch.equal(part.images[:, 1:], part.labels[:, :-1])
    assert len(data.train.images) > 5 * len(data.test.images)


def test_the_page_has_all_rows_and_a_picture(tmp_path: Path) -> None:
    results = Results(tmp_path / "rows.jsonl", commit="abc")
    page.write(results, tmp_path / "page.md", 1)
    assert not (tmp_path / "page.md").exists()
    figures = {"barrier": 0.5, "loss": 0.8, "accuracy": 0.75}
    figures |= {"loss of the parents": 0.3, "accuracy of the parents": 0.88}
    curves = {"t": [0.0, 0.5, 1.0], "loss": [0.3, 0.8, 0.3]}
    for setting in (TRANSFORMERS[0], PERCEPTRONS[0]):
        for method in methods_for(setting, 0):
            for seed in range(2):
                results.add(page.STUDY, setting.name, method, figures, seed=seed, curves=curves)
    page.write(results, tmp_path / "page.md", 1)
    text = (tmp_path / "page.md").read_text()
    assert f"and learned, {STEPS[-1]} steps" in text and "0.500, 0.500" in text and "abc" in text
    assert (tmp_path / page.PICTURE).stat().st_size > 10_000
