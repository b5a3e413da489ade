"""Batches of shuffled training rows, gathered from memory into preallocated buffers.

A chunk is several batches of one size that are gathered at once. With several processes, each takes
its share of every batch, and the losses and gradients of the shares add up to those of the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.fit.step import Batch

MAX_CHUNK_VALUES = 1 << 18
"""Maximum number of feature values in a chunk on the CPU, small enough for its caches."""
MAX_CHUNK_PRODUCTS = 1 << 30
"""Maximum number of multiplications in the forward passes of a chunk on the CPU, about 0.1 s.

Checkpoints are saved and signals are handled between two chunks.
"""
MAX_CHUNK_BATCHES = 256
"""Maximum number of batches in a chunk; on a GPU, one CUDA graph captures a chunk's steps."""
Rows = tuple[Tensor, Tensor]
"""Standardised rows, (rows, in_features) float32, and their targets.

Targets are (rows, out_features) float32 for a regression, else class indices, (rows,) int64.
"""


@dataclass(frozen=True)
class ProcessShare:
    """The part of every batch that one process takes."""

    rank: int = 0
    processes: int = 1

    def bounds(self, batch: int) -> tuple[int, int]:
        """Return the start and the end of this share in a batch of `batch` rows."""
        return batch * self.rank // self.processes, batch * (self.rank + 1) // self.processes


class Chunk:
    """Buffers for this process's share of several batches of one size."""

    def __init__(
        self, batches: int, batch_size: int, share: ProcessShare, rows: Rows, out_features: int
    ) -> None:
        """Allocate the buffers on the device of rows; batch_size is the total of all processes."""
        x, y = rows
        start, end = share.bounds(batch_size)
        share_size = end - start
        self.size = batches * batch_size
        positions = torch.arange(self.size, device=x.device).view(batches, batch_size)
        own = positions[:, start:end].reshape(-1)  # (batches * share_size,)
        self.own_positions = own if len(own) < self.size else slice(None)
        self.x = torch.empty(batches, share_size, x.shape[1], device=x.device)
        self.y = torch.empty(len(own), *y.shape[1:], dtype=y.dtype, device=x.device)
        self.target = torch.empty(batches, out_features, share_size, device=x.device)
        self.weight = torch.empty(batches, 1, share_size, device=x.device)
        self.batches = list(map(Batch, self.x, self.target, self.weight))


class Batches:
    """The training rows, which each epoch yields once as shuffled batches."""

    def __init__(
        self,
        rows: Rows,
        out_features: int,
        batch_size: int,
        *,
        mean: bool = True,
        class_weights: Tensor | None = None,
        share: ProcessShare | None = None,
        row_products: int = 1,
    ) -> None:
        """Allocate the buffers; batch_size is the number of rows per step, over all processes.

        If `mean`, the loss of a batch is the mean over its elements (squared error) or its rows
        (cross-entropy, weighted by class), otherwise the sum of the losses. class_weights is
        (classes,) float32, or None for equal weights. By default, the share is the whole batch.
        row_products is the number of multiplications in the forward pass of a row.
        """
        self.rows, self.mean, self.class_weights = rows, mean, class_weights
        x, y = rows
        count = len(x)
        batch_size = min(batch_size, count)
        full, rest = divmod(count, batch_size)
        limit = MAX_CHUNK_BATCHES
        if not x.is_cuda:
            row_limits = MAX_CHUNK_VALUES // x.shape[1], MAX_CHUNK_PRODUCTS // row_products
            limit = max(1, min(limit, *(row_limit // batch_size for row_limit in row_limits)))
        sizes = [(min(limit, full - start), batch_size) for start in range(0, full, limit)]
        sizes += [(1, rest)] * bool(rest)
        share = share or ProcessShare()
        chunks = {size: Chunk(*size, share, rows, out_features) for size in set(sizes)}
        self.chunks = [chunks[size] for size in sizes]
        self.steps = full + bool(rest)
        """Number of steps in an epoch."""
        if mean:
            weights = [size / count for batches, size in sizes for _ in range(batches)]
        else:
            total = y.numel() if class_weights is None else float(class_weights[y].sum())
            weights = [1 / total] * self.steps
        self.epoch_weights = torch.tensor(weights, device=x.device)
        """Weight of each step's loss in the mean loss of the epoch, (steps,)."""
        if self.steps == 1:
            self._fill(self.chunks[0], torch.arange(count, device=x.device))

    def epoch(self, order: torch.Generator, skip: int = 0) -> Iterator[Sequence[Batch]]:
        """Yield every row once, one chunk of batches at a time, without the first `skip` batches.

        The generator `order` is on the CPU, so the shuffled order does not depend on the device. If
        one batch holds all rows, their order does not matter, and nothing is drawn.
        """
        if self.steps == 1:
            if not skip:
                yield self.chunks[0].batches
            return
        shuffled = torch.randperm(len(self.rows[0]), generator=order).to(self.rows[0].device)
        parts = torch.split(shuffled, [chunk.size for chunk in self.chunks])
        for chunk, indices in zip(self.chunks, parts, strict=True):
            if skip < len(chunk.batches):
                self._fill(chunk, indices)
                yield chunk.batches[skip:]
            skip = max(0, skip - len(chunk.batches))

    def _fill(self, chunk: Chunk, indices: Tensor) -> None:
        """Gather a chunk; indices, (chunk.size,), are the rows of all processes."""
        x, y = self.rows
        own_indices = indices[chunk.own_positions]
        batches, out_features, share_size = chunk.target.shape
        torch.index_select(x, 0, own_indices, out=chunk.x.view(-1, x.shape[1]))
        torch.index_select(y, 0, own_indices, out=chunk.y)
        batch_size = chunk.size // batches
        if y.dtype != torch.int64:
            values = chunk.y.view(batches, share_size, out_features)
            chunk.target.copy_(values.transpose(1, 2))
            chunk.weight.fill_(1 / (batch_size * out_features) if self.mean else 1)
            return
        chunk.target.zero_().scatter_(1, chunk.y.view(batches, 1, share_size), 1)
        if self.class_weights is None:
            chunk.weight.fill_(1 / batch_size if self.mean else 1)
            return
        chunk.weight.copy_(self.class_weights[chunk.y].view(batches, 1, share_size))
        if self.mean:
            # The mean is over the rows of all processes, not only those of this share.
            row_weights = self.class_weights[y[indices]].view(batches, 1, batch_size)
            chunk.weight.div_(row_weights.sum(2, keepdim=True))


def sequential_batches(
    rows: Rows, out_features: int, size: int, class_weights: Tensor | None = None
) -> list[Batch]:
    """Split rows into consecutive batches of at most `size` rows, without a copy of x.

    The losses of the batches add up to the mean over all elements (squared error) or to the
    weighted mean over all rows (cross-entropy).
    """
    x, y = rows
    if y.dtype == torch.int64:
        target = torch.zeros(out_features, len(x), device=x.device).scatter_(0, y[None], 1)
        ones = torch.ones(1, len(x), device=x.device)
        weight = ones if class_weights is None else class_weights[y][None]
        weight = weight / weight.sum()
    else:
        target, weight = y.t().contiguous(), torch.full((1, len(x)), 1 / y.numel(), device=x.device)
    columns = torch.split(target, size, 1), torch.split(weight, size, 1)
    return list(map(Batch, torch.split(x, size), *columns))
