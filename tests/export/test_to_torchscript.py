"""Tests of export.to_torchscript: the outputs, the archive and the errors of the file."""

import io
import sys
import zipfile

import pytest

from export import ProofError
from export.to_torchscript import ALIGNMENT_BYTES, check_code, load_torchscript, to_torchscript
from model.run import net_from_weights
from service.artifact import manifest
from tests.trained import Trained


def test_no_paths_dates_or_compression(flowers: Trained) -> None:
    """The archive has no debug files, a constant time, no compression and aligned entries."""
    content = (flowers.artifact / manifest.TORCHSCRIPT).read_bytes()
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    for entry in archive.infolist():
        assert not entry.filename.endswith(".debug_pkl")
        assert (1980, 1, 1, 0, 0, 0) == entry.date_time
        assert zipfile.ZIP_STORED == entry.compress_type
        start = entry.header_offset + 30 + len(entry.filename) + len(entry.extra)
        assert 0 == start % ALIGNMENT_BYTES
    assert b"/model/net.py" not in content.replace(b"code/__torch__/model/net.py", b"")


@pytest.mark.parametrize("name", ["compressed", "twice"])
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_other_archives_are_rejected(flowers: Trained, name: str) -> None:
    """Compressed entries and duplicate names are rejected, because zip readers differ on them."""
    out = io.BytesIO()
    compression = zipfile.ZIP_DEFLATED if name == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", compression) as archive:
        for entry in ("archive/a", "archive/a" if name == "twice" else "archive/b"):
            archive.writestr(entry, b"x" * 100)
    with pytest.raises(ProofError, match="expected uncompressed entries with unique names"):
        check_code(out.getvalue(), net_from_weights(flowers.run.weights))


def test_export_failure_is_one_line(flowers: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process that writes the file fails, ProofError gives the last line of its output."""
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ProofError, match=r"cannot write TorchScript on Python .*: no message"):
        to_torchscript(net_from_weights(flowers.run.weights))


def test_load_failure_is_one_line() -> None:
    """Bytes that torch.jit cannot load raise ProofError with one line."""
    with pytest.raises(ProofError, match=r"^model\.torchscript\.pt: torch .* cannot load it: .*$"):
        load_torchscript(b"garbage")
