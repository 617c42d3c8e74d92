"""The page about a symmetry: what it says, and that it is sound HTML that needs nothing else."""

from __future__ import annotations

import re
import sys
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from networks import NETWORKS
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin import Block, Segment, Symmetry
from fxrebasin.layouts.causes import PinKind
from fxrebasin.symmetry.as_html import html_report
from fxrebasin.symmetry.parts import AxisGroup, ParameterSymmetry, Pinned

torch.set_num_threads(1)

_EMPTY = {"meta", "br"}
_NAMES = ["mlp", "torch_attention", "lstm", "rotary_attention", "grouped_convolution"]


class _Reader(HTMLParser):
    """The texts of a page by the tag around them; every tag must be closed by its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def of(self, tag: str) -> list[str]:
        return [text for around, text in self.texts if around == tag]

    @property
    def everything(self) -> str:
        return " ".join(text for _, text in self.texts)


@cache
def group(name: str) -> Symmetry:
    torch.manual_seed(0)
    network = NETWORKS[name]
    return fr.analyze(network.factory(), args=network.inputs(2))


def odd() -> Symmetry:
    """Names that would break a page; a sum, a product and copies on the axes."""
    heads = Block("<w>[0]", 3, None, 1, (("<w>", 0), ("b&b", 0)))
    inside = Block("<w>[0]#2", 2, "<w>[0]", 3, (("<w>", 0),))
    both = Segment(("<w>[0]", "<w>[0]#2"), np.arange(12).reshape(3, 2, 2), (-1, 0))
    some = Segment(("<w>[0]",), np.arange(3).reshape(3, 1), (-1,))
    rest = Segment((), np.arange(3, 8), ())
    unknown = PinKind.UNKNOWN_OP
    return Symmetry(
        {b.name: b for b in (heads, inside)},
        (
            ParameterSymmetry(("<w>", 'tied"'), (12, 5), False, (AxisGroup((0,), (both,)),)),
            ParameterSymmetry(("b&b",), (8,), False, (AxisGroup((0,), (some, rest)),)),
            ParameterSymmetry(("mean",), (), True),
        ),
        (
            Pinned("<w>", 1, 5, unknown, "odd.op is not understood", "odd.op", "<x>"),
            Pinned("b&b", 0, 1005, PinKind.OUTPUT, "is an output & more"),
            Pinned("z", 0, 7, PinKind.OUTPUT, "is an output & more"),
        ),
        {"odd.op": 2, "other.op<T>": 1},
    )


@pytest.mark.parametrize("name", _NAMES)
def test_all_blocks_and_tensors_are_on_the_page(name: str) -> None:
    symmetry = group(name)
    page = _Reader(html_report(symmetry))
    codes = set(page.of("code"))
    assert symmetry.blocks.keys() <= codes
    assert {n for p in symmetry.parameters for n in p.names} <= codes
    assert {f"{n}[{dim}]" for block in symmetry for n, dim in block.axes} <= codes
    assert {f"{pin.parameter}[{pin.dim}]" for pin in symmetry.pinned} <= codes
    for reason in {pin.reason for pin in symmetry.pinned}:
        assert reason in page.of("td")


@pytest.mark.parametrize("name", _NAMES)
def test_a_page_needs_nothing_besides_itself(name: str) -> None:
    page = html_report(group(name))
    assert page.startswith("<!DOCTYPE html>")
    reader = _Reader(page)
    tags = {tag for tag, _ in reader.tags}
    assert not tags & {"script", "link", "iframe", "img", "object", "base", "image"}
    assert "svg" in tags
    for _, attributes in reader.tags:
        for key, value in attributes.items():
            if key in ("src", "href", "xlink:href", "data", "action"):
                assert value is not None and value.startswith("#")
            assert not key.startswith("on")
    assert "@import" not in page
    assert all(found.startswith("#") for found in re.findall(r"url\(([^)]*)\)", page))


def test_the_numbers() -> None:
    symmetry = group("torch_attention")
    page = _Reader(html_report(symmetry))
    assert page.of("h1") == page.of("title") == ["Permutation symmetry"]
    numbers = dict(zip(page.of("dt"), page.of("dd"), strict=True))
    assert numbers["blocks"] == f"{symmetry.block_count:,}"
    assert numbers["movable units"] == f"{symmetry.movable_units:,}"
    assert numbers["log of the number of permutations"] == f"{symmetry.log_order:,.1f}"
    assert numbers["share of the parameters that moves"] == f"{symmetry.coverage:.1%}"


@pytest.mark.parametrize(
    ("size", "number"),
    [(1, "1"), (5, "120"), (9, "362,880"), (20, "about 10<sup>18</sup>")],
)
def test_the_number_of_permutations(size: int, number: str) -> None:
    page = html_report(Symmetry({"a[0]": Block("a[0]", size)}, ()))
    assert f"<dd>{number}</dd>" in page


def test_what_could_break_the_page_is_escaped() -> None:
    page = html_report(odd(), title="<b>A & B</b>")
    reader = _Reader(page)
    assert reader.of("h1") == reader.of("title") == ["<b>A & B</b>"]
    assert "b" not in {tag for tag, _ in reader.tags}
    assert {"<w>", 'tied"', "b&b", "<w>[0]#2", "other.op<T>"} <= {*reader.of("code")}
    assert "is an output & more" in reader.of("td")


def test_how_the_axes_move() -> None:
    rows = html_report(odd()).replace("<code>", "").replace("</code>", "")
    times = "\N{MULTIPLICATION SIGN}"
    assert f"axis 0: &lt;w&gt;[0] (3) {times} &lt;w&gt;[0]#2 (2) {times} 2 copies" in rows
    assert "axis 0: &lt;w&gt;[0] (3)<br>5 pinned" in rows
    assert f"12 {times} 5" in rows
    assert "<td>buffer</td><td>scalar</td><td>stays</td>" in rows


def test_axes_that_move_jointly() -> None:
    joint = AxisGroup((0, 2), (Segment(("a[0]",), np.arange(6).reshape(6, 1), (-1,)),))
    weight = ParameterSymmetry(("a",), (2, 4, 3), False, (joint,))
    page = html_report(Symmetry({"a[0]": Block("a[0]", 6)}, (weight,)))
    assert "axes 0 and 2, jointly: <code>a[0]</code> (6)" in page


def test_pins_are_grouped_by_reason_the_costliest_first() -> None:
    page = html_report(odd())
    first, second = page.index("is an output &amp; more"), page.index("is not understood (at")
    assert first < second
    numbers = '<td class="number">1,012</td><td class="number">2</td>'
    assert f"<td>is an output &amp; more</td>{numbers}" in page


def test_unknown_ops_and_what_they_cost() -> None:
    page = html_report(odd())
    row = '<td><code>{}</code></td><td class="number">{}</td><td class="number">{}</td>'
    assert row.format("odd.op", 2, 5) in page
    assert row.format("other.op&lt;T&gt;", 1, 0) in page


@torch.library.custom_op("fxrebasin_test_html_report::flip_and_scale", mutates_args=())
def flip_and_scale(x: Tensor) -> Tensor:
    return x.flip(1) * torch.arange(x.shape[1])


class WithUnknownOp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.two(flip_and_scale(self.one(x)).relu())
        return result


def test_the_cost_of_a_real_unknown_op() -> None:
    """It pins the 4 units that it takes, on a weight and a bias; what it gives is new."""
    page = html_report(fr.analyze(WithUnknownOp(), args=(torch.zeros(1, 3),)))
    op = "fxrebasin_test_html_report.flip_and_scale.default"
    numbers = '<td class="number">1</td><td class="number">8</td>'
    assert f"<code>{op}</code></td>{numbers}" in page


def test_long_lists_are_folded() -> None:
    axes = tuple((f"p{k}", 0) for k in range(30))
    blocks = {"a[0]": Block("a[0]", 2, None, 1, axes), "b[0]": Block("b[0]", 2, None, 1, axes[:3])}
    tensors = tuple(ParameterSymmetry((f"p{k}",), (2,), False) for k in range(100))
    page = _Reader(html_report(Symmetry(blocks, tensors)))
    assert page.of("summary") == ["30 axes", "100 tensors"]
    assert "p29[0]" in page.of("code")


def test_nothing_to_tell() -> None:
    page = _Reader(html_report(Symmetry({}, ())))
    assert "No units can move." in page.everything
    assert "Nothing is pinned." in page.everything
    assert "None: every op has a rule." in page.everything


def test_the_front_end_and_notes_are_told() -> None:
    page = _Reader(html_report(Symmetry({}, (), front_end="<export>", notes=("mind <this>",))))
    assert "<export>" in page.of("dd")
    assert "Note: mind <this>" in page.of("p")
    assert "run by" not in _Reader(html_report(Symmetry({}, ()))).of("dt")


def test_outputs_that_move() -> None:
    segment = Segment(("a[0]",), np.arange(6).reshape(6, 1), (-1,))
    output = ParameterSymmetry(("result",), (2, 6), False, (AxisGroup((1,), (segment,)),))
    page = html_report(Symmetry({"a[0]": Block("a[0]", 6)}, (), outputs=(output,)))
    assert "axis 1: <code>a[0]</code> (6)" in page
    assert "result" in _Reader(page).of("code")
    still = html_report(Symmetry({}, (), outputs=(ParameterSymmetry(("result",), (2,), False),)))
    assert "They stay as they are." in still


def test_the_same_page_every_time() -> None:
    assert html_report(group("mlp")) == html_report(group("mlp"))


def test_without_matplotlib_the_tables_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = _Reader(html_report(group("mlp")))
    assert "svg" not in {tag for tag, _ in page.tags}
    assert "There is no drawing: drawing needs matplotlib" in page.everything
    assert group("mlp").blocks.keys() <= {*page.of("code")}
