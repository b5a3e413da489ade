"""export.to_torchscript: a file that loads anywhere and names no path."""

import io
import zipfile

import torch

from export.to_torchscript import ALIGNMENT, load_torchscript
from model.run import net_from_weights
from service.artifact import manifest
from tests.trained import Trained


def test_loads_and_answers_like_the_eager_network(flowers: Trained) -> None:
    """Every output equals the eager network's, bit for bit, on this machine."""
    module = load_torchscript((flowers.artifact / manifest.TORCHSCRIPT).read_bytes())
    rows = torch.from_numpy(flowers.run.rows)
    with torch.no_grad():
        for expected, found in zip(
            net_from_weights(flowers.run.weights)(rows), module(rows), strict=True
        ):
            assert torch.equal(expected, found)


def test_no_paths_dates_or_compression(flowers: Trained) -> None:
    """No debug files, constant times, and every tensor aligned as torch maps it."""
    content = (flowers.artifact / manifest.TORCHSCRIPT).read_bytes()
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    for entry in archive.infolist():
        assert not entry.filename.endswith(".debug_pkl")
        assert (1980, 1, 1, 0, 0, 0) == entry.date_time
        assert zipfile.ZIP_STORED == entry.compress_type
        start = entry.header_offset + 30 + len(entry.filename) + len(entry.extra)
        assert 0 == start % ALIGNMENT
    assert b"/model/net.py" not in content.replace(b"code/__torch__/model/net.py", b"")
