"""Export a network as model.torchscript.pt, with equal bytes for equal networks.

The network is scripted but not frozen, because a frozen module has no parameters to compare.
PyTorch deprecates TorchScript, and does not support it on Python 3.14 and newer. Its warnings are
ignored, because torch.jit still works there.
"""

import functools
import io
import os
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import safetensors.numpy
import torch

from export.errors import ProofError
from model.net import ScaledNet
from model.run import net_from_weights
from service.artifact.manifest import TORCHSCRIPT

TORCH = f"torch {torch.__version__}"
"""Installed version of torch, for error messages."""
SERIALIZATION_ID = b"0" * 40
"""Replacement for the serialization id of torch, which depends on source paths."""
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every zip entry: the earliest that the format can express."""
LOCAL_HEADER_BYTES = 30
"""Number of bytes of a zip entry's header before its name."""
ALIGNMENT_BYTES = 64
"""Alignment of every entry in bytes, which lets torch memory-map tensors from the file."""


def to_torchscript(net: ScaledNet) -> bytes:
    """Return model.torchscript.pt for a network; raise ProofError if torch cannot write it.

    Class names in the file depend on what the process has scripted before, and the constants' order
    depends on string hashes. A new process with a fixed hash seed makes both constant.
    """
    tensors = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    process = subprocess.run(  # noqa: S603 # this module, no shell
        [sys.executable, "-m", __name__],
        input=safetensors.numpy.save(tensors),
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        start_new_session=True,  # Ctrl-C interrupts run(), which then kills the new process.
    )
    if process.returncode:
        reason = (process.stderr.decode(errors="replace").splitlines() or ["no message"])[-1]
        problem = f"{TORCH} cannot write TorchScript on Python {sys.version.split()[0]}"
        raise ProofError(f"{TORCHSCRIPT}: {problem}: {reason}")
    return process.stdout


def load_torchscript(content: bytes) -> torch.jit.ScriptModule:
    """Load model.torchscript.pt or raise ProofError. This runs its code: call check_code first."""
    try:
        with _ignore_torch_jit_warnings():
            module: torch.jit.ScriptModule = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call] # torch's
    except Exception as error:  # The exceptions of torch.jit have no common base class.
        reason = (str(error).splitlines() or ["no message"])[0]
        raise ProofError(f"{TORCHSCRIPT}: {TORCH} cannot load it: {reason}") from None
    return module


def check_code(content: bytes, net: ScaledNet) -> None:
    """Raise ProofError unless model.torchscript.pt has the code that torch writes for a network.

    All entries are compared except the values of tensors, which the structural proof compares.
    """
    shapes = tuple((name, tuple(tensor.shape)) for name, tensor in net.state_dict().items())
    expected, entries = _expected_entries(shapes), _code_entries(content)
    for name in sorted(expected.keys() | entries.keys()):
        if expected.get(name) != entries.get(name):
            raise ProofError(f"{TORCHSCRIPT}: {name} is not what {TORCH} writes for this network")
    if rezip(content) != content:  # Zip readers may disagree about the contents of the archive.
        raise ProofError(f"{TORCHSCRIPT}: expected the zip layout that export writes")


@functools.lru_cache(maxsize=16)
def _expected_entries(shapes: tuple[tuple[str, tuple[int, ...]], ...]) -> dict[str, bytes | int]:
    """Return the entries that torch writes for a network with tensors of these shapes."""
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes}
    return _code_entries(to_torchscript(net_from_weights(zeros)))


def _code_entries(content: bytes) -> dict[str, bytes | int]:
    """Return the contents of an archive by entry name, with the length in place of tensor data."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            stored = all(e.compress_type == zipfile.ZIP_STORED for e in archive.infolist())
            if not stored or len(names) != len(set(names)):
                raise ProofError(f"{TORCHSCRIPT}: expected uncompressed entries with unique names")
            entries = {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise ProofError(f"{TORCHSCRIPT}: not a zip archive: {error}") from None
    return {name: len(data) if "/data/" in name else data for name, data in entries.items()}


def script(module: torch.nn.Module) -> bytes:
    """Return the bytes that torch.jit writes for a module when called in this process."""
    buffer = io.BytesIO()
    with _ignore_torch_jit_warnings():
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def rezip(content: bytes) -> bytes:
    """Return an archive without times, compression, and debug files, which hold local paths."""
    out = io.BytesIO()
    source = zipfile.ZipFile(io.BytesIO(content))
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            if entry.filename.endswith(".debug_pkl"):
                continue
            is_id = entry.filename.endswith("/.data/serialization_id")
            data = SERIALIZATION_ID if is_id else source.read(entry)
            info = zipfile.ZipInfo(entry.filename, ZIP_EPOCH)
            header = out.tell() + LOCAL_HEADER_BYTES + len(info.filename.encode())
            # torch pads with an extra field: the tag "FB", the length, and that number of bytes.
            padding = -(header + 4) % ALIGNMENT_BYTES
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            target.writestr(info, data)
    return out.getvalue()


def _ignore_torch_jit_warnings() -> "warnings.catch_warnings[None]":
    """Ignore the warnings that torch.jit is deprecated or, from Python 3.14, not supported."""
    return warnings.catch_warnings(action="ignore", category=DeprecationWarning)


if __name__ == "__main__":
    weights = safetensors.numpy.load(sys.stdin.buffer.read())
    sys.stdout.buffer.write(rezip(script(net_from_weights(weights))))
