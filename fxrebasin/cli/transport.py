"""``fxrebasin transport``: a fine-tuning of A, for a new base."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from torch import Tensor

import fxrebasin as fr

from ..checkpoints.loading import StateDict, load
from ..checkpoints.saving import save
from ..errors import InvalidArgumentError
from ..files import replacing_folder
from ..merging.adapters import is_adapter
from .options import Example, Model, Seed, Target
from .output import Answer, Output
from .parents import about_files, check_target, read_all, write

ADAPTER = "adapter_config.json"


def transport(
    fine_tuned: Annotated[
        str, typer.Argument(help="What was trained from the base; or an adapter of PEFT.")
    ],
    *,
    base: Annotated[str, typer.Option(help="What it was trained from.", show_default=False)],
    to: Annotated[str, typer.Option(help="The new base.", show_default=False)],
    model: Model = None,
    scale: Annotated[float, typer.Option(help="How much of the difference is added.")] = 1.0,
    seed: Seed = 0,
    target: Target,
    example: Example,
    output: Output,
) -> Answer:
    """Carry a fine-tuning over to a new base: what was learned, moved to where units are there.

    Of adapters of low rank (LoRA), the factors are moved.
    """
    adapter = _adapter(fine_tuned)
    checkpoints = [base, to] if adapter is not None else [base, to, fine_tuned]
    _check(target, fine_tuned, is_folder=adapter is not None and os.path.isdir(fine_tuned))
    subject, (old, new, *learned) = read_all(checkpoints, model, example, output)
    symmetry = fr.analyze(old.module, subject.args, subject.kwargs)
    states = [x.module.state_dict() for x in (old, new)]
    moving = fr.match(symmetry, states[0], to=states[1], seed=seed, progress=output.progress)
    carried = fr.transport(
        symmetry,
        learned[0].module.state_dict() if adapter is None else adapter,
        base=states[0],
        to=states[1],
        permutation=moving,
        scale=scale,
        fan_in_fan_out=_fan_in_fan_out(fine_tuned),
    )
    about = about_files("transport", [fine_tuned, base, to], permutation=moving.digest)
    if adapter is None:
        learned[0].module.load_state_dict(carried)
        write(learned[0].module, learned[0], target, about)
    else:
        _write_adapter(carried, fine_tuned, to, target, about)
    data = {
        "output": str(target.output),
        "moved_units": moving.moved_units,
        "movable_units": symmetry.movable_units,
        "is_adapter": adapter is not None,
        "permutation": moving.digest,
    }
    kind = "adapter" if adapter is not None else "fine-tuning"
    shown = (
        f"{kind} carried over: {moving.moved_units:,} of {symmetry.movable_units:,} units moved",
        f"written: {target.output}",
    )
    return Answer(data, shown)


def _adapter(path: str) -> StateDict | None:
    """The factors of an adapter, if it is one."""
    if os.path.isdir(path) and not os.path.isfile(os.path.join(path, ADAPTER)):
        return None
    state = load(path)
    return state if is_adapter(state) else None


def _fan_in_fan_out(path: str) -> bool | None:
    config = Path(path, ADAPTER)
    if not config.is_file():
        return None
    found = json.loads(config.read_text(encoding="utf-8")).get("fan_in_fan_out")
    return found if isinstance(found, bool) else None


def _check(target: Target, first: str, *, is_folder: bool) -> None:
    if not is_folder:
        check_target(target, first)
    elif target.output.exists() and not target.force:
        raise InvalidArgumentError(
            f"{str(target.output)!r} exists already; give --force to replace it"
        )


def _write_adapter(
    carried: Mapping[str, Tensor],
    source: str,
    to: str,
    target: Target,
    about: Mapping[str, str],
) -> None:
    about = {"fxrebasin": fr.__version__, **about}
    if not os.path.isdir(source):
        save(carried, target.output, about=about)
        return
    with replacing_folder(target.output) as draft:
        for file in sorted(Path(source).iterdir()):
            if file.is_file() and file.suffix in (".json", ".txt", ".md"):
                shutil.copyfile(file, draft / file.name)
        config = json.loads((draft / ADAPTER).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = to
        (draft / ADAPTER).write_text(json.dumps(config, indent=2), encoding="utf-8")
        save(carried, draft / "adapter_model.safetensors", about=about)
