"""Whether a file is a PNG, by its own checksums. The standard library alone."""

import zlib

from service.artifact.manifest import ArtifactError

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_png(name: str, content: bytes) -> None:
    """Walk the chunks of a PNG (https://www.w3.org/TR/png/): length, type, data, CRC; the first IHDR, the last IEND.

    Raises:
        ArtifactError: the file called name is no PNG.
    """
    at, kinds = len(SIGNATURE), []
    while content.startswith(SIGNATURE) and at < len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4])
        if zlib.crc32(content[at + 4 : end]) != int.from_bytes(
            content[end : end + 4]
        ) or end + 4 > len(content):
            break
        kinds.append(content[at + 4 : at + 8])
        at = end + 4
    if at != len(content) or kinds[:1] != [b"IHDR"] or kinds[-1:] != [b"IEND"]:
        raise ArtifactError(f"{name}: no whole PNG, from byte {at}")
