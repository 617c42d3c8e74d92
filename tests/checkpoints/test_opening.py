"""Checkpoints are read a tensor at a time, from whatever they were written to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import FileFormatError, InvalidArgumentError

STATE = {
    "body.weight": torch.randn(5, 3, generator=torch.Generator().manual_seed(0)),
    "body.bias": torch.arange(5.0).bfloat16(),
    "steps": torch.tensor(7),
}


def write_sharded(folder: Path, write: Callable[[Any, Path], None], end: str) -> None:
    names = list(STATE)
    places = {name: f"model-{1 + k // 2}-of-2{end}" for k, name in enumerate(names)}
    for file in set(places.values()):
        write({n: STATE[n] for n in names if places[n] == file}, folder / file)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    stem = "model.safetensors" if end == ".safetensors" else "pytorch_model.bin"
    (folder / f"{stem}.index.json").write_text(json.dumps(index))


def written(folder: Path) -> dict[str, Path]:
    """The same state dict in every form."""
    places = {name: folder / name for name in ("one", "sharded", "bins")}
    for place in places.values():
        place.mkdir()
    save_file(STATE, folder / "a.safetensors")
    save_file(STATE, places["one"] / "model.safetensors")
    write_sharded(places["sharded"], save_file, ".safetensors")
    write_sharded(places["bins"], torch.save, ".bin")
    forms: dict[str, Any] = {
        "plain.pt": STATE,
        "lightning.ckpt": {"epoch": 3, "state_dict": STATE},
        "trainer.pth": {"optimizer": {"state": {}, "param_groups": []}, "model_state_dict": STATE},
        "deep.bin": {"model": {"state_dict": STATE}, "args": None},
        "wrapped.pt": {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()},
        "layers.pt": {n.replace("body.", "body._orig_mod."): t for n, t in STATE.items()},
    }
    for name, content in forms.items():
        torch.save(content, folder / name)
    torch.save(STATE, folder / "old.pt", _use_new_zipfile_serialization=False)
    files = {name: folder / name for name in ("a.safetensors", "old.pt", *forms)}
    return {**files, **places, "index": places["sharded"] / "model.safetensors.index.json"}


FORMS = (
    *("a.safetensors", "old.pt", "plain.pt", "lightning.ckpt", "trainer.pth", "deep.bin"),
    *("wrapped.pt", "layers.pt", "one", "sharded", "bins", "index"),
)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_state_dict(form: str, tmp_path: Path) -> None:
    path = written(tmp_path)[form]
    for given in (path, str(path)):
        checkpoint = fr.open_checkpoint(given)
        assert set(checkpoint) == set(STATE)
        assert len(checkpoint) == 3
        assert "steps" in checkpoint
        assert "module.steps" not in checkpoint
        for name, tensor in STATE.items():
            assert checkpoint[name].dtype == tensor.dtype
            assert torch.equal(checkpoint[name], tensor)
    with pytest.raises(KeyError):
        checkpoint["nothing"]
    assert repr(checkpoint) == f"Checkpoint({str(path)!r}, 3 tensors)"


@pytest.mark.parametrize("form", ["a.safetensors", "plain.pt", "sharded"])
def test_writing_to_what_was_read_changes_no_file(form: str, tmp_path: Path) -> None:
    path = written(tmp_path)[form]
    fr.open_checkpoint(path)["body.weight"].zero_()
    assert torch.equal(fr.open_checkpoint(path)["body.weight"], STATE["body.weight"])


def test_ties_are_kept_by_torch(tmp_path: Path) -> None:
    weight = torch.randn(3, 3)
    torch.save({"a": weight, "b": weight}, tmp_path / "tied.pt")
    checkpoint = fr.open_checkpoint(tmp_path / "tied.pt")
    assert checkpoint["a"].data_ptr() == checkpoint["b"].data_ptr()


def test_everything_that_takes_a_state_dict_takes_one(tmp_path: Path) -> None:
    nets = [nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2)) for _ in range(2)]
    symmetry = fr.analyze(nets[0], (torch.zeros(1, 3),))
    files = []
    for k, net in enumerate(nets):
        save_file(net.state_dict(), tmp_path / f"{k}.safetensors")
        files.append(fr.open_checkpoint(tmp_path / f"{k}.safetensors"))
    found = fr.match(symmetry, files[1], to=files[0], progress=False)
    expected = fr.match(symmetry, nets[1].state_dict(), to=nets[0].state_dict(), progress=False)
    assert found == expected
    nets[0].load_state_dict(found.apply(files[1]))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code has run",))


def broken(folder: Path) -> dict[str, tuple[Path, dict[str, Any], type[Exception], str]]:
    """Files that hold no checkpoint, and what is said of each."""
    pickles: dict[str, Any] = {
        "evil.pt": {"weight": torch.ones(2), "more": Evil()},
        "module.pt": nn.Linear(2, 2),
        "list.pt": [torch.ones(2)],
        "numbers.pt": {0: torch.ones(2)},
        "epoch.pt": {"epoch": 3},
        "both.pt": {"model": STATE, "state_dict": STATE},
        "optimizer.pt": torch.optim.SGD(nn.Linear(2, 2).parameters(), momentum=0.9).state_dict(),
        "twice.pt": {"a.weight": torch.ones(2), "a._orig_mod.weight": torch.ones(2)},
        "empty.pt": {"state_dict": {}},
    }
    for name, content in pickles.items():
        torch.save(content, folder / name)
    (folder / "text.pt").write_text("not a checkpoint")
    (folder / "text.safetensors").write_text("not a checkpoint")
    (folder / "state.npz").write_text("")
    (folder / "text.index.json").write_text("[]")
    (folder / "none").mkdir()
    (folder / "two").mkdir()
    for k in range(2):
        save_file(STATE, folder / "two" / f"{k}.safetensors")
    good = written(folder)
    for name, places in {
        "outside": {"steps": "../a.safetensors"},
        "missing": {"steps": "model-9.safetensors"},
        "lying": {"elsewhere": "model-1-of-2.safetensors"},
        "numbers": {"steps": 3},
    }.items():
        text = json.dumps({"weight_map": places})
        (good["sharded"].parent / f"{name}.index.json").write_text(text)
        (good["sharded"] / f"{name}.index.json").write_text(text)
    sharded, error = good["sharded"], FileFormatError
    return {
        "evil": (folder / "evil.pt", {}, error, "could run code; .* save model.state_dict"),
        "a module": (folder / "module.pt", {}, error, "could run code"),
        "a list": (folder / "list.pt", {}, error, "holds list, expected a state dict"),
        "numbers": (folder / "numbers.pt", {}, error, "has the key 0"),
        "no tensors": (folder / "epoch.pt", {}, error, "found none among the keys 'epoch'"),
        "both": (
            folder / "both.pt",
            {},
            error,
            "found several, 'state_dict', 'model' .* give key=",
        ),
        "an optimizer": (folder / "optimizer.pt", {}, error, "found none among|of an optimizer"),
        "twice": (folder / "twice.pt", {}, error, "several tensors that are 'a.weight'"),
        "empty": (folder / "empty.pt", {"key": "state_dict"}, error, "holds no tensors"),
        "text": (folder / "text.pt", {}, error, "could run code|is no file of torch.save"),
        "text of safetensors": (folder / "text.safetensors", {}, error, "no file of safetensors"),
        "another ending": (folder / "state.npz", {}, error, "found '.npz'"),
        "no index": (folder / "text.index.json", {}, error, "it has no 'weight_map'"),
        "a folder without": (folder / "none", {}, error, "holds no checkpoint"),
        "a folder with two": (folder / "two", {}, error, "2 files .*'0.safetensors'.* no index"),
        "a way out": (sharded / "outside.index.json", {}, error, "which is not beside it"),
        "a shard that is missing": (
            sharded / "missing.index.json",
            {},
            FileNotFoundError,
            "which is missing",
        ),
        "an index that lies": (sharded / "lying.index.json", {}, error, "which does not have it"),
        "an index of numbers": (sharded / "numbers.index.json", {}, error, "from names to files"),
        "a key that is none": (folder / "both.pt", {"key": "ema"}, error, "no state dict under"),
        "a key of safetensors": (good["a.safetensors"], {"key": "model"}, error, "leave key out"),
        "no file": (folder / "nowhere.pt", {}, FileNotFoundError, "there is no checkpoint"),
    }


def test_errors_name_the_file_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what, (path, options, kind, text) in broken(tmp_path).items():
        with pytest.raises(kind, match=text) as caught:
            fr.open_checkpoint(path, **options)
        assert path.name in str(caught.value), what
    assert capsys.readouterr().out == ""


def test_a_key_chooses(tmp_path: Path) -> None:
    other = {"weight": torch.ones(2)}
    torch.save({"model": STATE, "state_dict": STATE, "ema": other}, tmp_path / "a.pt")
    assert set(fr.open_checkpoint(tmp_path / "a.pt", key="ema")) == {"weight"}
    with pytest.raises(InvalidArgumentError, match="key: expected the key of the state dict"):
        fr.open_checkpoint(tmp_path / "a.pt", key=3)  # type: ignore[arg-type]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """A file whose tensors are cut off opens, and only what is missing fails."""
    large: dict[str, Tensor] = {"weight": torch.zeros(1 << 18), "bias": torch.ones(3)}
    save_file(large, tmp_path / "a.safetensors")
    checkpoint = fr.open_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint["bias"].sum() == 3
    one, other = checkpoint["weight"], checkpoint["weight"]
    assert one is not other
