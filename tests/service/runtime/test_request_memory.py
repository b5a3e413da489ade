"""Tests of service.runtime.request_memory: its estimates are compared with measured peaks."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.protocols import native, v2
from service.protocols.byte_rows import DTYPES, max_value_counts
from service.protocols.messages import BYTES, CSV, JSON, Request
from service.runtime.predictor import Predictor
from service.runtime.request_memory import UNCOUNTED_BYTES, RequestMemory, log_small_budget
from service.runtime.served_model import ServedModel
from tests.stored import FLOWERS, HOUSES, StoredArtifact

MAX_ROWS = 1 << 20
ROWS = 4000
"""Number of rows of the large bodies: the longest request takes a tenth of a second."""
KINDS = [*DTYPES, "JSON", "CSV", "V2 int8", "V2 float64", "V2 JSON"]
MAX_RATIO = 24
"""Maximum ratio of the estimate and the peak, in which ONNX Runtime's memory is not counted."""


def new_request(kind: str, width: int, rows: int) -> Request:
    """Return a request with rows of ones in a dtype, in text or in a V2 tensor.

    Except in V2, the reply is CSV, which needs the most memory.
    """
    values = np.ones((rows, width))
    if kind == "CSV":
        return Request("\n".join([",".join("1" * width)] * rows).encode(), CSV, CSV)
    instances = json.dumps(values.astype(int).tolist(), separators=(",", ":"))
    if kind == "JSON":
        return Request(f'{{"instances":{instances}}}'.encode(), JSON, CSV)
    if kind in DTYPES:
        return Request(
            values.astype(DTYPES[kind]).tobytes(), BYTES, CSV, parameters={"dtype": kind}
        )
    name = kind.removeprefix("V2 ").replace("JSON", "float32")
    data = b"" if kind == "V2 JSON" else values.astype(DTYPES[name]).tobytes()
    datatype = name.upper().replace("FLOAT", "FP")
    head = f'{{"inputs":[{{"name":"input","shape":[{rows},{width}],"datatype":"{datatype}",'
    head += f'"parameters":{{"binary_data_size":{len(data)}}}}}]}}' if data else ""
    head += "" if data else f'"data":{instances}}}]}}'
    return Request(head.encode() + data, BYTES if data else JSON, json_length=len(head))


def measure_peak(request: Request, served: ServedModel, *, is_v2: bool) -> int:
    """Return the peak of the memory that Python and NumPy allocate for a request, in bytes."""
    answer = v2.answer if is_v2 else native.answer
    answer(request, served)  # fills caches
    tracemalloc.start()
    try:
        answer(request, served)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("stored", [FLOWERS, HOUSES], ids=["flowers", "houses"])
@pytest.mark.parametrize("kind", KINDS)
def test_estimate_covers_the_peak(kind: str, stored: StoredArtifact) -> None:
    """A request needs at most its estimate, which is not many times too large."""
    predictor = Predictor(stored.artifact)
    served = ServedModel(predictor, predictor.predict, MAX_ROWS)
    request = new_request(kind, len(served.features), ROWS)
    peak = measure_peak(request, served, is_v2=kind.startswith("V2"))
    estimate = served.memory.estimate(*max_value_counts(request))
    bytes_per_value = 8 if kind == "V2 float64" else 1  # estimated as if the type had one byte
    assert peak <= estimate <= MAX_RATIO * bytes_per_value * peak


@pytest.mark.parametrize("kind", KINDS)
def test_estimate_covers_the_peak_of_uncounted_bodies(kind: str) -> None:
    """The memory of the largest uncounted body is at most UNCOUNTED_BYTES."""
    predictor = Predictor(FLOWERS.artifact)
    served = ServedModel(predictor, predictor.predict, MAX_ROWS)
    width = len(served.features)
    rows = served.uncounted_body_bytes // (len(new_request(kind, width, 100).body) // 100)
    request = new_request(kind, width, rows)
    peak = measure_peak(request, served, is_v2=kind.startswith("V2"))
    assert peak <= UNCOUNTED_BYTES


@given(
    memory=st.builds(
        RequestMemory, st.integers(1, 5000), st.integers(1, 2000), st.integers(1, 1 << 16)
    ),
    size=st.integers(0, 1 << 24),
    json_length=st.none() | st.integers(0, 1 << 24),
    media_type=st.sampled_from([BYTES, JSON]),
    dtype=st.sampled_from(["int8", "float64", "unknown", ""]),
)
def test_estimates_grow(
    memory: RequestMemory, size: int, json_length: int | None, media_type: str, dtype: str
) -> None:
    """A longer body needs no less, and an uncounted one at most UNCOUNTED_BYTES and a row."""
    parameters = {"dtype": dtype} if dtype else {}
    request = Request(bytes(size), media_type, json_length=json_length, parameters=parameters)
    estimate = memory.estimate(*max_value_counts(request))
    longer = request._replace(body=bytes(size + 1))
    assert estimate <= memory.estimate(*max_value_counts(longer))
    if size <= memory.uncounted_body_bytes:
        assert estimate <= UNCOUNTED_BYTES + memory.estimate(0)


@pytest.mark.parametrize(("memory_bytes", "expected"), [(239, 1), (240, 0)])
def test_a_small_budget_is_logged(
    memory_bytes: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning names the settings if a request of the maximum size may need more."""
    log_small_budget(memory_bytes, 10)
    assert expected == len(caplog.records)
    assert expected == sum(
        "--workers" in text and "--max-body-bytes" in text for text in caplog.messages
    )
