"""Damage that hashes are there for: the only mutants that a hash may kill."""

from collections.abc import Callable
from pathlib import Path

from service.artifact import manifest, storage


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a damage to one file, without re-packing."""

    def damage(path: Path) -> None:
        (path / name).write_bytes(change((path / name).read_bytes()))

    return damage


def flipped(content: bytes) -> bytes:
    """Flip the lowest bit of the byte in the middle."""
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def extra(path: Path) -> None:
    """Add a file."""
    (path / "notes.txt").write_text("")


def linked(path: Path) -> None:
    """Put a symbolic link to the same bytes in the place of a file."""
    (path / manifest.CARD).rename(path.parent / "elsewhere")
    (path / manifest.CARD).symlink_to(path.parent / "elsewhere")


def _removed(name: str) -> Callable[[Path], None]:
    """Return a change that removes a file."""
    return lambda path: (path / name).unlink()


def _sums(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return edit(manifest.SUMS, change)


DAMAGE: dict[str, Callable[[Path], None]] = {
    **{f"{name}: a bit flipped": edit(name, flipped) for name in sorted(storage.FILES)},
    **{
        f"{name}: truncated": edit(name, lambda content: content[:-1])
        for name in sorted(storage.FILES)
    },
    **{f"{name}: missing": _removed(name) for name in sorted(storage.FILES)},
    "SHA256SUMS: a hash edited": _sums(
        lambda content: (b"1" if content[:1] == b"0" else b"0") + content[1:]
    ),
    "SHA256SUMS: a line missing": _sums(lambda content: content.split(b"\n", 1)[1]),
    "SHA256SUMS: a line twice": _sums(lambda content: content.split(b"\n", 1)[0] + b"\n" + content),
    "SHA256SUMS: upper case": _sums(lambda content: content[:64].upper() + content[64:]),
    "SHA256SUMS: empty": _sums(lambda content: b""),
    "SHA256SUMS: missing": lambda path: (path / manifest.SUMS).unlink(),
    "an extra file": extra,
    "a file is a link": linked,
}
"""By name: what is done to the folder of an artifact."""
