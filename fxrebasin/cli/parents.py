"""Checkpoints that the command line names, in models; and models written as checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

import fxrebasin as fr

from ..checkpoints.form import Form
from ..checkpoints.header import with_header
from ..checkpoints.loading import StateDict, load
from ..checkpoints.opening import PICKLED, open_checkpoint
from ..checkpoints.saving import save
from ..errors import ArchitectureMismatchError, InvalidArgumentError
from ..files import replacing_folder
from ..models.copying import deep_copy
from .models import (
    WEIGHTS,
    Subject,
    dtype_of,
    is_folder_of_transformers,
    moved_to,
    pretrained,
    subject_of,
)
from .options import Example, Target
from .output import Output

CONFIGURATION = (".json", ".txt", ".model", ".jinja", ".tiktoken")


@dataclass(frozen=True)
class Checkpointed:
    """A model with the weights of a checkpoint."""

    path: str
    module: nn.Module
    form: Form
    folder: Path | None = None
    """Where it is one of transformers."""


def read_all(
    paths: Sequence[str], model: str | None, example: Example, output: Output
) -> tuple[Subject, list[Checkpointed]]:
    """The model, and each checkpoint in one.

    Raises:
        InvalidArgumentError: nothing says what the model is.
        ArchitectureMismatchError: a checkpoint does not fit it.
        FileFormatError, OSError: a checkpoint cannot be read.
    """
    subject, first = _read_first(paths, model, example, output)
    others = [_read(path, subject, _type_of(first.module), output) for path in paths[1:]]
    return subject, [first, *others]


def read_for_merging(
    paths: Sequence[str], model: str | None, example: Example, output: Output
) -> tuple[Subject, Checkpointed, list[nn.Module | StateDict]]:
    """The model, the first checkpoint in one, and all of them as :func:`fxrebasin.merge` takes
    them: state dicts where that is enough, which stay in their files.

    Raises:
        InvalidArgumentError, ArchitectureMismatchError, FileFormatError, OSError: see
            :func:`read_all`.
    """
    subject, first = _read_first(paths, model, example, output)

    def read(path: str) -> nn.Module | StateDict:
        if subject.folder is not None and is_folder_of_transformers(path):
            try:
                return load(path, like=first.module)
            except ArchitectureMismatchError:  # names that only its own loading understands
                return _read(path, subject, _type_of(first.module), output).module
        return _loaded(path, first.module, output)

    return subject, first, [first.module, *map(read, paths[1:])]


def _read_first(
    paths: Sequence[str], model: str | None, example: Example, output: Output
) -> tuple[Subject, Checkpointed]:
    for path in paths:
        open_checkpoint(path)  # says what is wrong with a file before anything else is done
    if model is None and is_folder_of_transformers(paths[0]):
        model = f"hf:{paths[0]}"
    if model is None:
        raise InvalidArgumentError(
            f"--model: expected what {paths[0]!r} is a checkpoint of, found nothing; give "
            "torchvision:NAME, timm:NAME, hf:DIR or package.module:factory"
        )
    subject = subject_of(model, example)
    first = _read(paths[0], subject, dtype_of(example), output)
    subject = replace(
        subject,
        module=first.module,
        args=moved_to(subject.args, first.module),
        kwargs=moved_to(subject.kwargs, first.module),
    )
    return subject, first


def _read(path: str, subject: Subject, dtype: torch.dtype | None, output: Output) -> Checkpointed:
    """A checkpoint in a model, of the given type or its own."""
    if subject.folder is not None and is_folder_of_transformers(path):
        folder = Path(path)
        is_read = folder.resolve() == subject.folder.resolve()
        module = subject.module if is_read else pretrained(type(subject.module), folder, dtype)
        device = next(subject.module.parameters()).device
        return Checkpointed(path, module.to(device), Form(), folder)
    state = _loaded(path, subject.module, output)
    floats = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    own = floats.pop() if len(floats) == 1 else None
    module = deep_copy(subject.module).to(dtype=dtype or own)
    module.load_state_dict(state)
    return Checkpointed(path, module, state.form)


def _loaded(path: str, like: nn.Module, output: Output) -> StateDict:
    state = load(path, like=like)
    for remark in state.form.remarks:
        output.say(f"{path}: {remark}")
    return state


def _type_of(module: nn.Module) -> torch.dtype | None:
    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(floats, None)


def check_target(target: Target, first: str) -> None:
    """Refuse what cannot be written, before anything is computed.

    Raises:
        InvalidArgumentError: there is something already, or the name does not say what to write.
        FileNotFoundError: the folder that it would be in is missing.
    """
    path = target.output
    if path.exists() and not target.force:
        raise InvalidArgumentError(f"{str(path)!r} exists already; give --force to replace it")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r}")
    if is_folder_of_transformers(first):
        if path.suffix in WEIGHTS or path.is_file():
            raise InvalidArgumentError(
                f"--output: expected the name of a folder, as {first!r} is one, found {str(path)!r}"
            )
    elif path.suffix not in (".safetensors", *PICKLED):
        raise InvalidArgumentError(
            f"--output: expected a name that ends on .safetensors, {', '.join(PICKLED)}, found "
            f"{str(path)!r}"
        )
    elif path.is_dir():
        raise InvalidArgumentError(f"--output: expected a file, found the folder {str(path)!r}")


def write(module: nn.Module, like: Checkpointed, target: Target, about: Mapping[str, str]) -> None:
    """Write a model as the checkpoint that it came from."""
    about = {"fxrebasin": fr.__version__, **about}
    if like.folder is None:
        state = {n: t.cpu() for n, t in module.state_dict().items() if isinstance(t, Tensor)}
        save(state, target.output, form=like.form, about=about)
        return
    with replacing_folder(target.output) as draft:
        _write_pretrained(module, like.folder, draft, about)


def _write_pretrained(
    module: nn.Module, source: Path, draft: Path, about: Mapping[str, str]
) -> None:
    """What ``from_pretrained`` loads: weights, and all that describes model and tokenizer."""
    written = draft / "written"
    save_pretrained: Callable[[Path], None] = module.save_pretrained  # type: ignore[assignment]
    save_pretrained(written)
    for file in sorted(written.iterdir()):
        if file.suffix == ".safetensors":
            with_header(file, draft / file.name, about)
        else:
            file.rename(draft / file.name)
    shutil.rmtree(written)
    for file in sorted(source.iterdir()):
        is_weights = file.name.endswith(WEIGHTS)
        is_wanted = file.is_file() and file.suffix in CONFIGURATION and not is_weights
        if is_wanted and not (draft / file.name).exists():
            shutil.copyfile(file, draft / file.name)


def about_files(command: str, paths: Sequence[str], **more: object) -> dict[str, str]:
    """What the header of a file says of how it was made."""
    names = json.dumps([Path(path).name for path in paths])
    return {"made": f"fxrebasin {command}", "of": names} | {k: str(v) for k, v in more.items()}
