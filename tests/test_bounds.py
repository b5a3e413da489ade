"""export.bounds: the bound holds whatever the order of summation, and is no larger than it must be by far."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.bounds import Float32Array, gamma, reference

Weights = dict[str, Float32Array]


def network(seed: int, shape: tuple[int, int, int], *, regression: bool, magnitude: float = 1.0) -> Weights:
    """Return random tensors of a network of shape (in, hidden, out)."""
    rng = np.random.default_rng(seed)
    n, hidden, out = shape
    sizes = {
        "shift": (n,),
        "scale": (n,),
        "net.linear1.weight": (hidden, n),
        "net.linear1.bias": (hidden,),
        "net.linear2.weight": (out, hidden),
        "net.linear2.bias": (out,),
    }
    if regression:
        sizes |= {"output_scale": (out,), "output_shift": (out,)}
    return {name: (magnitude * rng.normal(size=size)).astype(np.float32) for name, size in sizes.items()}


def exact(weights: Weights, row: Float32Array) -> list[Fraction]:
    """Evaluate one row without rounding, up to logits or unscaled outputs."""

    def rational(values: Float32Array) -> list[Fraction]:
        return [Fraction(float(value)) for value in values]

    def layer(x: list[Fraction], name: str) -> list[Fraction]:
        bias = rational(weights[f"net.{name}.bias"])
        rows = [rational(line) for line in weights[f"net.{name}.weight"]]
        return [sum((w * v for w, v in zip(line, x, strict=True)), b) for line, b in zip(rows, bias, strict=True)]

    scaling = zip(rational(row), rational(weights["shift"]), rational(weights["scale"]), strict=True)
    z = [(x - shift) * scale for x, shift, scale in scaling]
    h = [max(a, Fraction(0)) for a in layer(z, "linear1")]
    v = layer(h, "linear2")
    if "output_scale" not in weights:
        return v
    head = zip(v, rational(weights["output_scale"]), rational(weights["output_shift"]), strict=True)
    return [value * scale + shift for value, scale, shift in head]


def in_float32(weights: Weights, row: Float32Array, order: np.random.Generator) -> Float32Array:
    """Evaluate one row with every operation rounded to float32, summing in a random order."""

    def layer(x: Float32Array, name: str) -> Float32Array:
        terms = np.concatenate([weights[f"net.{name}.weight"] * x, weights[f"net.{name}.bias"][:, None]], axis=1)
        total = np.zeros(len(terms), np.float32)
        for column in order.permutation(terms.shape[1]):
            total = total + terms[:, column]
        return total

    with np.errstate(all="ignore"):
        z = (row - weights["shift"]) * weights["scale"]
        v = layer(np.maximum(layer(z, "linear1"), np.float32(0)), "linear2")
        return v * weights["output_scale"] + weights["output_shift"] if "output_scale" in weights else v


shapes = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
seeds = st.integers(0, 2**32 - 1)


@given(seeds, shapes, st.booleans(), st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]))
@settings(max_examples=60, deadline=None)
def test_float32_in_any_order_stays_within_the_bound(
    seed: int, shape: tuple[int, int, int], regression: bool, magnitude: float
) -> None:
    """Held to exact rational arithmetic: float32 evaluation in random orders of summation, at any input scale."""
    weights = network(seed, shape, regression=regression)
    rng = np.random.default_rng(seed)
    rows = (magnitude * rng.normal(size=(3, shape[0]))).astype(np.float32)
    name = "output" if regression else "logits"
    expected = reference(weights, rows)
    for i in np.flatnonzero(expected.in_range):
        true = exact(weights, rows[i])
        answer = in_float32(weights, rows[i], rng)
        assert np.isfinite(answer).all()
        for j, value in enumerate(true):
            bound = Fraction(float(expected.bounds[name][i, j]))
            assert abs(Fraction(float(answer[j])) - value) <= bound
            # the float64 reference itself is far within the bound
            assert abs(Fraction(float(expected.values[name][i, j])) - value) <= bound / 1000


@given(seeds, st.integers(1, 6), st.integers(2, 12))
@settings(max_examples=60, deadline=None)
def test_softmax_of_moved_logits_stays_within_the_bound(seed: int, hidden: int, classes: int) -> None:
    """Logits anywhere within their bound, then a float32 softmax: within the bound of the probabilities."""
    weights = network(seed, (3, hidden, classes), regression=False, magnitude=3)
    rng = np.random.default_rng(seed)
    expected = reference(weights, rng.normal(size=(4, 3)).astype(np.float32))
    corner = rng.choice([-1.0, 1.0], size=expected.values["logits"].shape)
    logits = (expected.values["logits"] + 0.99 * corner * expected.bounds["logits"]).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    answer = powers / powers.sum(axis=1, keepdims=True, dtype=np.float32)
    error = np.abs(answer.astype(np.float64) - expected.values["probabilities"])
    assert (error <= expected.bounds["probabilities"]).all()


def test_bound_is_a_matter_of_roundings() -> None:
    """A network of width 1 is off by a few roundings: its bound is under ten units in the last place of its terms."""
    weights = {name: np.ones_like(values) for name, values in network(0, (1, 1, 1), regression=True).items()}
    expected = reference(weights, np.array([[3.0]], np.float32))
    assert 5.0 == expected.values["output"][0, 0]  # ((3 - 1) * 1 * 1 + 1) * 1 + 1, then un-scaled by 1 and 1
    assert expected.bounds["output"][0, 0] < 10 * 5 * 2**-24 * 2


def test_rows_that_may_overflow_are_out_of_range() -> None:
    """A row is in range only where no intermediate can reach float32's end."""
    weights = {name: np.ones_like(values) for name, values in network(0, (2, 2, 2), regression=False).items()}
    rows = np.array([[1, 1], [1e38, 1e38], [3e38, 3e38], [-3e38, 3e38]], np.float32)
    assert [True, False, False, False] == reference(weights, rows).in_range.tolist()


def test_labels_within_rounding_of_each_other_are_both_accepted() -> None:
    """Equal logits: either label; logits far apart: only the larger."""
    weights = network(0, (1, 1, 3), regression=False)
    weights["net.linear2.weight"][:] = 0
    weights["net.linear2.bias"][:] = (1, 1, 0)
    accepted = reference(weights, np.zeros((1, 1), np.float32)).accepted
    assert accepted is not None
    assert [[True, True, False]] == accepted.tolist()


@pytest.mark.parametrize("n", [1, 2, 1000, 10**6])
def test_gamma(n: int) -> None:
    """gamma_n bounds n roundings: (1 + u)^n - 1 <= gamma_n (Higham, lemma 3.1)."""
    u = 2.0**-24
    assert np.expm1(n * np.log1p(u)) <= gamma(n) <= 1.1 * n * u
