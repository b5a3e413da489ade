"""Damage to an artifact's folder that is not re-packed: hashes must see it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from service.artifact import manifest, storage

Damage = Callable[[Path], object]


def edit(name: str, change: Callable[[bytes], bytes]) -> Damage:
    """Return a change to the bytes of one file."""
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


def flip(content: bytes, bit: int) -> bytes:
    """Flip one bit."""
    at = bit // 8
    return content[:at] + bytes([content[at] ^ 1 << bit % 8]) + content[at + 1 :]


def flip_middle(content: bytes) -> bytes:
    """Flip the lowest bit of the byte in the middle."""
    return flip(content, len(content) // 2 * 8)


def remove(name: str) -> Damage:
    """Return the removal of a file."""
    return lambda path: (path / name).unlink()


def link(path: Path) -> None:
    """Replace a file by a symbolic link to the same bytes."""
    (path / manifest.CARD).rename(path.parent / "elsewhere")
    (path / manifest.CARD).symlink_to(path.parent / "elsewhere")


def random_flips(artifact: Path, count: int, seed: int = 0) -> Iterator[str]:
    """Flip one random bit at a time, in each file in turn; yield its place, then restore it."""
    names, random = sorted({*storage.FILES, manifest.SUMS}), Random(seed)  # noqa: S311 # positions
    for number in range(count):
        path = artifact / names[number % len(names)]
        content = path.read_bytes()
        bit = random.randrange(8 * len(content))
        path.write_bytes(flip(content, bit))
        yield f"{path.name}, bit {bit}"
        path.write_bytes(content)


DAMAGE: dict[str, Damage] = {
    **{f"{name}: a bit flipped": edit(name, flip_middle) for name in sorted(storage.FILES)},
    **{f"{name}: truncated": edit(name, lambda old: old[:-1]) for name in sorted(storage.FILES)},
    **{f"{name}: missing": remove(name) for name in sorted(storage.FILES)},
    "SHA256SUMS: a hash edited": edit(
        manifest.SUMS, lambda old: (b"1" if old[:1] == b"0" else b"0") + old[1:]
    ),
    "SHA256SUMS: a line missing": edit(manifest.SUMS, lambda old: old.split(b"\n", 1)[1]),
    "SHA256SUMS: a line twice": edit(
        manifest.SUMS, lambda old: old.split(b"\n", 1)[0] + b"\n" + old
    ),
    "SHA256SUMS: upper case": edit(manifest.SUMS, lambda old: old[:64].upper() + old[64:]),
    "SHA256SUMS: empty": edit(manifest.SUMS, lambda old: b""),
    "SHA256SUMS: missing": remove(manifest.SUMS),
    "an extra file": lambda path: (path / "notes.txt").write_text(""),
    "a file is a link": link,
}
"""By name: a change to the folder of an artifact."""
