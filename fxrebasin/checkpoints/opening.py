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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..arguments import check_path, check_text
from ..errors import FileFormatError
from ..models.validation import PREFIXES
from .form import Form, Level
from .pickles import Read, of_pickle

PICKLED = (".pt", ".pth", ".bin", ".ckpt")
"""How the names of files end that ``torch.save`` has written."""

MOST_TENSORS = 2**18
"""In one file: the largest models have a third of that; what has more was made to fill memory."""

MOST_IN_HEADER = 10**8
"""Bytes that safetensors reads as a header."""


@dataclass(frozen=True)
class Part:
    """A file of safetensors, and what its header says beside the tensors."""

    path: Path
    names: tuple[str, ...]
    about: Mapping[str, str]


class Checkpoint(Mapping[str, Tensor]):
    """A state dict on disk: nothing is read of a tensor until it is indexed.

    :func:`open_checkpoint` makes one. Tensors are on the CPU and new at every look; whoever wants
    to keep one keeps it. They may be views of the file, which must stay as it is meanwhile;
    writing to them does not change it.
    """

    def __init__(
        self, path: Path, read: Mapping[str, Read], form: Form, parts: tuple[Part, ...] = ()
    ) -> None:
        self.path = path
        self.form = form
        """How the file stores it: in front of names, and around it."""
        self.parts = parts
        """The files of safetensors that it is in, with the file's own names."""
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
    opened = _of_index(found, key) if found.name.endswith(".index.json") else _of_file(found, key)
    if not opened.read:
        raise FileFormatError(f"{str(found)!r} holds no tensors; was the model saved?")
    names = _without_prefixes(opened.read, found)
    read = {short: opened.read[name] for short, name in names.items()}
    renamed = {short: name for short, name in names.items() if short != name}
    return Checkpoint(Path(path), read, Form(renamed, opened.around), opened.parts)


@dataclass(frozen=True)
class _Opened:
    """What a file or several hold, under their own names."""

    read: Mapping[str, Read]
    around: tuple[Level, ...] = ()
    parts: tuple[Part, ...] = ()


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


def _of_file(path: Path, key: str | None) -> _Opened:
    if path.suffix in PICKLED:
        return _Opened(*of_pickle(path, key))
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


def _of_safetensors(path: Path) -> _Opened:
    _check_number(path)
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

    names = tuple(file.keys())
    read = {name: reader(name) for name in names}
    return _Opened(read, parts=(Part(path, names, file.metadata() or {}),))


def _check_number(path: Path) -> None:
    """Refuse headers of more tensors than any model has, before they are parsed."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        count = file.read(min(length, MOST_IN_HEADER)).count(b'"data_offsets"')
    if count > MOST_TENSORS:
        raise FileFormatError(
            f"{str(path)!r} names {count:,} tensors, expected at most {MOST_TENSORS:,}; this is no "
            "model"
        )


def _of_index(path: Path, key: str | None) -> _Opened:
    """All tensors of a checkpoint in several files, each of which is opened and looked into."""
    try:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        well_formed = all(isinstance(x, str) for pair in places.items() for x in pair)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{str(path)!r} is no index: it has no 'weight_map'") from error
    if not well_formed:
        raise FileFormatError(f"{str(path)!r}: the 'weight_map' is not one from names to files")
    files: dict[str, _Opened] = {}
    result: dict[str, Read] = {}
    for name, file in places.items():
        if Path(file).name != file or file == "..":
            raise FileFormatError(
                f"{str(path)!r} says that {name!r} is in {file!r}, which is not beside it"
            )
        if file not in files:
            if not (path.parent / file).exists():
                raise FileNotFoundError(
                    f"{str(path)!r} says that {name!r} is in {file!r}, which is missing"
                )
            files[file] = _of_file(path.parent / file, key)
        if name not in files[file].read:
            raise FileFormatError(
                f"{str(path)!r} says that {name!r} is in {file!r}, which does not have it; "
                "download or write the checkpoint again"
            )
        result[name] = files[file].read[name]
    return _Opened(result, parts=tuple(part for opened in files.values() for part in opened.parts))


def _without_prefixes(read: Mapping[str, Read], path: Path) -> dict[str, str]:
    """From names as the model inside of all wrappers has them to those of the file."""
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
    return {short: name for name, short in names.items()}
