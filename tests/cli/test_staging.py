"""Published folders and replaced files are complete, or they do not appear."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from cli.staging import STAGING_PREFIX, folder_numbers, publish, replace_file, staged, sweep

PUBLISHER = """
import sys
from pathlib import Path
from cli.staging import publish, staged
for _ in range(5):
    with staged(Path(sys.argv[1]), "a") as folder:
        (folder / "number").write_text("none")
        publish(folder, lambda number: (folder / "number").write_text(str(number)))
"""


def entries(root: Path) -> list[str]:
    """List every file and folder below root."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_published_folder_is_complete(tmp_path: Path) -> None:
    """A published folder has its number and all files, is readable by all, and leaves no draft."""
    with staged(tmp_path, "a") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "file").write_text("content")
        assert ["a", f"a/{folder.name}"] == entries(tmp_path)[:2]
        published = publish(folder)
    assert tmp_path / "a" / "1" == published
    assert ["a", "a/1", "a/1/sub", "a/1/sub/file"] == entries(tmp_path)
    assert 0o755 == published.stat().st_mode & 0o777


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("existing", [[], ["a", "a/1", "a/notes"]])
def test_nothing_stays_after_an_exception(
    tmp_path: Path, error: type[BaseException], existing: list[str]
) -> None:
    """An exception removes the draft, and its parent if that is new, but nothing else."""
    for name in existing:
        (tmp_path / name).mkdir()
    with pytest.raises(error), staged(tmp_path, "a") as folder:  # noqa: PT012 # a half-written file
        (folder / "half").write_text("written")
        raise error
    assert existing == entries(tmp_path)


def test_numbers_follow_the_highest(tmp_path: Path) -> None:
    """A new folder gets the highest number plus one; only plain numbers count."""
    for name in ("1", "2", "10", "07", "0", "-3", "²", "x", ".tmp-9"):
        (tmp_path / "a" / name).mkdir(parents=True)
    (tmp_path / "a" / "99").touch()
    assert [1, 2, 10] == folder_numbers(tmp_path / "a")
    assert [] == folder_numbers(tmp_path / "none")
    with staged(tmp_path, "a") as folder:
        assert "11" == publish(folder).name


@pytest.mark.parametrize("make", [Path.touch, lambda path: (path / "x").mkdir(parents=True)])
def test_taken_number_is_passed_over(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """If a number is taken by another process or a file, the next number is tried."""
    numbers = []

    def finish(number: int) -> None:
        numbers.append(number)
        if number < 3:
            make(folder.parent / str(number))

    with staged(tmp_path, "a") as folder:
        assert tmp_path / "a" / "3" == publish(folder, finish)
    assert [1, 2, 3] == numbers


def test_other_errors_of_publishing_are_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that fails for another reason raises its error, and no draft stays."""
    error = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(Path, "rename", Mock(side_effect=error))
    with pytest.raises(OSError, match="Read-only"), staged(tmp_path, "a") as folder:
        publish(folder)
    assert [] == entries(tmp_path)


def test_published_files_are_synced_before_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and folder are synced before the rename, and the parent folder after it."""
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    with staged(tmp_path, "a") as folder:
        (folder / "file").write_text("content")
        publish(folder)
    assert ["file", folder.name, "a"] == synced


def test_sweep(tmp_path: Path) -> None:
    """Staging removes unlocked drafts, whose process has died, and keeps locked drafts."""
    dead = tmp_path / "a" / f"{STAGING_PREFIX}dead"
    dead.mkdir(parents=True)
    with staged(tmp_path, "b") as draft:
        assert not dead.exists()
        with staged(tmp_path, "b") as other:
            assert sorted([draft, other]) == sorted((tmp_path / "b").iterdir())
    assert [] == [path for path in tmp_path.rglob("*") if path != dead.parent]


def test_draft_swept_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a sweep removes a draft before it is locked, staging tries again."""
    drafts: list[str] = []
    mkdtemp = tempfile.mkdtemp

    def make_and_sweep(prefix: str, dir: Path) -> str:  # noqa: A002 # mkdtemp's own name
        drafts.append(mkdtemp(prefix=prefix, dir=dir))
        if len(drafts) < 3:
            sweep(tmp_path)
        return drafts[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_sweep)
    with staged(tmp_path, "a") as folder:
        assert [folder] == list((tmp_path / "a").iterdir())
    assert len(drafts) == 3


def test_processes_publish_under_different_numbers(tmp_path: Path) -> None:
    """Four processes publish 20 folders; each folder has its own number from 1 to 20."""
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [0, 0, 0, 0] == [process.wait() for process in processes]
    contents = {path.parent.name: path.read_text() for path in tmp_path.glob("a/*/number")}
    assert {str(number): str(number) for number in range(1, 21)} == contents


def test_replace_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a replacement fails, the file keeps its old content, and no draft stays."""
    path = tmp_path / "a" / "config"
    replace_file(path, b"first")
    replace_file(path, b"second")
    assert b"second" == path.read_bytes()
    error = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", Mock(side_effect=error))
    with pytest.raises(OSError, match="No space left") as caught:
        replace_file(path, b"third")
    assert str(tmp_path / "a") == caught.value.filename
    assert b"second" == path.read_bytes()
    assert ["a", "a/config"] == entries(tmp_path)
