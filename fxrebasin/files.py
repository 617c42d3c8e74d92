"""Files and folders appear complete or not at all: they are written under a temporary name and
renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY
"""A file that was not there; where a link or anything else has that name, an error."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new file beside ``path``, which takes its place if nothing goes wrong, and is gone if not.

    Threads and processes may write to one path at once: each has a file of its own, and the last
    to end is what stays. What is there keeps its rights; a new file has those of any other.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "note.txt")) as temporary:
    ...         _ = temporary.write_text("done")
    ...     os.listdir(folder)
    ['note.txt']

    Raises:
        OSError: the folder is missing or cannot be written, or ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"expected the name of a file to write, found a folder: {path}")
    temporary = path.with_name(f".{path.stem[:40]}.{secrets.token_hex(8)}.tmp{path.suffix}")
    os.close(os.open(temporary, _NEW, 0o666))
    try:
        rights = (path if path.is_file() else temporary).stat().st_mode & 0o777
        yield temporary
        temporary.chmod(rights)  # now, since some writers make a new file of their own
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder beside ``path``, which takes its place if nothing goes wrong.

    What is there goes aside for the moment of the change, and then for good.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing_folder(Path(folder, "model")) as temporary:
    ...         _ = Path(temporary, "note.txt").write_text("done")
    ...     os.listdir(folder), os.listdir(Path(folder, "model"))
    (['model'], ['note.txt'])

    Raises:
        OSError: the folder around it is missing or cannot be written, or ``path`` is a file.
    """
    path = Path(path)
    if path.is_file():
        raise NotADirectoryError(f"expected the name of a folder to write, found a file: {path}")
    temporary, old = (path.with_name(f".{path.name[:40]}.{secrets.token_hex(8)}.tmp") for _ in "no")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
