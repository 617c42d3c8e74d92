"""Checkpoints as mappings that read a tensor when it is indexed.

A state dict need not be in memory: whatever takes one takes any mapping from names to tensors.

>>> import torch
>>> from safetensors.torch import save_file
>>> save_file({"module.weight": torch.ones(2, 3)}, "model.safetensors")
>>> checkpoint = open_checkpoint("model.safetensors")
>>> checkpoint
Checkpoint('model.safetensors', 1 tensors)
>>> checkpoint["weight"].shape
torch.Size([2, 3])
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..arguments import check_path, check_text
from ..errors import FileFormatError
from .validation import PREFIXES

NESTED = ("state_dict", "model_state_dict", "model")
"""Under which keys trainers keep the state dict of the model."""

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
"""How the names of files end that ``torch.save`` has written."""

Read = Callable[[], Tensor]


class Checkpoint(Mapping[str, Tensor]):
    """A state dict on disk: nothing is read of a tensor until it is indexed.

    :func:`open_checkpoint` makes one. Tensors are on the CPU and new at every look; whoever wants
    to keep one keeps it. They may be views of the file, which must stay as it is meanwhile;
    writing to them does not change it.
    """

    def __init__(self, path: Path, read: Mapping[str, Read]) -> None:
        self.path = path
        self._read = dict(read)

    def __getitem__(self, name: str) -> Tensor:
        return self._read[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)

    def __contains__(self, name: object) -> bool:
        return name in self._read

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self)} tensors)"


def open_checkpoint(path: str | os.PathLike[str], *, key: str | None = None) -> Checkpoint:
    """Open the state dict in a file or folder, without reading its tensors.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Linear(3, 2)
    >>> torch.save({"epoch": 3, "state_dict": net.state_dict()}, "epoch-3.pt")
    >>> net.load_state_dict(dict(fr.open_checkpoint("epoch-3.pt")))
    <All keys matched successfully>

    Args:
        path: what is opened:

            * a file of safetensors;
            * a folder, or the ``....index.json`` in it, of a checkpoint in several files, of
              safetensors or ``torch.save``; or a folder with one file of safetensors;
            * a file of ``torch.save``, ``.pt``, ``.pth``, ``.bin`` or ``.ckpt``. Of these only
              tensors and plain containers are read (``weights_only``), never code. They are mapped
              into memory where the format allows it; that of torch before 1.6 is read whole.
        key: under which the state dict is in a file of ``torch.save``; by default the whole file,
            or what is under ``"state_dict"``, ``"model_state_dict"`` or ``"model"``.

    Returns:
        A mapping from names to tensors. What wrappers put in front of names (``"module."``,
        ``"_orig_mod."``, ...) is taken off: ``"module."`` where all names begin with it, the
        others wherever they are.

    Raises:
        FileFormatError: the file does not hold a state dict, or would have to run code; or the
            files of a checkpoint contradict their index. The error names the file.
        OSError: a file is missing or cannot be read.
        InvalidArgumentError: ``path`` or ``key`` is none.
    """
    check_path(path)
    if key is not None:
        check_text(key, "key", "the key of the state dict, or None")
    found = Path(path)
    if found.is_dir():
        found = _file_in(found)
    if not found.exists():
        raise FileNotFoundError(f"there is no checkpoint {os.fspath(path)!r}")
    read = _of_index(found, key) if found.name.endswith(".index.json") else _of_file(found, key)
    if not read:
        raise FileFormatError(f"{str(found)!r} holds no tensors; was the model saved?")
    return Checkpoint(Path(path), _without_prefixes(read, found))


def _file_in(folder: Path) -> Path:
    """The index in a folder, or its one file of safetensors."""
    for pattern in ("*.safetensors.index.json", "*.bin.index.json", "*.safetensors", "*.bin"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(repr(path.name) for path in found[:3])
            raise FileFormatError(
                f"the folder {str(folder)!r} holds {len(found)} files {pattern} ({names}, ...) and "
                "no index that says which belong together; open one of them"
            )
    raise FileFormatError(
        f"the folder {str(folder)!r} holds no checkpoint: expected an index, as "
        "'model.safetensors.index.json', or a file of safetensors"
    )


def _of_file(path: Path, key: str | None) -> dict[str, Read]:
    if path.suffix in PICKLED:
        return _of_pickle(path, key)
    if path.suffix != ".safetensors":
        raise FileFormatError(
            f"{str(path)!r}: expected a name that ends on .safetensors, .index.json, "
            f"{', '.join(PICKLED)}, found {path.suffix!r}; rename the file as what it is"
        )
    if key is not None:
        raise FileFormatError(
            f"{str(path)!r} is of safetensors, which has nothing under keys, found key={key!r}; "
            "leave key out"
        )
    return _of_safetensors(path)


def _of_safetensors(path: Path) -> dict[str, Read]:
    try:
        file = safe_open(path, framework="pt", device="cpu")
    except SafetensorError as error:
        raise FileFormatError(
            f"{str(path)!r} is no file of safetensors: {error}; download or write it again"
        ) from error

    def reader(name: str) -> Read:
        def read() -> Tensor:
            tensor: Tensor = file.get_tensor(name)
            return tensor

        return read

    return {name: reader(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def _of_index(path: Path, key: str | None) -> dict[str, Read]:
    """All tensors of a checkpoint in several files, each of which is opened and looked into."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        well_formed = all(isinstance(x, str) for pair in places.items() for x in pair)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{str(path)!r} is no index: it has no 'weight_map'") from error
    if not well_formed:
        raise FileFormatError(f"{str(path)!r}: the 'weight_map' is not one from names to files")
    files: dict[str, dict[str, Read]] = {}
    result: dict[str, Read] = {}
    for name, file in places.items():
        if Path(file).name != file:
            raise FileFormatError(
                f"{str(path)!r} says that {name!r} is in {file!r}, which is not beside it"
            )
        if file not in files:
            if not (path.parent / file).exists():
                raise FileNotFoundError(
                    f"{str(path)!r} says that {name!r} is in {file!r}, which is missing"
                )
            files[file] = _of_file(path.parent / file, key)
        if name not in files[file]:
            raise FileFormatError(
                f"{str(path)!r} says that {name!r} is in {file!r}, which does not have it; "
                "download or write the checkpoint again"
            )
        result[name] = files[file][name]
    return result


def _of_pickle(path: Path, key: str | None) -> dict[str, Read]:
    state = _nested(_unpickled(path), path, key)
    if {"state", "param_groups"} <= state.keys():
        raise FileFormatError(
            f"{str(path)!r} holds the state of an optimizer; expected that of a model"
        )

    def reader(value: Any) -> Read:
        return lambda: value

    odd = next((k for k in state if not isinstance(k, str)), None)
    if odd is not None:
        raise FileFormatError(f"{str(path)!r} is no state dict: it has the key {odd!r}")
    return {name: reader(value) for name, value in state.items()}


def _unpickled(path: Path) -> Any:
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    try:
        try:
            return torch.load(path, mmap=True, **options)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, **options)  # as torch before 1.6 has written it
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise FileFormatError(
            f"{str(path)!r} holds more than tensors and plain containers, and reading that could "
            "run code; load it where you trust it, and save model.state_dict() alone. "
            f"{str(error).splitlines()[0][:200]}"
        ) from error
    except Exception as error:
        text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise FileFormatError(
            f"{str(path)!r} is no file of torch.save: {text}; download or write it again"
        ) from error


def _nested(found: Any, path: Path, key: str | None) -> Mapping[Any, Any]:
    """The state dict in what a file holds."""
    if not isinstance(found, Mapping):
        raise FileFormatError(
            f"{str(path)!r} holds {type(found).__name__}, expected a state dict; save "
            "model.state_dict()"
        )
    if key is not None:
        if not isinstance(found.get(key), Mapping):
            raise FileFormatError(
                f"{str(path)!r} has no state dict under {key!r}; it has the keys "
                f"{', '.join(map(repr, list(found)[:8]))}"
            )
        state: Mapping[Any, Any] = found[key]
        return state
    if any(isinstance(value, Tensor) for value in found.values()):
        return found
    inner = [name for name in NESTED if isinstance(found.get(name), Mapping)]
    if len(inner) != 1:
        has = f"several, {', '.join(map(repr, inner))}" if inner else "none"
        raise FileFormatError(
            f"{str(path)!r}: expected tensors by name, or one state dict under "
            f"{', '.join(map(repr, NESTED))}, found {has} among the keys "
            f"{', '.join(map(repr, list(found)[:8]))}; give key="
        )
    return _nested(found[inner[0]], path, None)


def _without_prefixes(read: Mapping[str, Read], path: Path) -> dict[str, Read]:
    """Names as the model inside of all wrappers has them."""
    names = {name: name for name in read}
    for prefix in PREFIXES:
        if prefix != "module.":
            names = {name: short.replace(prefix, "") for name, short in names.items()}
    while all(short.startswith("module.") for short in names.values()):
        names = {name: short.removeprefix("module.") for name, short in names.items()}
    if len(set(names.values())) != len(names):
        twice = next(s for s in names.values() if [*names.values()].count(s) > 1)
        raise FileFormatError(
            f"{str(path)!r} has several tensors that are {twice!r} but for what wrappers put in "
            "front of their names"
        )
    return {short: read[name] for name, short in names.items()}
