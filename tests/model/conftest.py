"""Fixtures of the training tests."""

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)  # pytest-xdist uses the cores


@pytest.fixture
def float64() -> Iterator[None]:
    """Run the fit in float64, where rounding cannot hide a wrong formula."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
