"""Tests of model.fit.batches: the order, the weights and the shares of rows."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.fit import batches
from model.fit.batches import Batches, ProcessShare, Rows

CLASS_WEIGHTS = torch.tensor([0.5, 1.0, 4.0])


@dataclass(frozen=True)
class Case:
    """Parameters of generated rows and of their batches."""

    count: int = 23
    in_features: int = 2
    batch_size: int = 5
    classification: bool = False
    mean: bool = True
    weighted: bool = False
    chunk_values: int = batches.MAX_CHUNK_VALUES
    out_features: int = 3

    @property
    def rows(self) -> Rows:
        """Rows whose features are the row number, and whose target is a function of it."""
        number = torch.arange(self.count)
        x = number[:, None].float().repeat(1, self.in_features)
        if self.classification:
            return x, number % self.out_features
        return x, number[:, None] + torch.arange(self.out_features) / 4

    @property
    def class_weights(self) -> Tensor | None:
        """Class weights, (classes,), or None."""
        return CLASS_WEIGHTS if self.weighted else None

    def make(self, share: ProcessShare | None = None) -> Batches:
        """Return the batches of the rows."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "MAX_CHUNK_VALUES", self.chunk_values)
            return Batches(
                self.rows,
                self.out_features,
                self.batch_size,
                mean=self.mean,
                class_weights=self.class_weights,
                share=share,
            )


@dataclass(frozen=True)
class BatchCopy:
    """Copy of one batch, needed because every epoch reuses the buffers of its batches."""

    numbers: list[int]
    x: Tensor
    target: Tensor
    """Targets, (batch, out_features)."""
    weight: Tensor
    """Row weights, (batch,)."""


def new_order(seed: int = 0) -> torch.Generator:
    """Return the random generator that orders the rows."""
    return torch.Generator().manual_seed(seed)


def draw_epoch(drawn: Batches, order: torch.Generator | None = None) -> list[BatchCopy]:
    """Return copies of the batches of one epoch."""
    return [
        BatchCopy(
            batch.x[:, 0].long().tolist(),
            batch.x.clone(),
            batch.target.t().clone(),
            batch.weight[0].clone(),
        )
        for chunk in drawn.epoch(order or new_order())
        for batch in chunk
    ]


cases = st.builds(
    Case,
    count=st.integers(1, 60),
    in_features=st.integers(1, 3),
    batch_size=st.integers(1, 70),
    classification=st.booleans(),
    mean=st.booleans(),
    chunk_values=st.integers(1, 200),
).flatmap(
    lambda case: st.builds(
        dataclasses.replace,
        st.just(case),
        weighted=st.booleans() if case.classification else st.just(False),
    )
)


@given(case=cases)
@settings(deadline=None)
def test_every_row_once_in_the_order_of_the_generator(case: Case) -> None:
    """Each epoch is a permutation drawn from the generator, and only its last batch is smaller.

    If one batch holds all rows, they keep their order and nothing is drawn.
    """
    drawn, order, expected = case.make(), new_order(), new_order()
    x, y = case.rows
    for _ in range(2):
        epoch = draw_epoch(drawn, order)
        torch.rand(3)  # must not matter, as it uses the global generator
        numbers = [number for batch in epoch for number in batch.numbers]
        if case.batch_size >= case.count:
            assert list(range(case.count)) == numbers
        else:
            assert torch.randperm(case.count, generator=expected).tolist() == numbers
        full, rest = divmod(case.count, min(case.batch_size, case.count))
        sizes = [min(case.batch_size, case.count)] * full + [rest] * bool(rest)
        assert sizes == [len(batch.x) for batch in epoch]
        assert drawn.steps == len(epoch)
        for batch in epoch:
            assert torch.equal(x[batch.numbers], batch.x)
            targets = y[batch.numbers]
            if case.classification:
                targets = torch.eye(case.out_features)[targets]
            assert torch.equal(targets, batch.target)
    assert torch.equal(expected.get_state(), order.get_state())


@given(case=cases)
@settings(deadline=None)
def test_row_weights(case: Case) -> None:
    """Row weights are all 1 or the class weights; for a mean, they are divided by their sum."""
    for batch in draw_epoch(case.make()):
        weights = torch.ones(len(batch.x))
        if case.class_weights is not None:
            weights = case.class_weights[case.rows[1][batch.numbers]]
        if case.mean:
            weights = weights / weights.sum() / (1 if case.classification else case.out_features)
        torch.testing.assert_close(weights, batch.weight)


@given(case=cases)
@settings(deadline=None)
def test_epoch_weights(case: Case) -> None:
    """Step losses times epoch_weights add up to the class-weighted mean over all elements."""
    assume(not case.weighted or not case.mean)  # weighted batch means do not average to the mean
    drawn = case.make()
    row_losses = torch.arange(case.count) + 1.0
    losses = [(row_losses[batch.numbers] * batch.weight).sum() for batch in draw_epoch(drawn)]
    weights = torch.ones(case.count)
    if case.class_weights is not None:
        weights = case.class_weights[case.rows[1]]
    elements = 1 if case.classification else case.out_features
    expected = (row_losses * weights).sum() / weights.sum() / elements
    actual = torch.stack(losses) @ drawn.epoch_weights
    torch.testing.assert_close(expected, actual, rtol=1e-5, atol=0)


@given(case=cases, processes=st.integers(1, 5))
@settings(deadline=None)
def test_shares_are_a_partition(case: Case, processes: int) -> None:
    """The concatenated shares of all processes equal the whole batch, bit for bit."""
    whole = draw_epoch(case.make())
    shares = [draw_epoch(case.make(ProcessShare(rank, processes))) for rank in range(processes)]
    for expected, *parts in zip(whole, *shares, strict=True):
        assert expected.numbers == [number for part in parts for number in part.numbers]
        for name in ("x", "target", "weight"):
            together = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(getattr(expected, name), together)
        sizes = [len(part.x) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("chunk_values", "chunks"), [(1, 5), (20, 3), (1000, 2)])
def test_chunks_share_their_buffers(chunk_values: int, chunks: int) -> None:
    """Every epoch gathers its batches, one chunk at a time, into the same buffers."""
    drawn = Case(chunk_values=chunk_values).make()
    assert chunks == len(drawn.chunks)
    first, second = (
        [[batch.x.data_ptr() for batch in chunk] for chunk in drawn.epoch(new_order(seed))]
        for seed in (0, 1)
    )
    assert first == second
