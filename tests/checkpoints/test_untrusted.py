"""Files from anywhere: no code runs, what is wrong is said of the file by name, nothing is left."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import fxrebasin as fr
from fxrebasin.errors import FileFormatError, FxrebasinError

STATE = {"one": torch.arange(6.0).reshape(2, 3), "two": torch.arange(4.0)}


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("code-has-run"),))


def raw(path: Path, header: object, data: bytes = b"", length: int | None = None) -> None:
    """A file of safetensors with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def pickled(path: Path, content: object) -> None:
    torch.save(content, path)


def endless(path: Path) -> None:
    content: dict[str, Any] = {"epoch": 1}
    content["state_dict"] = content
    torch.save(content, path)


SAFETENSORS: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(b"abc"),
    "a header longer than the file": lambda path: raw(path, {}, length=10**6),
    "a header of exabytes": lambda path: raw(path, {}, length=2**63),
    "no JSON": lambda path: raw(path, b"{{{{"),
    "nested JSON": lambda path: raw(path, b'{"a":' * 10_000),
    "a list": lambda path: raw(path, [1, 2]),
    "data past the end": lambda path: raw(path, {"a": entry([4], 0, 16)}, b"\0" * 8),
    "data that nobody names": lambda path: raw(path, {"a": entry([1], 0, 4)}, b"\0" * 8),
    "a shape of another size": lambda path: raw(path, {"a": entry([5], 0, 16)}, b"\0" * 16),
    "a shape that overflows": lambda path: raw(
        path, {"a": entry([2**40, 2**40], 0, 16)}, b"\0" * 16
    ),
    "a negative size": lambda path: raw(path, {"a": entry([-4], 0, 16)}, b"\0" * 16),
    "an end before the start": lambda path: raw(path, {"a": entry([4], 16, 0)}, b"\0" * 16),
    "overlapping data": lambda path: raw(
        path, {"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, b"\0" * 24
    ),
    "the same data twice": lambda path: raw(
        path, {"a": entry([4], 0, 16), "b": entry([4], 0, 16)}, b"\0" * 16
    ),
    "a gap": lambda path: raw(path, {"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, b"\0" * 12),
    "an unknown type": lambda path: raw(path, {"a": entry([4], 0, 16, "F99")}, b"\0" * 16),
    "a name twice": lambda path: raw(
        path,
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b"\0" * 8,
    ),
}

PICKLES: dict[str, Callable[[Path], object]] = {
    "code": lambda path: pickled(path, {"weight": torch.ones(2), "more": Evil()}),
    "code inside": lambda path: pickled(path, {"state_dict": {"weight": Evil()}}),
    "a mapping in itself": endless,
    "text": lambda path: path.write_text("not a checkpoint"),
    "empty": lambda path: path.write_bytes(b""),
}


def index(path: Path, places: object) -> None:
    path.write_text(json.dumps({"weight_map": places}))


def shard_that_runs_code(path: Path) -> None:
    pickled(path.parent / "model-1.bin", {"one": Evil()})
    index(path, {"one": "model-1.bin"})


INDICES: dict[str, Callable[[Path], object]] = {
    "a shard that is missing": lambda path: index(path, {"one": "model-2.safetensors"}),
    "a way up": lambda path: index(path, {"one": "../secret.safetensors"}),
    "a way from the root": lambda path: index(path, {"one": "/etc/passwd"}),
    "the folder itself": lambda path: index(path, {"one": "."}),
    "the folder around it": lambda path: index(path, {"one": ".."}),
    "itself": lambda path: index(path, {"one": path.name}),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "nested JSON": lambda path: path.write_text("[" * 100_000),
    "a shard that runs code": shard_that_runs_code,
}

FILES = {
    **{f"safetensors: {what}": ("model.safetensors", make) for what, make in SAFETENSORS.items()},
    **{f"torch.save: {what}": ("model.pt", make) for what, make in PICKLES.items()},
    **{f"index: {w}": ("model.safetensors.index.json", make) for w, make in INDICES.items()},
}


@pytest.mark.parametrize("what", FILES)
def test_what_is_wrong_is_said_of_the_file(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, make = FILES[what]
    save_file(STATE, tmp_path / "secret.safetensors")
    inside = tmp_path / "inside"
    inside.mkdir()
    make(inside / name)
    with pytest.raises((FxrebasinError, FileNotFoundError)) as caught:
        fr.load(inside / name)
    assert any(file.name in str(caught.value) for file in inside.iterdir())
    assert not (tmp_path / "code-has-run").exists()


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    fr.save(STATE, path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match=r"a\.safetensors"):
            fr.load(path)


def test_no_flipped_bit_is_taken_for_other_weights(tmp_path: Path) -> None:
    """Of files that this library has written, which hold a digest."""
    path = tmp_path / "a.safetensors"
    fr.save(STATE, path, about={"made": "by hand"})
    content = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(600):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            found = fr.load(path)
        except FileFormatError:
            refused += 1
        else:
            assert {*found} == {*STATE}
            assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    assert refused > 500


def test_a_header_of_a_million_entries_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    entries = b",".join(
        b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % k for k in range(10**6)
    )
    raw(path, b"{" + entries + b"}")
    with pytest.raises(FileFormatError, match=r"a\.safetensors' names 1,000,000 tensors"):
        fr.load(path)
