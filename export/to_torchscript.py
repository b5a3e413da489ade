"""A ScaledNet as model.torchscript.pt: torch.jit.script, re-zipped so that equal networks give equal bytes.

Script rather than trace or freeze: a frozen module has no parameters left to compare. TorchScript is
deprecated in favour of torch.export; it is asked for here because LibTorch and mobile runtimes read it,
and this module is the only place that knows.
"""

import io
import os
import subprocess
import sys
import warnings
import zipfile

import safetensors.numpy
import torch

from export import ProofError
from model.net import ScaledNet
from model.run import net_from_weights
from service.artifact.manifest import TORCHSCRIPT

SERIALIZATION_ID = b"0" * 40
"""Replaces a number that depends on the source paths."""
EPOCH = (1980, 1, 1, 0, 0, 0)
LOCAL_HEADER = 30
"""Bytes of a zip entry before its name."""
ALIGNMENT = 64
"""torch maps tensors straight from the file, and its own writer aligns each to this many bytes."""


def to_torchscript(net: ScaledNet) -> bytes:
    """Script net, in eval mode on the CPU, in a process of its own.

    torch names the classes of a file by what the process has scripted before, and orders their constants by
    the hashes of strings: only a fresh process with a fixed hash seed writes the same bytes again.
    """
    weights = safetensors.numpy.save(
        {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    )
    scripted = subprocess.run(  # noqa: S603 # this module, no shell
        [sys.executable, "-m", __name__],
        input=weights,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        check=True,
    )
    return scripted.stdout


def load_torchscript(content: bytes) -> torch.jit.ScriptModule:
    """Load what to_torchscript wrote; loading TorchScript executes code, so never do it to a stranger's file."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call] # torch's
    return module


def check_code(content: bytes, net: ScaledNet) -> None:
    """Hold a file, before anything loads it, to what this torch writes for net: loading executes its code.

    The values of its tensors, which are only read, are left to the structural proof.

    Raises:
        ProofError: another archive, or other code, structure or constants.
    """
    expected, found = _entries(to_torchscript(net)), _entries(content)
    for name in sorted(expected.keys() | found.keys()):
        wanted, read = expected.get(name), found.get(name)
        if "/data/" in name and wanted and read:
            wanted, read = bytes(len(wanted)), bytes(len(read))
        if wanted != read:
            raise ProofError(
                f"{TORCHSCRIPT}: {name} is not what torch {torch.__version__} writes for this network"
            )
    if _rezip(content) != content:  # two readers might see two archives
        raise ProofError(f"{TORCHSCRIPT}: expected an archive as export writes it, found another")


def _entries(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            compressed = [
                entry.filename
                for entry in archive.infolist()
                if entry.compress_type != zipfile.ZIP_STORED
            ]
            if compressed or len(names) != len(set(names)):
                raise ProofError(f"{TORCHSCRIPT}: holds a compressed entry or one name twice")
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise ProofError(f"{TORCHSCRIPT}: not an archive: {error}") from None


def _script(net: ScaledNet) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.save(torch.jit.script(net), buffer)
    return buffer.getvalue()


def _rezip(content: bytes) -> bytes:
    """Write the archive anew: no debug files, which hold this machine's paths, no compression, no times."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target,
    ):
        for entry in source.infolist():
            if entry.filename.endswith(".debug_pkl"):
                continue
            data = source.read(entry)
            if entry.filename.endswith("/.data/serialization_id"):
                data = SERIALIZATION_ID
            info = zipfile.ZipInfo(entry.filename, EPOCH)
            header = out.tell() + LOCAL_HEADER + len(info.filename.encode())
            # The padding is an extra field as torch writes it: the tag "FB", a length, and as many bytes.
            padding = -(header + 4) % ALIGNMENT
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            target.writestr(info, data)
    return out.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(
        _rezip(_script(net_from_weights(safetensors.numpy.load(sys.stdin.buffer.read()))))
    )
