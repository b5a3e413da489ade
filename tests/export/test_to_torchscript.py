"""export.to_torchscript: a file that loads anywhere and names no path."""

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
    """No debug files, constant times, and every tensor aligned as torch maps it."""
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
    """A compressed entry, or one name twice, is read differently by different zip readers."""
    out = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if name == "compressed" else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", how) as archive:
        for entry in ("archive/a", "archive/a" if name == "twice" else "archive/b"):
            archive.writestr(entry, b"x" * 100)
    with pytest.raises(ProofError, match="expected uncompressed entries with unique names"):
        check_code(out.getvalue(), net_from_weights(flowers.run.weights))


def test_torch_that_cannot_write_is_one_line(
    flowers: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that fails ends in a ProofError with its last line."""
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(ProofError, match=r"cannot write TorchScript on Python .*: no message"):
        to_torchscript(net_from_weights(flowers.run.weights))


def test_torch_that_cannot_load_is_one_line() -> None:
    """Bytes that torch.jit rejects end in a ProofError of one line."""
    with pytest.raises(ProofError, match=r"^model\.torchscript\.pt: torch .* cannot load it: .*$"):
        load_torchscript(b"garbage")
