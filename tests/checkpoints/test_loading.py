"""What is loaded has the names of the model, and is saved as its file had it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, FileFormatError, InvalidArgumentError


def net(width: int = 6, outputs: int = 2, depth: int = 1) -> nn.Sequential:
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), *hidden, nn.Linear(width, outputs))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return [*one] == [*other] and all(torch.equal(one[n], other[n]) for n in one)


WRAPPINGS: dict[str, Any] = {
    "plain.pt": lambda state: state,
    "parallel.pth": lambda state: {f"module.{n}": t for n, t in state.items()},
    "compiled.bin": lambda state: {f"_orig_mod.{n}": t for n, t in state.items()},
    "lightning.ckpt": lambda state: {
        "epoch": 3,
        "hyper_parameters": {"width": 6},
        "optimizer_states": [{"state": {0: {"momentum": torch.ones(2)}}, "param_groups": []}],
        "state_dict": {f"model.{n}": t for n, t in state.items()},
    },
    "deep.pt": lambda state: {"model": {"state_dict": state, "step": 1}, "ema": state},
}


@pytest.mark.parametrize("file", WRAPPINGS)
def test_what_was_around_the_weights_stays(file: str, tmp_path: Path) -> None:
    model = net()
    content = WRAPPINGS[file](model.state_dict())
    torch.save(content, tmp_path / file)
    state = fr.load(tmp_path / file, like=model)
    assert same(state, model.state_dict())
    doubled = fr.StateDict({n: 2 * t for n, t in state.items()}, state.form)
    fr.save(doubled, tmp_path / "out.pt")
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    expected = WRAPPINGS[file](doubled)
    expected.pop("optimizer_states", None)
    expected.pop("ema", None)
    if file == "deep.pt":
        written, expected = (x["model"] for x in (written, expected))
        assert written["step"] == 1
    if "state_dict" in expected:
        assert {n: written[n] for n in written if n != "state_dict"} == {
            n: expected[n] for n in expected if n != "state_dict"
        }
        written, expected = written["state_dict"], expected["state_dict"]
    assert same(written, dict(expected))


def test_remarks_say_what_is_unusual(tmp_path: Path) -> None:
    model = net()
    torch.save(WRAPPINGS["lightning.ckpt"](model.state_dict()), tmp_path / "a.ckpt")
    assert fr.load(tmp_path / "a.ckpt", like=model).form.remarks == (
        "the state dict is in ['state_dict']",
        "of the old weights, and not written again: 'optimizer_states'",
        "'0.weight' is stored as 'model.0.weight'",
    )
    torch.save(model.state_dict(), tmp_path / "b.pt")
    assert fr.load(tmp_path / "b.pt").form.remarks == ()


def test_a_permuted_state_dict_keeps_the_form(tmp_path: Path) -> None:
    model = net()
    symmetry = fr.analyze(model, (torch.zeros(1, 3),))
    torch.save(WRAPPINGS["parallel.pth"](model.state_dict()), tmp_path / "a.pth")
    state = fr.load(tmp_path / "a.pth", like=model)
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0)).apply(state)
    fr.save(moved, tmp_path / "b.pth")
    assert next(iter(torch.load(tmp_path / "b.pth", weights_only=True))) == "module.0.weight"
    assert same(fr.load(tmp_path / "b.pth", like=model), moved)


def test_what_the_model_ties_is_stored_once(tmp_path: Path) -> None:
    model = Tied()
    stored = {"table.weight": model.table.weight.detach()}
    fr.save(stored, tmp_path / "a.safetensors")
    state = fr.load(tmp_path / "a.safetensors", like=model)
    assert state["head.weight"] is state["table.weight"]
    fr.save(state, tmp_path / "b.safetensors")
    assert [*fr.load(tmp_path / "b.safetensors")] == ["table.weight"]
    assert state.form.remarks == ("known without being stored: 'head.weight'",)


def test_old_files_lack_counts_of_batches(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    old = {n: t for n, t in model.state_dict().items() if n != "1.num_batches_tracked"}
    torch.save(old, tmp_path / "old.pt")
    state = fr.load(tmp_path / "old.pt", like=model)
    model.load_state_dict(state)
    fr.save(state, tmp_path / "again.pt")
    assert [*torch.load(tmp_path / "again.pt", weights_only=True)] == [*old]


def mismatches() -> dict[str, tuple[dict[str, Tensor], str]]:
    state = dict(net().state_dict())
    nested = {f"encoder.{n}": t for n, t in state.items()}
    return {
        "outputs": (net(outputs=9).state_dict(), r"num_classes=9"),
        "width": (net(width=8).state_dict(), r"another width, 8 where the model has 6"),
        "depth": (net(depth=2).state_dict(), r"another depth"),
        "transposed": ({n: t.T if t.dim() == 2 else t for n, t in state.items()}, "transposed"),
        "prefix": (
            nested | {"extra": torch.ones(1)},
            r"the prefix 'encoder\.' in front of .* file",
        ),
        "buffer": (state | {"1.position_ids": torch.ones(1)}, "another version of torch"),
        "lacking": (
            {n: t for n, t in state.items() if n != "0.bias"},
            r"lacks '0.bias'\. .*biases",
        ),
        "family": (state | {"0.weight": torch.ones(8, 3), "0.gate": torch.ones(8)}, "same family"),
        "other": ({"conv.weight": torch.ones(3)}, "another architecture"),
        "dimensions": (state | {"0.weight": torch.ones(6, 3, 1, 1)}, "numbers of dimensions"),
        "inputs": (state | {"0.weight": torch.ones(6, 5)}, r"'0.weight' \(6, 5\) for \(6, 3\)"),
    }


@pytest.mark.parametrize("what", mismatches())
def test_a_mismatch_names_keys_and_the_likely_reason(what: str, tmp_path: Path) -> None:
    state, reason = mismatches()[what]
    path = tmp_path / "a.pt"
    torch.save(dict(state), path)
    with pytest.raises(ArchitectureMismatchError, match=reason) as caught:
        fr.load(path, like=net())
    assert str(caught.value).startswith(repr(str(path)))


def test_the_header_says_how_it_was_made_and_what_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    fr.save(net().state_dict(), path, about={"made": "by hand"})
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["made"] == "by hand"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"a\.safetensors' was changed after it was written"):
        fr.load(path)


def test_what_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"a": torch.ones(2), "extra": {"version": 1}}
    with pytest.raises(FileFormatError, match="cannot hold 'extra', which is a dict and no tensor"):
        fr.save(odd, tmp_path / "a.safetensors")
    with pytest.raises(FileFormatError, match="not a dense tensor"):
        fr.save({"a": torch.eye(2).to_sparse()}, tmp_path / "a.safetensors")
    with pytest.raises(InvalidArgumentError, match=r"path: expected a name that ends on"):
        fr.save({"a": torch.ones(2)}, tmp_path / "a.npz")
    assert not [*tmp_path.iterdir()]
    fr.save(odd, tmp_path / "a.pt")
    assert fr.load(tmp_path / "a.pt")["extra"] == {"version": 1}
