"""A folder that appears complete or not at all, whenever the process dies.

It is built as `.tmp-*` beside its final place, under a lock that the operating system drops with the
process; synced to disk; then renamed once. Whoever stages next sweeps what the dead left behind.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

STAGING_PREFIX = ".tmp-"


@contextlib.contextmanager
def staged(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder in `root/name`, which is made if missing; remove it at the end unless published.

    Raises:
        OSError: the place cannot be written to.
    """
    parent = root / name
    for tries_left in reversed(range(100)):
        try:
            sweep(root)
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=parent))
            lock = os.open(folder, os.O_RDONLY)
        except (
            FileNotFoundError,
            FileExistsError,
        ):  # another process has just removed one of these folders
            if not tries_left:
                raise
            continue
        if _locked(lock) and folder.exists():  # else a sweeper came between the two lines above
            break
        os.close(lock)
    try:
        folder.chmod(0o755)  # mkdtemp's 0700 would lock other users out of what is published
        yield folder
    except OSError as error:
        error.filename = error.filename or str(parent)  # a full disk names no file
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        with contextlib.suppress(OSError):  # not empty: the usual case
            parent.rmdir()


def publish(folder: Path, finish: Callable[[int], None] = lambda number: None) -> Path:
    """Sync the staged folder and rename it to the next number beside it: 1, 2, 3 ...; return that path.

    Args:
        folder: as staged() yields it.
        finish: writes into it what depends on the number; called again when another process took the number.
    """
    number = 0
    while True:
        number = max(number, *numbered(folder.parent), 0) + 1
        finish(number)
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        place = folder.parent / str(number)
        try:
            folder.rename(place)
        except OSError:
            if place.exists():
                continue
            raise
        _sync(folder.parent)
        return place


def numbered(parent: Path) -> list[int]:
    """List the numbers of the complete folders in `parent`, ascending."""
    if not parent.is_dir():
        return []
    names = (path.name for path in parent.iterdir() if path.is_dir())
    return sorted(
        int(name) for name in names if name.isascii() and name.isdigit() and name[0] != "0"
    )


def sweep(root: Path) -> None:
    """Remove the staged folders in every `root/name` whose process is gone."""
    for folder in root.glob(f"*/{STAGING_PREFIX}*"):
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        if _locked(lock):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def replace_file(path: Path, content: bytes) -> None:
    """Write the file root/name/file so that it appears complete or not at all; leave an equal one as it is."""
    if path.exists() and path.read_bytes() == content:
        return
    with staged(path.parent.parent, path.parent.name) as folder:
        draft = folder / path.name
        draft.write_bytes(content)
        _sync(draft)
        draft.rename(path)
    _sync(path.parent)


def _locked(descriptor: int) -> bool:
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
