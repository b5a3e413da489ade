"""The device, the arithmetic, the threads and the processes of a fit."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch
from torch import distributed

from cli.cores import available_cores
from model.errors import DataError
from model.fit.batches import ProcessShare
from model.net import TwoLayerNet

PRODUCTS_PER_THREAD = 1 << 24
"""Number of multiplications in a forward pass that warrants one additional thread."""


def process_share() -> ProcessShare:
    """Return this process's share of each batch; without torchrun, that is the whole batch."""
    if distributed.is_initialized():
        return ProcessShare(distributed.get_rank(), distributed.get_world_size())
    return ProcessShare()


def find_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda"; raise a DataError for "cuda" without CUDA."""
    if name == "cuda" and not torch.cuda.is_available():
        raise DataError("device: this PyTorch finds no CUDA device; use auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[bool]:
    """Join the processes that torchrun started, if any; yield whether this one is the first."""
    if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield True
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()


def first_process_values(values: Sequence[float], device: torch.device) -> list[float]:
    """Return the values of the first process, so that all processes take the same decisions."""
    if not distributed.is_initialized():
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(tensor, src=0)
    return tensor.tolist()


def largest_of_processes(value: int, device: torch.device) -> int:
    """Return the largest of the processes' values; each of them must call this."""
    if not distributed.is_initialized():
        return value
    tensor = torch.tensor(value, device=device)
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return int(tensor)


@contextlib.contextmanager
def float32_arithmetic(threads: int) -> Iterator[None]:
    """Compute in float32 with this number of threads, without TF32; restore torch's settings after.

    The program and TORCH_ALLOW_TF32_CUBLAS_OVERRIDE can permit TF32, which rounds the factors of
    matrix products to 11 bits. cuDNN's own permission concerns no operation of a fit.
    """
    # torch's annotations lack mkldnn.matmul and backends.fp32_precision.
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    precisions, previous_threads = [b.fp32_precision for b in backends], torch.get_num_threads()
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # The backends have different precisions, so there is no common one.
        precision = "highest"
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(previous_threads)
        torch.set_float32_matmul_precision(precision)
        for backend, value in zip(backends, precisions, strict=True):
            # A value that a backend inherited must not become its own.
            inherited = value == torch.backends.fp32_precision  # type: ignore[attr-defined]
            backend.fp32_precision = "none" if inherited else value


def max_threads() -> int:
    """Return the number of cores for this process, or OMP_NUM_THREADS if that is smaller.

    The processes that torchrun starts on one machine share its cores.
    """
    torchrun = distributed.is_torchelastic_launched()
    processes = int(os.environ["LOCAL_WORLD_SIZE"]) if torchrun else 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    cores = available_cores() // processes
    return max(1, min(cores, int(limit)) if limit.isdecimal() else cores)


def thread_count(net: TwoLayerNet, batch_size: int, max_threads: int) -> int:
    """Return the number of threads for a step, at most max_threads.

    The number depends only on shapes and max_threads, which makes runs repeatable bit for bit. Too
    many threads slow a small step down, most of all on shared cores (docs/training.md).
    """
    products = batch_size * (net.linear1.weight.numel() + net.linear2.weight.numel())
    return min(max_threads, 1 + products // PRODUCTS_PER_THREAD)
