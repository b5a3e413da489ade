"""Exit codes and error messages of a group of commands."""

import signal
from collections.abc import Callable
from unittest.mock import Mock

import click
import numpy as np
import pytest
from click.testing import CliRunner

from cli.commands import CommandGroup


class Group(CommandGroup):
    """A command group that declares input errors, failures and an extra."""

    input_errors = (ValueError,)
    failure_errors = (AssertionError,)
    failure_prefix = "not published: "
    memory_advice = "use less"
    extra = "train"


def swallow(number: int) -> Callable[[], None]:
    """Return a function that replaces KeyboardInterrupt by another error, as some libraries do."""

    def swallow_interrupt() -> None:
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise RuntimeError("the engine has failed") from None

    return swallow_interrupt


def allocate() -> None:
    """Allocate more than the address space."""
    np.empty(1 << 57)


# The texts are those of PyTorch 2.13 and ONNX Runtime 1.27.
CPU_ERROR = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 512000000 bytes. Error code 12 (Cannot allocate memory)"
)
GPU_ERROR = RuntimeError(
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 9 GiB.\nSee"
)
RUNTIME_ERROR = Exception(
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"
)


@pytest.mark.parametrize(
    ("effect", "code", "line"),
    [
        (ValueError("t.csv: no\nrows"), 2, "t.csv: no rows"),
        (OSError(13, "Permission denied", "t.csv"), 2, "t.csv: Permission denied"),
        (OSError("the disk is full"), 2, "group: the disk is full"),
        (AssertionError("values differ"), 1, "not published: values differ"),
        (KeyboardInterrupt, 130, "interrupted; no incomplete files remain"),
        (swallow(signal.SIGINT), 130, "interrupted; no incomplete files remain"),
        (swallow(signal.SIGTERM), 143, "terminated; no incomplete files remain"),
        (MemoryError(), 2, "out of memory: use less"),
        (allocate, 2, "out of memory (an allocation of 1.00 EiB failed): use less"),
        (CPU_ERROR, 2, "out of memory (an allocation of 512000000 bytes failed): use less"),
        (GPU_ERROR, 2, "out of memory (an allocation of 20.00 GiB failed): use less"),
        (RUNTIME_ERROR, 2, "out of memory: use less"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            2,
            "out of memory: use less",
        ),
        (click.UsageError("no option 'out of memory'"), 2, "no option 'out of memory'"),
        (
            ModuleNotFoundError("No module", name="nowhere.inner"),
            2,
            "command needs nowhere: run make .venv/.train, or pip install '.[train]' "
            "in this checkout",
        ),
    ],
)
def test_errors_are_one_line(effect: object, code: int, line: str) -> None:
    """Bad input, a failed proof, a signal, too little memory and so on give no traceback."""
    command = click.Command("command", callback=Mock(side_effect=effect))
    group = Group(name="group", commands=[command])
    result = CliRunner().invoke(group, ["command"])
    assert code == result.exit_code
    assert f"Error: {line}" == result.output.splitlines()[-1]
    is_usage = isinstance(effect, click.UsageError)  # click then shows the usage first
    assert is_usage or len(result.output.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ModuleNotFoundError("No module", name="click.nowhere")]
)
def test_defects_keep_their_traceback(error: Exception) -> None:
    """An error that is not the user's fault keeps its traceback."""
    group = Group(commands=[click.Command("command", callback=Mock(side_effect=error))])
    with pytest.raises(type(error)):
        CliRunner().invoke(group, ["command"], catch_exceptions=False)
