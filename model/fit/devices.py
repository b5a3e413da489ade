"""TODO: model.fit.devices."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import distributed

from model.errors import DataError
from model.fit.batches import ProcessShare
from model.net import TwoLayerNet

CORES = torch.get_num_threads()
"""What torch found when it was imported: the processor's cores, or OMP_NUM_THREADS."""
PRODUCTS_PER_THREAD = 1 << 24
"""Multiplications of a forward pass that are worth another thread."""


def process_share() -> ProcessShare:
    """Return this process's part of each batch: all of it, unless torchrun started several."""
    if distributed.is_initialized():
        return ProcessShare(distributed.get_rank(), distributed.get_world_size())
    return ProcessShare()


def find_device(name: str) -> torch.device:
    """Turn auto, cpu or cuda into a device; cuda without CUDA is an error, never a silent CPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise DataError(
            "device: cuda was asked for, and this PyTorch finds no CUDA device (use auto or cpu)"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[bool]:
    """Join the processes that torchrun started, if it did; yield whether this is the first of them."""
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


def thread_count(net: TwoLayerNet, batch_size: int, most: int) -> int:
    """Return how many threads a step deserves: a rule on shapes and cores, so that a run repeats bit for bit.

    A thread more than the work deserves slows a small step down, by far where cores are shared. The rule is read off
    `python bench/train.py threads`.
    """
    products = batch_size * (net.linear1.weight.numel() + net.linear2.weight.numel())
    return min(most, 1 + products // PRODUCTS_PER_THREAD)
