"""The device, the threads and the processes of a fit."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import distributed

from model.errors import DataError
from model.fit.batches import ProcessShare
from model.net import TwoLayerNet

CORES = torch.get_num_threads()
"""Number of threads torch chose at import: the processor's cores, or OMP_NUM_THREADS."""
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


def thread_count(net: TwoLayerNet, batch_size: int, max_threads: int) -> int:
    """Return the number of threads for a step, at most max_threads.

    The number depends only on shapes and max_threads, which makes runs repeatable bit for bit. Too
    many threads slow a small step down, most of all on shared cores (docs/training.md).
    """
    products = batch_size * (net.linear1.weight.numel() + net.linear2.weight.numel())
    return min(max_threads, 1 + products // PRODUCTS_PER_THREAD)
