"""Rows in memory, handed out as shuffled batches through buffers that are made once: no DataLoader.

A chunk is a few batches of one size, gathered at once. With several processes each hands out its share of every batch,
weighted so that the shares' losses and gradients add up to the whole batch's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from model.fit.step import Batch

MAX_CHUNK_VALUES = 1 << 18
"""Values of x in a chunk on the CPU: as much as its caches hold."""
MAX_CHUNK_BATCHES = 256
"""On a GPU: steps that are captured as one graph."""
Rows = tuple[Tensor, Tensor]
"""Standardised rows (rows, in_features) float32, with targets (rows, out_features) float32 or classes (rows,) int64."""


@dataclass(frozen=True)
class ProcessShare:
    """Which part of every batch this process takes."""

    rank: int = 0
    processes: int = 1

    def of(self, batch: int) -> tuple[int, int]:
        """Return where the share of `batch` rows begins and ends."""
        return batch * self.rank // self.processes, batch * (self.rank + 1) // self.processes


class Chunk:
    """Buffers for so many batches of so many rows each."""

    def __init__(
        self, batches: int, whole: int, share: ProcessShare, rows: Rows, out_features: int
    ) -> None:
        x, y = rows
        begin, end = share.of(whole)
        self.size = batches * whole  # rows of all processes
        mine = (
            torch.arange(self.size, device=x.device).view(batches, whole)[:, begin:end].reshape(-1)
        )
        self.mine = mine if len(mine) < self.size else slice(None)
        self.x = torch.empty(batches, end - begin, x.shape[1], device=x.device)
        self.y = torch.empty(len(mine), *y.shape[1:], dtype=y.dtype, device=x.device)
        self.target = torch.empty(batches, out_features, end - begin, device=x.device)
        self.weight = torch.empty(batches, 1, end - begin, device=x.device)
        self.batches = [
            Batch(*tensors) for tensors in zip(self.x, self.target, self.weight, strict=True)
        ]


class Batches:
    """The training rows as batches, epoch after epoch."""

    def __init__(
        self,
        rows: Rows,
        out_features: int,
        batch_size: int,
        *,
        mean: bool = True,
        class_weights: Tensor | None = None,
        share: ProcessShare | None = None,
    ) -> None:
        """Prepare buffers for the rows.

        Args:
            rows: what train.fit() takes.
            out_features: width of the network's last layer.
            batch_size: rows of a step, of all processes together.
            mean: whether a batch's loss is the mean over its elements (squared error) or rows (cross-entropy), which
                class weights make a weighted mean; else the sum.
            class_weights: (classes,) float32.
            share: this process's part of each batch; all of it unless told.
        """
        self.rows, self.mean, self.class_weights = rows, mean, class_weights
        x, y = rows
        count = len(x)
        batch_size = min(batch_size, count)
        full, rest = divmod(count, batch_size)
        most = (
            MAX_CHUNK_BATCHES
            if x.is_cuda
            else max(1, MAX_CHUNK_VALUES // (batch_size * x.shape[1]))
        )
        sizes = [(min(most, full - done), batch_size) for done in range(0, full, most)] + [
            (1, rest)
        ] * bool(rest)
        made = {key: Chunk(*key, share or ProcessShare(), rows, out_features) for key in set(sizes)}
        self.chunks = [made[key] for key in sizes]
        self._ends = list(accumulate((chunk.size for chunk in self.chunks), initial=0))
        self.steps = full + bool(rest)
        """Steps of an epoch."""
        weights = [whole / count for batches, whole in sizes for _ in range(batches)]
        total = y.numel() if class_weights is None else float(class_weights[y].sum())
        self.epoch_weights = torch.tensor(
            weights if mean else [1 / total] * self.steps, device=x.device
        )
        """(steps,): what each step's loss counts in the epoch's mean loss."""
        if self.steps == 1:
            self._fill(self.chunks[0], torch.arange(count, device=x.device))

    def epoch(self, order: torch.Generator) -> Iterator[Sequence[Batch]]:
        """Hand out every row once, in an order drawn from the generator, a chunk of batches at a time.

        The generator is on the CPU, so that the order does not depend on the device. Where one batch holds all
        rows their order does not matter, and none is drawn.
        """
        if self.steps == 1:
            yield self.chunks[0].batches
            return
        shuffled = torch.randperm(len(self.rows[0]), generator=order).to(self.rows[0].device)
        for chunk, (begin, end) in zip(self.chunks, pairwise(self._ends), strict=True):
            self._fill(chunk, shuffled[begin:end])
            yield chunk.batches

    def _fill(self, chunk: Chunk, rows: Tensor) -> None:
        x, y = self.rows
        mine = rows[chunk.mine]
        batches, out_features, size = chunk.target.shape
        torch.index_select(x, 0, mine, out=chunk.x.view(-1, x.shape[1]))
        torch.index_select(y, 0, mine, out=chunk.y)
        whole = chunk.size // batches
        if y.dtype != torch.int64:
            chunk.target.copy_(chunk.y.view(batches, size, out_features).transpose(1, 2))
            chunk.weight.fill_(1 / (whole * out_features) if self.mean else 1)
            return
        chunk.target.zero_().scatter_(1, chunk.y.view(batches, 1, size), 1)
        if self.class_weights is None:
            chunk.weight.fill_(1 / whole if self.mean else 1)
            return
        chunk.weight.copy_(self.class_weights[chunk.y].view(batches, 1, size))
        if self.mean:
            totals = (
                self.class_weights[y[rows]].view(batches, 1, whole).sum(2, keepdim=True)
            )  # over all processes
            chunk.weight.div_(totals)


def sequential_batches(
    rows: Rows, out_features: int, size: int, class_weights: Tensor | None = None
) -> list[Batch]:
    """Cut rows into batches of at most `size`, as they stand and without a copy of x.

    Their losses add up to the mean over elements (squared error), or to the weighted mean over rows (cross-entropy).
    """
    x, y = rows
    if y.dtype == torch.int64:
        target = torch.zeros(out_features, len(x), device=x.device).scatter_(0, y[None], 1)
        weight = (
            torch.ones(1, len(x), device=x.device)
            if class_weights is None
            else class_weights[y][None]
        )
        weight = weight / weight.sum()
    else:
        target, weight = y.t().contiguous(), torch.full((1, len(x)), 1 / y.numel(), device=x.device)
    cuts = (torch.split(values, size, dim) for values, dim in ((x, 0), (target, 1), (weight, 1)))
    return [Batch(*tensors) for tensors in zip(*cuts, strict=True)]
