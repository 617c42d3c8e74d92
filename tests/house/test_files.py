"""Files appear complete or not at all, whoever else writes to them or has put things in the way."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fxrebasin.files import replacing, replacing_folder


def test_threads_that_write_to_one_path_leave_one_of_their_files(tmp_path: Path) -> None:
    path = tmp_path / "p"
    texts = {letter * 100_000 for letter in "abcdefgh"}

    def write(text: str) -> None:
        for _ in range(20):
            with replacing(path) as temporary:
                temporary.write_text(text)
            assert path.read_text() in texts

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, sorted(texts)))
    assert path.read_text() in texts
    assert [f.name for f in tmp_path.iterdir()] == ["p"]


def test_every_writer_has_a_name_of_its_own(tmp_path: Path) -> None:
    with replacing(tmp_path / "p") as one, replacing(tmp_path / "p") as other:
        assert one != other
        assert one.parent == other.parent == tmp_path
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "p").read_text() == "one"


def test_a_link_that_was_put_in_the_way_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda n: "guessed")
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".p.guessed.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError), replacing(tmp_path / "p") as temporary:
        temporary.write_text("overwritten")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_what_is_replaced_keeps_its_rights(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text("before")
    path.chmod(mode)
    with replacing(path) as temporary:
        temporary.write_text("after")
    assert path.read_text() == "after"
    assert os.stat(path).st_mode & 0o777 == mode


def test_a_new_file_has_the_rights_of_any_other_whatever_has_written_it(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("")
    with replacing(tmp_path / "p") as temporary:
        temporary.unlink()
        temporary.write_text("of a writer that makes private files")
        temporary.chmod(0o600)
    assert (tmp_path / "p").stat().st_mode == other.stat().st_mode


def test_a_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for text in ("one", "other"):
        with replacing_folder(path) as temporary:
            (temporary / text).write_text(text)
        assert [f.name for f in path.iterdir()] == [text]

    def interrupt() -> None:
        with replacing_folder(path) as temporary:
            (temporary / "half").write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert [f.name for f in path.iterdir()] == ["other"]
    assert [f.name for f in tmp_path.iterdir()] == ["model"]
    with pytest.raises(NotADirectoryError, match="found a file"), replacing_folder(path / "other"):
        pass


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_text("before")

    def interrupt() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert path.read_text() == "before"
    assert [f.name for f in tmp_path.iterdir()] == ["p"]


def test_long_names_and_folders(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 240 + ".svg")
    with replacing(path) as temporary:
        temporary.write_text("done")
    assert path.read_text() == "done"
    with pytest.raises(IsADirectoryError, match="found a folder"), replacing(tmp_path):
        pass
