"""model.batches: every row once an epoch, and weights by which the shares of several processes make one whole."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.fit import batches
from model.fit.batches import Batches, ProcessShare, Rows
from model.fit.step import Step, cross_entropy, squared_error
from model.net import TwoLayerNet

CLASS_WEIGHTS = (0.5, 1.0, 4.0)


@dataclass(frozen=True)
class Case:
    """Rows, and how they are cut."""

    count: int = 23
    in_features: int = 2
    batch_size: int = 5
    classification: bool = False
    mean: bool = True
    class_weights: bool = False
    chunk_floats: int = batches.MAX_CHUNK_VALUES
    out_features: int = 3

    @property
    def rows(self) -> Rows:
        """Rows whose first feature is their number, and whose target follows from it."""
        number = torch.arange(self.count)
        x = number[:, None].float().repeat(1, self.in_features)
        y = (
            number % self.out_features
            if self.classification
            else number[:, None] + torch.arange(self.out_features) / 4
        )
        return x, y if self.classification else y.float()

    @property
    def weights(self) -> Tensor | None:
        """What each class counts."""
        return torch.tensor(CLASS_WEIGHTS) if self.class_weights and self.classification else None

    def make(self, share: ProcessShare | None = None, rows: Rows | None = None) -> Batches:
        """Cut the rows."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "MAX_CHUNK_VALUES", self.chunk_floats)
            return Batches(
                rows or self.rows,
                self.out_features,
                self.batch_size,
                mean=self.mean,
                class_weights=self.weights,
                share=share,
            )


@dataclass(frozen=True)
class Seen:
    """One batch, copied out of its buffers."""

    numbers: list[int]
    x: Tensor
    target: Tensor
    """(batch, out_features)."""
    weight: Tensor
    """(batch,)."""


def epoch(made: Batches, order: torch.Generator) -> list[Seen]:
    """Draw one epoch."""
    return [
        Seen(
            batch.x[:, 0].long().tolist(),
            batch.x.clone(),
            batch.target.t().clone(),
            batch.weight[0].clone(),
        )
        for chunk in made.epoch(order)
        for batch in chunk
    ]


def seeded(seed: int = 0) -> torch.Generator:
    """Make the generator of a fit."""
    return torch.Generator().manual_seed(seed)


cases = st.builds(
    Case,
    count=st.integers(1, 60),
    in_features=st.integers(1, 3),
    batch_size=st.integers(1, 70),
    classification=st.booleans(),
    mean=st.booleans(),
    class_weights=st.booleans(),
    chunk_floats=st.integers(1, 200),
)


@given(case=cases)
@settings(deadline=None)
def test_every_row_once_in_the_generators_order(case: Case) -> None:
    """Two epochs are two permutations drawn from the generator and nothing else; only the last batch is smaller."""
    made, order, expected = case.make(), seeded(), seeded()
    x, y = case.rows
    for _ in range(2):
        seen = epoch(made, order)
        torch.rand(3)  # from the global generator, which has no part in it
        numbers = [number for batch in seen for number in batch.numbers]
        if case.batch_size >= case.count:
            assert list(range(case.count)) == numbers
        else:
            assert torch.randperm(case.count, generator=expected).tolist() == numbers
        full, rest = divmod(case.count, min(case.batch_size, case.count))
        assert [min(case.batch_size, case.count)] * full + [rest] * bool(rest) == [
            len(batch.x) for batch in seen
        ]
        assert made.steps == len(seen)
        for batch in seen:
            assert torch.equal(x[batch.numbers], batch.x)
            targets = (
                torch.eye(case.out_features)[y[batch.numbers]]
                if case.classification
                else y[batch.numbers]
            )
            assert torch.equal(targets, batch.target)
    assert torch.equal(expected.get_state(), order.get_state())


@given(case=cases)
@settings(deadline=None)
def test_weights(case: Case) -> None:
    """Rows count alike, or as their class; in a mean they add up to 1, or to 1 / out_features for each element."""
    made = case.make()
    for batch in epoch(made, seeded()):
        counts = torch.ones(len(batch.x))
        if case.weights is not None:
            counts = case.weights[case.rows[1][batch.numbers]]
        if case.mean:
            counts = counts / counts.sum() / (1 if case.classification else case.out_features)
        torch.testing.assert_close(counts, batch.weight)


@given(case=cases)
@settings(deadline=None)
def test_shares_of_the_epochs_loss(case: Case) -> None:
    """The steps' losses add up to the mean over all rows' elements, weighted by class where a step's is a sum."""
    assume(case.weights is None or not case.mean)  # a mean of weighted means is another
    made = case.make()
    row_loss = torch.arange(case.count) + 1.0
    losses = torch.stack(
        [(row_loss[batch.numbers] * batch.weight).sum() for batch in epoch(made, seeded())]
    )
    counts = torch.ones(case.count) if case.weights is None else case.weights[case.rows[1]]
    elements = 1 if case.classification else case.out_features
    expected = (row_loss * counts).sum() / counts.sum() / elements
    torch.testing.assert_close(expected, losses @ made.epoch_weights, rtol=1e-5, atol=0)


@given(case=cases, processes=st.integers(1, 5))
@settings(deadline=None)
def test_shares_of_several_processes_are_the_whole(case: Case, processes: int) -> None:
    """Put together they are the batch that one process takes, bit for bit, weights too; none has a row of another's."""
    whole = epoch(case.make(), seeded())
    parts = [epoch(case.make(ProcessShare(rank, processes)), seeded()) for rank in range(processes)]
    assert [len(whole)] * processes == [len(part) for part in parts]
    for expected, *found in zip(whole, *parts, strict=True):
        assert expected.numbers == [number for part in found for number in part.numbers]
        assert torch.equal(expected.x, torch.cat([part.x for part in found]))
        assert torch.equal(expected.target, torch.cat([part.target for part in found]))
        assert torch.equal(expected.weight, torch.cat([part.weight for part in found]))
        sizes = [len(part.x) for part in found]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 23])
@pytest.mark.parametrize(
    ("classification", "class_weights", "mean"),
    [
        (False, False, True),
        (False, False, False),
        (True, False, True),
        (True, True, True),
        (True, True, False),
    ],
)
@pytest.mark.usefixtures("float64")
def test_gradients_of_the_shares_add_up(
    classification: bool, class_weights: bool, mean: bool, batch_size: int, processes: int
) -> None:
    """Loss and gradient of the whole are the sums of the shares', in float64 to 1e-12, also where a share is empty."""
    case = Case(
        classification=classification, class_weights=class_weights, mean=mean, batch_size=batch_size
    )
    torch.manual_seed(0)
    rows = (
        torch.randn(case.count, 2),
        case.rows[1] if classification else torch.randn(case.count, 3),
    )
    step = Step(TwoLayerNet(2, 6, 3), cross_entropy if classification else squared_error)

    def reduced(share: ProcessShare) -> list[Tensor]:
        found = []
        for chunk in case.make(share, rows).epoch(seeded()):
            for batch in chunk:
                step.differentiate(batch, step.reduced[-1])
                found.append(step.reduced.clone())
        return found

    whole = torch.stack(reduced(ProcessShare()))
    parts = torch.stack(
        [torch.stack(reduced(ProcessShare(rank, processes))) for rank in range(processes)]
    )
    if batch_size < processes:
        assert (parts == 0).all(2).any(), "a share should have been empty"
    torch.testing.assert_close(whole, parts.sum(0), rtol=1e-12, atol=1e-12)


@given(rows=st.integers(0, 1000), processes=st.integers(1, 9))
def test_shares_cut_a_batch_without_gap(rows: int, processes: int) -> None:
    """Each begins where the one before ends."""
    cuts = [ProcessShare(rank, processes).of(rows) for rank in range(processes)]
    assert [0, *(end for _, end in cuts)] == [*(begin for begin, _ in cuts), rows]


@pytest.mark.parametrize("batch_size", [23, 24, 1000])
def test_one_batch_of_all_rows_draws_no_order(batch_size: int) -> None:
    """Their order does not matter: the generator is not touched, and the batch is gathered once for all epochs."""
    order = seeded()
    made = Case(batch_size=batch_size).make()
    for _ in range(2):
        (batch,) = epoch(made, order)
        assert list(range(23)) == batch.numbers
    assert torch.equal(seeded().get_state(), order.get_state())


def test_chunks_do_not_change_the_batches() -> None:
    """However few batches are gathered at once, they are the same, through buffers of the same addresses."""
    expected = epoch(Case().make(), seeded())
    for chunk_floats, chunks in ((1, 5), (20, 3), (1000, 2)):
        made = Case(chunk_floats=chunk_floats).make()
        assert chunks == len(made.chunks)
        found = epoch(made, seeded())
        for left, right in zip(expected, found, strict=True):
            assert torch.equal(left.x, right.x)
            assert torch.equal(left.target, right.target)
            assert torch.equal(left.weight, right.weight)
        addresses = [[batch.x.data_ptr() for batch in chunk] for chunk in made.epoch(seeded())]
        assert addresses == [
            [batch.x.data_ptr() for batch in chunk] for chunk in made.epoch(seeded(1))
        ]
