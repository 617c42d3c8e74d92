"""Drawings of blocks: levels, boxes, lines, names and files."""

from __future__ import annotations

import re
import sys
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path

import networkx as nx
import pytest
import torch
import torchvision
from symmetry.test_as_graph import NAMES, OutOfOrder, Residual, analyse, group
from torch import Tensor, nn

from fxrebasin import Block, Symmetry
from fxrebasin.drawing.arrangement import Arrangement, arrange, cut_rows
from fxrebasin.drawing.lines import Line, Loop, lines, pinned_ends
from fxrebasin.drawing.names import Names
from fxrebasin.drawing.plot import draw_blocks, plot_blocks, svg_of_blocks
from fxrebasin.drawing.scene import COMFORTABLE, COMPACT, Box, Scene
from fxrebasin.drawing.text import fitted, line_height, shortened, text_width
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.symmetry.as_graph import block_graph
from fxrebasin.symmetry.flows import Flow, flows

torch.set_num_threads(1)


def plain(symmetry: Symmetry) -> tuple[nx.MultiDiGraph, list[Flow]]:
    """A symmetry as drawings take it."""
    return block_graph(symmetry), flows(symmetry)


@cache
def layout_of(name: str) -> Arrangement:
    return arrange(*plain(group(name)))


def whole(layout: Arrangement) -> Scene:
    """All levels in one row."""
    return Scene(layout, COMFORTABLE, 0, max(layout.last_level, 1))


@cache
def chain() -> Symmetry:
    layers = [nn.Linear(3, 60), nn.ReLU(), nn.Linear(60, 15), nn.ReLU(), nn.Linear(15, 2)]
    return analyse(nn.Sequential(*layers), 3)


@cache
def residual() -> Symmetry:
    return analyse(Residual(), 3, 8, 8)


@cache
def resnet18() -> Symmetry:
    return analyse(torchvision.models.resnet18(num_classes=10), 3, 32, 32)


# levels and tracks


def test_a_chain_is_a_row_of_boxes() -> None:
    layout = arrange(*plain(chain()))
    assert layout.spans == {"0.weight[0]": (0, 1), "2.weight[0]": (1, 2)}
    assert set(layout.tracks.values()) == {0}
    assert [(e.level, e.parameter) for e in layout.events] == [
        (0, "0.weight"),
        (1, "2.weight"),
        (2, "4.weight"),
    ]


def test_layers_stand_in_the_order_of_use() -> None:
    layout = arrange(*plain(analyse(OutOfOrder(), 3)))
    events = [(e.level, e.parameter) for e in layout.events]
    assert events == [(0, "first.weight"), (1, "middle.weight"), (2, "last.weight")]


def test_a_stream_is_a_bar_below_what_reads_and_writes_it() -> None:
    layout = arrange(*plain(residual()))
    stream, hidden = "stem.weight[0]", "enter.weight[0]"
    assert layout.spans == {stream: (0, 3), hidden: (1, 2)}
    assert layout.tracks == {stream: 0, hidden: 1}
    assert (layout.kind(stream), layout.kind(hidden)) == ("stream", "block")


def test_the_stages_of_a_resnet() -> None:
    """Four bars one after the other, and a box above them for the first half of every block."""
    layout = arrange(*plain(resnet18()))
    bars = [name for name in layout.spans if layout.tracks[name] == 0]
    assert bars == [f"{n}.weight[0]" for n in ("conv1", *(f"layer{k}.0.conv2" for k in (2, 3, 4)))]
    assert {layout.kind(name) for name in bars} == {"stream"}
    ends = [layout.spans[name] for name in bars]
    assert all(one[1] == other[0] for one, other in pairwise(ends))
    boxes = [layout.spans[name] for name in layout.spans if layout.tracks[name] == 1]
    assert len(boxes) == 8
    assert all(end - start == 1 for start, end in boxes)
    assert boxes == sorted(boxes)


def test_heads_hold_their_features() -> None:
    layout = layout_of("torch_attention")
    (heads,) = (name for name in layout.spans if layout.kind(name) == "parent")
    inside = layout.children[heads]
    assert len(inside) == 2
    assert {layout.kind(name) for name in inside} == {"nested"}
    assert {layout.spans[name] for name in inside} == {layout.spans[heads]}


@pytest.mark.parametrize("name", NAMES)
def test_levels_keep_the_order_of_reading_and_writing(name: str) -> None:
    layout = layout_of(name)
    assert layout.spans.keys() == layout.tracks.keys() == {*layout.graph}
    for start, end in layout.spans.values():
        assert 0 <= start < end <= layout.last_level
    for event in layout.events:
        for block in event.blocks:
            start, end = layout.spans[block]
            assert start <= event.level <= end
        if event.directed and not event.loop:
            assert all(layout.spans[block][0] < event.level for block in event.reads)
            assert all(layout.spans[block][1] > event.level for block in event.writes)


# geometry


@pytest.mark.parametrize("name", NAMES)
def test_boxes_lie_beside_or_inside_each_other(name: str) -> None:
    scene = whole(layout_of(name))
    blocks = scene.layout.graph.nodes
    assert scene.boxes.keys() == {*blocks}
    for one, other in combinations(blocks, 2):
        if blocks[one]["parent"] == blocks[other]["parent"]:
            assert not _overlap(scene.boxes[one], scene.boxes[other]), (one, other)
    for name in blocks:
        box = scene.boxes[name]
        assert box.width > 0
        assert 0 <= box.bottom < box.top <= scene.height + 1e-9
        if blocks[name]["parent"]:
            outer = scene.boxes[blocks[name]["parent"]]
            assert outer.left < box.left < box.right < outer.right
            assert outer.bottom < box.bottom < box.top < outer.top


def _overlap(one: Box, other: Box) -> bool:
    apart = one.right < other.left or other.right < one.left
    return not (apart or one.top < other.bottom or other.top < one.bottom)


@pytest.mark.parametrize("name", NAMES)
def test_lines_begin_and_end_at_the_rims_of_the_blocks_they_join(name: str) -> None:
    scene = whole(layout_of(name))
    for line in lines(scene):
        if isinstance(line, Loop):
            assert line.box in scene.boxes.values()
            continue
        for point in (line.points[0], line.points[-1]):
            assert any(_on_rim(box, point) for box in scene.boxes.values()), line
        _check_is_rectangular(line)
    for found, end in pinned_ends(scene):
        assert end.units
        for line in found:
            free = min(line.points[0], line.points[-1], key=lambda p: abs(p[1] - end.at[1]))
            assert abs(free[1] - end.at[1]) < 1e-9
            assert any(
                _on_rim(box, point)
                for box in scene.boxes.values()
                for point in (line.points[0], line.points[-1])
            )
            _check_is_rectangular(line)


def _on_rim(box: Box, point: tuple[float, float]) -> bool:
    x, y = point
    near = 1e-6
    within = box.left - near <= x <= box.right + near and box.bottom - near <= y <= box.top + near
    sides = min(abs(x - box.left), abs(x - box.right), abs(y - box.bottom), abs(y - box.top))
    return within and sides < near


def _check_is_rectangular(line: Line) -> None:
    for (x, y), (u, v) in pairwise(line.points):
        assert abs(x - u) < 1e-6 or abs(y - v) < 1e-6, line


def test_every_flow_between_blocks_has_its_arrow() -> None:
    """conv1 -> a -> conv1, and so on: 8 boxes with two arrows each, 3 downsamplings."""
    scene = whole(arrange(*plain(resnet18())))
    found = [line for line in lines(scene) if isinstance(line, Line)]
    assert len(found) == 8 * 2 + 3
    assert all(line.arrow for line in found)
    ends = [(end.units, end.side) for _, end in pinned_ends(scene)]
    assert ends == [((3,), "left"), ((10,), "right")]


def test_lines_without_a_direction_have_no_arrow() -> None:
    scene = whole(layout_of("BilinearForm"))
    (line,) = lines(scene)
    assert isinstance(line, Line)
    assert not line.arrow


def test_more_units_are_drawn_higher() -> None:
    scene = whole(arrange(*plain(chain())))
    first, second = scene.boxes.values()
    style = scene.style
    assert first.height == pytest.approx(style.lowest + style.growth)
    assert second.height == pytest.approx(style.lowest + style.growth / 2)


# rows


@pytest.mark.parametrize("longest", [1, 3, 7, 30])
def test_rows_hold_all_levels_and_are_not_too_long(longest: int) -> None:
    rows = cut_rows(arrange(*plain(resnet18())), longest)
    assert rows[0][0] == 0
    assert rows[-1][1] == arrange(*plain(resnet18())).last_level
    assert all(one[1] == other[0] for one, other in pairwise(rows))
    assert all(0 < last - first <= longest for first, last in rows)


def test_rows_are_cut_between_stages() -> None:
    spans = {f"b{k}": (6 * k, 6 * k + 6) for k in range(3)}
    assert cut_rows(Arrangement(Symmetry({}, ()), (), spans, {}), 8) == [(0, 6), (6, 12), (12, 18)]


def test_every_event_is_drawn_in_one_row() -> None:
    layout = arrange(*plain(resnet18()))
    scenes = [Scene(layout, COMPACT, *row) for row in cut_rows(layout, 5)]
    assert len(scenes) > 2
    drawn = [event for scene in scenes for event in scene.events()]
    assert sorted(drawn, key=layout.events.index) == [*layout.events]
    for scene in scenes:
        for event in scene.events():
            assert set(event.blocks) <= scene.boxes.keys()


# names


def test_names_leave_out_the_group_they_stand_in() -> None:
    names = Names(arrange(*plain(resnet18())))
    assert names.of("conv1.weight[0]") == "conv1"
    assert names.of("layer2.0.conv2.weight[0]") == "0.conv2"
    last = arrange(*plain(resnet18())).last_level
    groups = [name for _, _, name in names.bands(0, last)]
    assert groups == ["", "layer1", "layer2", "layer3", "layer4"]


def test_nested_blocks_are_named_by_what_writes_and_what_reads_them() -> None:
    layout = layout_of("torch_attention")
    nested = [name for name in layout.spans if layout.kind(name) == "nested"]
    assert {Names(layout).of(name) for name in nested} == {"in_proj", "in_proj → out_proj"}


@pytest.mark.parametrize("name", ["a", "layer1.0.conv1", "in_proj → out_proj", "weight_ih_l0", ""])
@pytest.mark.parametrize("width", [0.1, 0.3, 0.6, 2.0])
@pytest.mark.parametrize("height", [0.1, 0.12, 0.3, 0.6])
def test_texts_fit_into_their_boxes(name: str, width: float, height: float) -> None:
    text = fitted(name, "1,024", width, height, font=7.5)
    assert len(text.lines) * line_height(text.font) <= height
    assert all(text_width(line, text.font) <= width for line in text.lines)
    if height == 0.1:
        assert text.lines == ()
    elif width == 2.0:
        assert "".join(text.lines).startswith(name)


def test_shortened_names_keep_their_end() -> None:
    assert shortened("denselayer16", 5, 8) == "denselayer16"
    short = shortened("denselayer16", 0.4, 8)
    assert short.startswith("…")
    assert "denselayer16".endswith(short[1:])
    assert shortened("denselayer16", 0.05, 8) == ""


# figures and files


def test_names_sizes_and_legend_are_written() -> None:
    drawing = svg_of_blocks(*plain(residual()))
    written = re.findall(r">([^<>\n]+)</text>", drawing)
    for text in ("stem", "6", "enter", "5", "3", "2", "block of units", "pinned units"):
        assert text in written
    assert any("residual stream" in text for text in written)
    assert not any("nested" in text for text in written)


def test_nested_blocks_are_in_the_legend_if_there_are_any() -> None:
    drawing = svg_of_blocks(*plain(group("torch_attention")))
    assert "block with others nested inside" in drawing


def test_the_title_is_what_is_asked_for() -> None:
    figure = draw_blocks(*plain(chain()), title="two $layers$")
    assert [text.get_text() for text in figure.texts] == ["two $layers$"]


def test_names_are_never_read_as_formulas() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("in$", nn.Linear(3, 5))
            self.add_module("out_{$", nn.Linear(5, 2))

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.get_submodule("out_{$")(self.get_submodule("in$")(x).relu())
            return result

    assert ">in$</text>" in svg_of_blocks(*plain(analyse(Odd(), 3)))


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_a_file_appears_and_nothing_else(ending: str, tmp_path: Path) -> None:
    plot_blocks(*plain(residual()), tmp_path / f"blocks.{ending}")
    assert [path.name for path in tmp_path.iterdir()] == [f"blocks.{ending}"]
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending]
    assert (tmp_path / f"blocks.{ending}").read_bytes().startswith(start)


def test_the_same_picture_every_time(tmp_path: Path) -> None:
    for k in range(2):
        plot_blocks(*plain(residual()), tmp_path / f"{k}.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    assert svg_of_blocks(*plain(residual())) == svg_of_blocks(*plain(residual()))


def test_an_unknown_ending(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"blocks.docx': the ending must be one of"):
        plot_blocks(*plain(residual()), tmp_path / "blocks.docx")
    assert [*tmp_path.iterdir()] == []


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'fxrebasin\[plot\]'"):
        draw_blocks(*plain(residual()))


def test_nothing_moves() -> None:
    figure = draw_blocks(*plain(analyse(nn.Linear(3, 2), 3)))
    assert "No units can move." in [text.get_text() for text in figure.texts]


def test_blocks_that_no_weight_leads_to() -> None:
    symmetry = Symmetry({"a[0]": Block("a[0]", 3), "b[0]": Block("b[0]", 4)}, ())
    assert arrange(*plain(symmetry)).spans == {"a[0]": (0, 1), "b[0]": (0, 1)}
    assert len(draw_blocks(*plain(symmetry)).axes) == 1


@pytest.mark.slow
def test_a_densenet_is_drawn_whole() -> None:
    symmetry = analyse(torchvision.models.densenet121(num_classes=10), 3, 32, 32)
    figure = draw_blocks(*plain(symmetry))
    assert len(figure.axes) > 1
    assert figure.get_figwidth() < 25
    assert arrange(*plain(symmetry)).streams == set()
