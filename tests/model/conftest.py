"""The number of threads and the floating-point type of the training tests."""

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)  # pytest-xdist already uses all cores


@pytest.fixture
def float64() -> Iterator[None]:
    """Make float64 the default dtype, because float32 rounding could hide a wrong formula."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
