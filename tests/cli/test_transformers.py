"""Folders of transformers go in, and folders that ``from_pretrained`` loads come out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

import fxrebasin as fr

from .conftest import ran


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny models each: with tied embeddings, and of bfloat16 in several files."""
    folder = tmp_path_factory.mktemp("pretrained")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        config = transformers.GPT2Config(
            vocab_size=50, n_positions=32, n_embd=16, n_layer=1, n_head=2, bos_token_id=1,
            eos_token_id=2,
        )  # fmt: skip
        transformers.GPT2LMHeadModel(config).save_pretrained(folder / f"gpt2-{name}")
        (folder / f"gpt2-{name}" / "tokenizer_config.json").write_text('{"model_max_length": 32}')
        config = transformers.LlamaConfig(
            vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=32,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
        model.save_pretrained(folder / f"llama-{name}", max_shard_size="4KB")
    return folder


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_two_folders_become_one(pretrained: Path, tmp_path: Path, name: str) -> None:
    parents = [pretrained / f"{name}-a", pretrained / f"{name}-b"]
    merged = tmp_path / "merged"
    found = ran("merge", *parents, "-o", merged, "--json")
    assert found.code == 0
    assert json.loads(found.out)["moved_units"][1] > 0
    model = transformers.AutoModelForCausalLM.from_pretrained(merged)
    assert model.dtype == (torch.float32 if name == "gpt2" else torch.bfloat16)
    kept = {path.name for path in parents[0].iterdir() if "safetensors" not in path.name}
    assert kept <= {path.name for path in merged.iterdir()}
    for file in merged.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata()["made"] == "fxrebasin merge"
    assert ran("merge", *parents, "-o", merged).code == 2
    assert ran("merge", *parents, "-o", merged, "--force", "--method", "mean").code == 0


def test_align_and_path_of_folders(pretrained: Path, tmp_path: Path) -> None:
    a, b = pretrained / "gpt2-a", pretrained / "gpt2-b"
    assert ran("align", a, b, "-o", tmp_path / "aligned").code == 0
    verified = json.loads(ran("verify", b, tmp_path / "aligned", "--json").out)
    assert verified["same_function"] and verified["same_up_to_permutation"]
    torch.save({"input_ids": torch.randint(50, (4, 8))}, tmp_path / "text.pt")
    for data in ((), ("--data", tmp_path / "text.pt")):
        plot = tmp_path / f"path{len(data)}.svg"
        assert ran("path", a, b, "--plot", plot, "--steps", 3, *data).code == 0
        assert plot.stat().st_size > 1000


def test_inspect_a_folder(pretrained: Path) -> None:
    found = ran("inspect", f"hf:{pretrained / 'llama-a'}", "--tokens", 5)
    assert found.code == 0
    assert "model.embed_tokens.weight" in found.out


def test_files_that_do_not_fit_are_named(pretrained: Path, tmp_path: Path) -> None:
    found = ran("merge", pretrained / "gpt2-a", pretrained / "llama-a", "-o", tmp_path / "m")
    assert found.code == 2
    assert "llama-a' does not fit GPT2LMHeadModel" in found.err
    found = ran("merge", pretrained / "gpt2-a", pretrained / "gpt2-b", "-o", tmp_path / "m.pt")
    assert found.code == 2
    assert "expected the name of a folder" in found.err
    assert not [*tmp_path.iterdir()]


def test_an_adapter_is_carried_over(pretrained: Path, tmp_path: Path) -> None:
    base, to = pretrained / "gpt2-a", pretrained / "gpt2-b"
    module = "base_model.model.transformer.h.0.mlp.c_fc"
    factors = {f"{module}.lora_A.weight": torch.randn(2, 16)}
    factors[f"{module}.lora_B.weight"] = torch.randn(64, 2)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    fr.save(factors, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "fan_in_fan_out": true}')
    out = tmp_path / "out"
    assert ran("transport", adapter, "--base", base, "--to", to, "-o", out).code == 0
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(to)
    assert [*fr.load(out)] == [*factors]


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    config = {
        "architectures": ["Evil"],
        "model_type": "gpt2",
        "auto_map": {"AutoModel": "evil.Evil"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text("raise SystemExit('code has run')")
    found = ran("inspect", f"hf:{tmp_path}")
    assert found.code == 2
    assert "names no architecture of transformers" in found.err
