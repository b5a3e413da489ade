"""Atomic publication of folders and files, even if the process is killed.

A folder is written as `.tmp-*` next to its final path, synced to disk and then renamed. A lock
marks it as in use; the operating system releases the lock when the process ends. The next call of
staged() removes the unlocked folders, which killed processes left behind.
"""

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

STAGING_PREFIX = ".tmp-"
"""Prefix of the names of unfinished folders."""
MAX_ATTEMPTS = 100
"""Maximum number of attempts to create a folder while other processes remove its parent."""


@contextlib.contextmanager
def staged(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder in `root/name`; remove it at the end unless it was published.

    `root/name` is created if missing, and removed again if it is empty at the end.
    """
    parent = root / name
    for attempts_left in reversed(range(MAX_ATTEMPTS)):
        try:
            sweep(root)
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
            lock = os.open(folder, os.O_RDONLY)
        except (FileNotFoundError, FileExistsError):
            # Another process has just removed one of these folders.
            if not attempts_left:
                raise
            continue
        # Another process may have swept the folder before it was locked.
        if _try_lock(lock) and folder.exists():
            break
        os.close(lock)
    try:
        folder.chmod(0o755)  # mkdtemp's 0700 would keep other users from reading it
        yield folder
    except OSError as error:
        error.filename = error.filename or str(parent)  # the error for a full disk names no file
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        with contextlib.suppress(OSError):  # the folder is usually not empty
            parent.rmdir()


def publish(folder: Path, finish: Callable[[int], None] = lambda number: None) -> Path:
    """Sync a staged folder, rename it to the next free number (1, 2, 3 ...) and return its path.

    `finish` writes the files that depend on the number into the folder. If another process takes
    the number first, `finish` is called again with the next one.
    """
    number = 0
    while True:
        number = max(number, *folder_numbers(folder.parent), 0) + 1
        finish(number)
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        target = folder.parent / str(number)
        try:
            folder.rename(target)
        except OSError:
            if target.exists():
                continue
            raise
        _sync(folder.parent)
        return target


def folder_numbers(parent: Path) -> list[int]:
    """Return the numbers of the published folders in `parent`, ascending."""
    names = (path.name for path in parent.glob("*") if path.is_dir())
    return sorted(int(name) for name in names if re.fullmatch("[1-9][0-9]*", name))


def sweep(root: Path) -> None:
    """Remove the staged folders of ended processes in every `root/name`."""
    for folder in root.glob(f"*/{STAGING_PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if _try_lock(lock):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def replace_file(path: Path, content: bytes) -> None:
    """Replace the file root/name/file atomically, unless it already has this content."""
    if path.exists() and path.read_bytes() == content:
        return
    with staged(path.parent.parent, path.parent.name) as folder:
        draft = folder / path.name
        draft.write_bytes(content)
        _sync(draft)
        draft.rename(path)
    _sync(path.parent)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
