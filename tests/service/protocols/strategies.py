"""Hypothesis strategies for the tests of the protocols."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from service.runtime.session import Rows

float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
moderate = st.floats(-1e6, 1e6, width=32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def matrices(
    width: int, *, min_rows: int = 0, values: st.SearchStrategy[float] = moderate
) -> st.SearchStrategy[Rows]:
    """Return float32 matrices of up to five rows; the default values do not overflow a network."""
    return hnp.arrays(
        np.float32, st.tuples(st.integers(min_rows, 5), st.just(width)), elements=values
    )
