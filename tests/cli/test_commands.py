"""Every command: what it writes and prints, and its exit code."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors import safe_open

import fxrebasin as fr

from .conftest import net, ran

MODEL = ("--model", "nets:net")


def test_inspect_shows_blocks_draws_and_explains(folder: Path) -> None:
    found = ran("inspect", "nets:net", "--plot", "a.svg", "--html", "a.html")
    assert found.code == 0
    assert "Symmetry(1 blocks, 8 movable units" in found.out
    assert (folder / "a.svg").read_text().startswith("<?xml")
    assert "<title>nets:net</title>" in (folder / "a.html").read_text()
    explained = ran("inspect", "nets:net", "--explain", "0.weight:0")
    assert "moves with block" in explained.out
    data = json.loads(ran("inspect", "nets:net", "--json").out)
    assert data["movable units"] == 8
    assert fr.Symmetry.from_json(json.dumps(data["symmetry"])).movable_units == 8


def test_align_writes_b_as_it_was_stored(folder: Path) -> None:
    found = ran("align", "a.pt", "b.pt", "-o", "out.pt", "--permutation", "p.safetensors", *MODEL)
    assert found.code == 0
    assert "note: b.pt: the state dict is in ['state_dict']" in found.err
    assert "as DataParallel or DistributedDataParallel names it" in found.err
    written = torch.load("out.pt", weights_only=True)
    assert written["epoch"] == 2
    assert next(iter(written["state_dict"])) == "module.0.weight"
    permutation = fr.Permutation.load("p.safetensors")
    expected = permutation.apply(fr.load("b.pt"))
    assert all(torch.equal(t, expected[n]) for n, t in fr.load("out.pt").items())
    again = ran("verify", "b.pt", "out.pt", *MODEL, "--json")
    assert again.code == 0
    data = json.loads(again.out)
    assert data["same_function"] and data["same_up_to_permutation"]


def test_align_may_start_from_activations(folder: Path) -> None:
    data = ("--data", "nets:batches")
    found = ran("align", "a.pt", "b.pt", "-o", "o.safetensors", *MODEL, *data, "--json")
    assert found.code == 0
    assert json.loads(found.out)["relative_error"] < 1e-9


def test_merge_says_in_the_header_how_it_was_made(folder: Path) -> None:
    found = ran("merge", "a.pt", "b.pt", "c.pt", "-o", "out.safetensors", *MODEL, "--json")
    assert found.code == 0
    assert json.loads(found.out)["method"] == "many"
    with safe_open("out.safetensors", framework="pt") as file:
        about = file.metadata()
    assert about["made"] == "fxrebasin merge"
    assert about["of"] == '["a.pt", "b.pt", "c.pt"]'
    assert len(about["permutation"].split(",")) == 3
    net().load_state_dict(fr.load("out.safetensors"))


@pytest.mark.parametrize("method", ["mean", "to_reference", "cycle_consistent"])
def test_merge_is_what_the_library_merges(folder: Path, method: str) -> None:
    options = ("--method", method, "--weights", "3,1", "--data", "nets:batches", "-q")
    found = ran("merge", "a.pt", "b.pt", "-o", "out.pt", *MODEL, *options)
    assert (found.code, found.out, found.err) == (0, "", "")
    models = []
    for name in "ab":
        model = net()
        model.load_state_dict(fr.load(f"{name}.pt"))
        models.append(model)
    namespace: dict[str, Any] = {}
    exec((folder / "nets.py").read_text(), namespace)
    merged = fr.merge(
        models,
        data=namespace["batches"](),
        method=getattr(fr.merge_methods, method),
        weights=[3, 1],
        progress=False,
    )
    written = fr.load("out.pt", like=net())
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(written[name], tensor)


def test_path_measures_loss_where_there_are_data(folder: Path) -> None:
    torch.save({"inputs": torch.randn(70, 3, 6, 6), "labels": torch.randint(4, (70,))}, "data.pt")
    for data in ("nets:batches", "data.pt"):
        options = ("--data", data, "--plot", "path.png", "--steps", 3, "--json")
        found = ran("path", "a.pt", "b.pt", *MODEL, *options)
        assert found.code == 0
        read = json.loads(found.out)
        assert read["measured"] == "loss"
        assert [*read["aligned"]["metrics"]] == ["loss", "accuracy"]
        assert read["as_they_came"]["metrics"]["loss"][0] == read["aligned"]["metrics"]["loss"][0]
    assert (folder / "path.png").read_bytes().startswith(b"\x89PNG")


def test_path_without_data_names_what_it_measures(folder: Path) -> None:
    found = ran("path", "a.pt", "b.pt", *MODEL, "--steps", 3)
    assert found.code == 0
    assert "output distance, barrier" in found.out and "loss" not in found.out
    assert "there is no --data, so no loss" in found.err
    read = json.loads(ran("path", "a.pt", "b.pt", *MODEL, "--steps", 3, "--json").out)
    for path in (read["as_they_came"], read["aligned"]):
        start, middle, end = path["metrics"]["loss"]
        assert start < 1e-12 > end and middle > 1e-6


def test_verify_tells_models_apart(folder: Path) -> None:
    found = ran("verify", "a.pt", "c.pt", *MODEL)
    assert found.code == 1
    assert "same function: no" in found.out


def test_repair_gives_channels_the_statistics_of_parents(folder: Path) -> None:
    assert ran("align", "a.pt", "b.pt", "-o", "aligned.pt", *MODEL).code == 0
    assert ran("merge", "a.pt", "b.pt", "-o", "m.pt", *MODEL).code == 0
    like = ("--like", "a.pt", "--like", "aligned.pt")
    found = ran("repair", "m.pt", *like, "--data", "nets:batches", "-o", "r.pt", *MODEL)
    assert found.code == 0
    merged, repaired = fr.load("m.pt"), fr.load("r.pt")
    assert [*merged] == [*repaired]
    assert not torch.equal(merged["1.running_var"], repaired["1.running_var"])
    without = ran("repair", "m.pt", *like, "-o", "x.pt", *MODEL)
    assert without.code == 2 and "--data: statistics are measured on data" in without.err


def test_transport_to_a_permuted_copy_is_exact(folder: Path) -> None:
    symmetry = fr.analyze(net(), (torch.zeros(1, 3, 6, 6),))
    shuffled = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    base, fine_tuned = fr.load("a.pt"), fr.load("c.pt")
    fr.save(shuffled.apply(base), "to.pt")
    given = ("--base", "a.pt", "--to", "to.pt", *MODEL)
    assert ran("transport", "c.pt", *given, "-o", "out.pt").code == 0
    expected = shuffled.apply(fine_tuned)
    assert all(torch.equal(t, expected[n]) for n, t in fr.load("out.pt").items())
    weight = "0.weight"
    factors = {
        "0.lora_A.weight": torch.ones(2, 3, 3, 3),
        "0.lora_B.weight": torch.randn(8, 2, 1, 1),
    }
    fr.save(factors, "adapter.safetensors")
    found = ran("transport", "adapter.safetensors", *given, "-o", "o.safetensors")
    assert found.code == 0 and "adapter carried over" in found.out
    full = {**base, weight: factors["0.lora_B.weight"].expand(8, 2, 3, 3)[:, :1].repeat(1, 3, 1, 1)}
    moved = fr.load("o.safetensors")["0.lora_B.weight"]
    torch.testing.assert_close(moved[:, :1], shuffled.apply(full)[weight][:, :1, :1, :1])


def test_doctor_knows_what_is_installed() -> None:
    data = json.loads(ran("doctor", "--json").out)
    assert data["fxrebasin"] == fr.__version__
    assert data["packages"]["typer"]
    assert "torch" in ran("doctor").out


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("code-has-run"),))


WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "no model": (("merge", "a.pt", "b.pt", "-o", "o.pt"), "--model: expected what 'a.pt' is a"),
    "odd model": (("inspect", "resnet18"), "expected torchvision:NAME"),
    "unknown model": (("inspect", "torchvision:resnet19"), "has no model 'resnet19'"),
    "no option": (("inspect", "torchvision:resnet18,wide"), "options as key=value, found 'wide'"),
    "no function": (("inspect", "nets:network"), "'nets' has no function 'network'"),
    "no module": (("inspect", "no_such_nets:net"), "No module named 'no_such_nets'"),
    "no folder of transformers": (("inspect", "hf:."), "has no config.json"),
    "no shape": (("inspect", "nets:net", "--input", "1,x"), "found '1,x'"),
    "no device": (("inspect", "nets:net", "--device", "gpu"), "found 'gpu'"),
    "no type": (("inspect", "nets:net", "--dtype", "int"), "found 'int'"),
    "no axis": (("inspect", "nets:net", "--explain", "0.weight"), "found '0.weight'"),
    "no file": (("merge", "a.pt", "x.pt", "-o", "o.pt", *MODEL), "no checkpoint 'x.pt'"),
    "one file": (("merge", "a.pt", "-o", "o.pt", *MODEL), "two checkpoints or more"),
    "no method": (("merge", "a.pt", "b.pt", "-o", "o.pt", "--method", "x", *MODEL), "found 'x'"),
    "no weights": (("merge", "a.pt", "b.pt", "-o", "o.pt", "--weights", "x", *MODEL), "2,1,1"),
    "in the way": (("merge", "a.pt", "b.pt", "-o", "c.pt", *MODEL), "give --force to replace it"),
    "nowhere": (("merge", "a.pt", "b.pt", "-o", "x/o.pt", *MODEL), "there is no folder 'x'"),
    "odd output": (("merge", "a.pt", "b.pt", "-o", "o.npz", *MODEL), "found 'o.npz'"),
    "code in a file": (("merge", "a.pt", "evil.pt", "-o", "o.pt", *MODEL), "could run code"),
    "odd data": (("path", "a.pt", "b.pt", "--data", "x", *MODEL), "--data: expected a .pt"),
    "odd picture": (("path", "a.pt", "b.pt", "--plot", "x.xyz", *MODEL), "'x.xyz'"),
    "another model": (
        ("merge", "a.pt", "b.pt", "-o", "o.pt", "--model", "torchvision:resnet18"),
        "'a.pt' does not fit the model",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_bad_usage_is_named_and_leaves_nothing(folder: Path, what: str) -> None:
    arguments, text = WRONG[what]
    torch.save({"weight": torch.ones(2), "more": Evil()}, "evil.pt")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    found = ran(*arguments)
    assert found.code == 2
    assert text in found.err
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
    data = json.loads(ran(*arguments, "--json").out)
    assert text in data["error"]["text"]


def test_force_replaces(folder: Path) -> None:
    assert ran("merge", "a.pt", "b.pt", "-o", "c.pt", "--force", *MODEL).code == 0


def test_an_interrupt_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.save", interrupt)
    before = {path.name for path in folder.iterdir()} | {"__pycache__"}
    found = ran("merge", "a.pt", "b.pt", "-o", "out.pt", *MODEL)
    assert found.code == 130
    assert "interrupted; nothing was written" in found.err
    assert {path.name for path in folder.iterdir()} <= before


def test_types_of_weights_are_kept_or_chosen(folder: Path) -> None:
    for name in "ab":
        state = {
            n: t.bfloat16() if t.is_floating_point() else t
            for n, t in fr.load(f"{name}.pt").items()
        }
        torch.save(state, f"{name}16.pt")
    assert ran("merge", "a16.pt", "b16.pt", "-o", "kept.pt", *MODEL).code == 0
    assert fr.load("kept.pt")["0.weight"].dtype == torch.bfloat16
    options = ("--dtype", "float32")
    assert ran("merge", "a16.pt", "b16.pt", "-o", "chosen.pt", *MODEL, *options).code == 0
    assert fr.load("chosen.pt")["0.weight"].dtype == torch.float32


@pytest.mark.slow
def test_the_commands_of_the_readme_merge_two_resnets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18().state_dict(), f"{name}.pth")
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = re.findall(r"```\n(fxrebasin merge a\.pth.*?)```", readme, re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert len(commands) == 2
    for program, *arguments in commands:
        assert program == "fxrebasin"
        assert ran(*arguments).code == 0
    torchvision.models.resnet18().load_state_dict(torch.load("merged.pth", weights_only=True))
    assert Path("path.png").read_bytes().startswith(b"\x89PNG")
