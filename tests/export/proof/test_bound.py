"""Tests of export.proof.bound: rounding errors stay within the bound, which is not too wide."""

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.proof.bound import Float32Array, gamma, probable_gamma, reference
from export.proof.expected import expected_shapes

Weights = dict[str, Float32Array]


def network(
    seed: int, shape: tuple[int, int, int], *, regression: bool, magnitude: float = 1.0
) -> Weights:
    """Return random tensors of a network of shape (in, hidden, out)."""
    rng = np.random.default_rng(seed)
    shapes = expected_shapes("regression" if regression else "classification", *shape)
    return {
        name: (magnitude * rng.normal(size=size)).astype(np.float32)
        for name, size in shapes.items()
    }


def exact(weights: Weights, row: Float32Array) -> list[Fraction]:
    """Return the logits of a classifier or the outputs of a regressor in rational arithmetic."""
    rational = np.vectorize(lambda value: Fraction(float(value)), otypes=[object])
    w = {name: rational(values) for name, values in weights.items()}
    z = (rational(row) - w["shift"]) * w["scale"]
    a = w["net.linear1.weight"] @ z + w["net.linear1.bias"]
    v = w["net.linear2.weight"] @ (a * (a > 0)) + w["net.linear2.bias"]
    values = v * w["output_scale"] + w["output_shift"] if "output_scale" in w else v
    return list(values)


def sequential(terms: Float32Array) -> Float32Array:
    """Sum each row from left to right in float32."""
    total = np.zeros(len(terms), np.float32)
    for column in terms.T:
        total = total + column
    return total


def pairwise(terms: Float32Array) -> Float32Array:
    """Sum each row by pairwise summation in float32."""
    half = terms.shape[1] // 2
    return terms[:, 0] if not half else pairwise(terms[:, :half]) + pairwise(terms[:, half:])


ADDERS: dict[str, Callable[[Float32Array], Float32Array]] = {
    "sequential": sequential,
    "smallest first": lambda t: sequential(np.take_along_axis(t, np.abs(t).argsort(axis=1), 1)),
    "largest first": lambda t: sequential(np.take_along_axis(t, (-np.abs(t)).argsort(axis=1), 1)),
    "positive, then negative": lambda t: sequential(-np.sort(-t, axis=1)),
    "pairwise": pairwise,
}
"""Summation functions by name: the orders that runtimes use, and the least accurate ones."""


def in_float32(
    weights: Weights, row: Float32Array, add: Callable[[Float32Array], Float32Array]
) -> Float32Array:
    """Return the logits or outputs of one row, with every operation rounded to float32."""
    w = weights

    def layer(x: Float32Array, name: str) -> Float32Array:
        return add(np.column_stack([w[f"net.{name}.weight"] * x, w[f"net.{name}.bias"]]))

    with np.errstate(all="ignore"):
        z = (row - w["shift"]) * w["scale"]
        v = layer(np.maximum(layer(z, "linear1"), np.float32(0)), "linear2")
        return v * w["output_scale"] + w["output_shift"] if "output_scale" in w else v


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("order", [*ADDERS, "random"])
@given(seeds, shapes, st.booleans(), st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]))
@settings(max_examples=30, deadline=None)
def test_float32_in_any_order_stays_within_the_bound(
    order: str, seed: int, shape: tuple[int, int, int], regression: bool, magnitude: float
) -> None:
    """In every summation order, float32 differs from exact arithmetic by at most the bound."""
    weights = network(seed, shape, regression=regression)
    rng = np.random.default_rng(seed)
    rows = (magnitude * rng.normal(size=(3, shape[0]))).astype(np.float32)
    name = "output" if regression else "logits"
    expected = reference(weights, rows)
    for i in np.flatnonzero(expected.in_range):
        true = exact(weights, rows[i])
        shuffled = rng.permutation(shape[0] + 1), rng.permutation(shape[1] + 1)
        add = ADDERS.get(order, lambda t, s=shuffled: sequential(t[:, s[t.shape[1] != len(s[0])]]))
        actual = in_float32(weights, rows[i], add)
        assert np.isfinite(actual).all()
        for j, value in enumerate(true):
            bound = Fraction(float(expected.bounds[name][i, j]))
            assert abs(Fraction(float(actual[j])) - value) <= bound
            # The error of the float64 reference itself is negligible.
            assert abs(Fraction(float(expected.values[name][i, j])) - value) <= bound / 1000


@given(seeds, st.integers(1, 6), st.integers(2, 12), st.sampled_from([0.1, 3.0, 30.0]))
@settings(max_examples=60, deadline=None)
def test_softmax_of_shifted_logits_stays_within_the_bound(
    seed: int, hidden: int, classes: int, magnitude: float
) -> None:
    """If logits are off by almost their bound, the probabilities are within the bound for them."""
    weights = network(seed, (3, hidden, classes), regression=False, magnitude=magnitude)
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(3, 3)).astype(np.float32)
    expected = reference(weights, rows)
    corners = rng.choice([-1.0, 1.0], size=(3, classes))
    shifted = expected.values["logits"] + 0.99 * corners * expected.bounds["logits"]
    v = shifted.astype(np.float32)
    powers = np.exp(v - v.max(axis=1, keepdims=True))
    actual = powers / powers.sum(axis=1, keepdims=True, dtype=np.float32)
    decimals = np.vectorize(lambda value: Decimal(float(value)), otypes=[object])
    with localcontext(prec=60, Emin=-(10**9)):
        for i in np.flatnonzero(expected.in_range):
            logits = [Decimal(q.numerator) / q.denominator for q in exact(weights, rows[i])]
            exponentials = np.array([(logit - max(logits)).exp() for logit in logits], object)
            probabilities = exponentials / exponentials.sum()
            bounds = decimals(expected.bounds["probabilities"][i])
            assert (abs(decimals(actual[i]) - probabilities) <= bounds).all()
            # The error of the float64 reference itself is negligible.
            reference_error = decimals(expected.values["probabilities"][i]) - probabilities
            assert (abs(reference_error) <= bounds / 1000).all()


def test_probable_bound_is_smaller_and_holds_for_a_wide_layer() -> None:
    """For sums of 4096 terms the probable bound still holds and is under a tenth of the bound."""
    weights = network(5, (4096, 16, 2), regression=True)
    rows = np.random.default_rng(5).normal(size=(4, 4096)).astype(np.float32)
    certain, probable = reference(weights, rows), reference(weights, rows, probable_gamma)
    assert np.array_equal(certain.values["output"], probable.values["output"])
    assert (probable.bounds["output"] < certain.bounds["output"] / 10).all()
    for i, row in enumerate(rows):
        error = np.abs(
            in_float32(weights, row, sequential).astype(np.float64) - certain.values["output"][i]
        )
        assert (error <= probable.bounds["output"][i]).all()


def test_bound_of_a_small_network_is_a_few_roundings() -> None:
    """With one unit per layer, the bound is under ten units in the last place of the output."""
    weights = {n: np.ones_like(w) for n, w in network(0, (1, 1, 1), regression=True).items()}
    expected = reference(weights, np.array([[3.0]], np.float32))
    # ((3 - 1) * 1 * 1 + 1) * 1 + 1, then multiplied by output_scale 1, plus output_shift 1
    assert 5.0 == expected.values["output"][0, 0]
    assert expected.bounds["output"][0, 0] < 10 * 5 * 2**-24 * 2


def test_rows_that_may_overflow_are_out_of_range() -> None:
    """A row is in range only if no intermediate value can overflow float32."""
    weights = {n: np.ones_like(w) for n, w in network(0, (2, 2, 2), regression=False).items()}
    rows = [[1, 1], [1e38, 1e38], [3e38, 3e38], [-3e38, 3e38], [0, np.nan], [0, np.inf]]
    expected = reference(weights, np.array(rows, np.float32))
    assert [True, False, False, False, False, False] == expected.in_range.tolist()


@pytest.mark.parametrize("n", [1, 2, 15, 1000, 10**6])
def test_gamma(n: int) -> None:
    """gamma_n bounds n roundings: (1 + u)^n - 1 <= gamma_n (Higham, lemma 3.1)."""
    u = 2.0**-24
    assert np.expm1(n * np.log1p(u)) <= gamma(n) <= 1.1 * n * u
    assert probable_gamma(n) == (gamma(n) if n <= 15 else 4 * np.sqrt(n) * u)
