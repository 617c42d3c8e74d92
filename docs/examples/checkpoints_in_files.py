# %% [markdown]
# # Checkpoints
#
# Two folders as `save_pretrained` writes them become one, without two models in memory. The models
# are tiny and have random weights; nothing is downloaded.

# %%
import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

import fxrebasin as fr

disable_progress_bar()
config = LlamaConfig(
    vocab_size=128,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
)
torch.manual_seed(0)
model = LlamaForCausalLM(config).eval()
tokens = torch.randint(128, (2, 12))
model.save_pretrained("first")

# %% [markdown]
# ## The group
#
# It belongs to the architecture: a model of the same configuration with any weights will do. It is
# kept as JSON.

# %%
symmetry = fr.analyze(model, args=(tokens,), kwargs={"use_cache": False})
print(symmetry)
Path("llama.json").write_text(symmetry.to_json())

# %% [markdown]
# A second checkpoint: the first, with its units in another order.

# %%
hidden = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
hidden.apply_to(model).save_pretrained("second")

# %% [markdown]
# ## Match
#
# `open_checkpoint` reads a tensor when it is looked at.

# %%
symmetry = fr.Symmetry.from_json(Path("llama.json").read_text())
first, second = fr.open_checkpoint("first"), fr.open_checkpoint("second")
print(first, second)
permutation = fr.match(symmetry, second, to=first, progress=False)
permutation.save("second-to-first.safetensors")
print(permutation, permutation == hidden.inverse())

# %% [markdown]
# ## Write what was moved
#
# The file has the names and dtypes of the second, so `from_pretrained` reads it.

# %%
moved = {name: tensor.contiguous() for name, tensor in permutation.apply(second).items()}
folder = Path("second-aligned")
folder.mkdir()
save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})
(folder / "config.json").write_text(json.dumps(config.to_dict()))
aligned = LlamaForCausalLM.from_pretrained(folder).eval()
with torch.no_grad():
    print((aligned(tokens).logits - model(tokens).logits).abs().max())

# %% [markdown]
# ## Merge files
#
# Paths are merged one at a time. The result is a state dict; a module among the models would make
# it a module.

# %%
merged = fr.merge(["first", "second"], symmetry=symmetry, progress=False)
result = copy.deepcopy(model)
result.load_state_dict(merged.state_dict, strict=False)
with torch.no_grad():
    print((result(tokens).logits - model(tokens).logits).abs().max())
