"""Triton's tritonclient as a client of the Open Inference Protocol."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from service.runtime.predictor import Predictor
from service.runtime.session import Outputs, Rows
from tests.clients.conftest import ROWS
from tests.serving import Server
from tests.stored import FLOWERS

pytestmark = [pytest.mark.clients, pytest.mark.e2e]


@pytest.fixture
def triton(server: Server) -> Iterator[InferenceServerClient]:
    """Triton's client, connected to the server."""
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


def tensor(rows: Rows = ROWS, *, binary: bool = True) -> InferInput:
    """Return rows as an input tensor of the client."""
    return InferInput("input", list(rows.shape), "FP32").set_data_from_numpy(rows, binary)


def assert_same(expected: Outputs, result: Any) -> None:
    """Assert that the client received exactly the expected outputs."""
    for name, array in expected.items():
        output = result.as_numpy(name)
        # The client loses the dtype of an output without rows.
        assert array.size == 0 or array.dtype == output.dtype
        assert (array.shape, array.tobytes()) == (output.shape, output.tobytes())


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("binary_in", [True, False])
def test_inference(
    triton: InferenceServerClient,
    expected: Outputs,
    binary_in: bool,
    binary_out: bool | None,
    encoding: str | None,
) -> None:
    """Numbers and id survive JSON, binary tensors and compression in both directions."""
    outputs = [InferRequestedOutput(name, binary_data=binary_out) for name in expected]
    result = triton.infer(
        "flowers",
        [tensor(binary=binary_in)],
        outputs=None if binary_out is None else outputs,
        request_id="a-1",
        request_compression_algorithm=encoding,
        response_compression_algorithm=encoding,
    )
    assert_same(expected, result)
    members = result.get_response()
    identity = [members[name] for name in ("id", "model_name", "model_version")]
    assert ["a-1", "flowers", "1"] == identity


@pytest.mark.parametrize("rows", [0, 1, 100])
@pytest.mark.parametrize("binary", [True, False])
def test_number_of_rows(triton: InferenceServerClient, rows: int, binary: bool) -> None:
    """Requests with no rows, one row and the maximum number of rows succeed."""
    x = np.resize(ROWS, (rows, 4)).astype(np.float32)
    expected = Predictor(FLOWERS.artifact).predict(x)
    assert_same(expected, triton.infer("flowers", [tensor(x, binary=binary)], "1"))


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "int8", "uint16"])
@pytest.mark.parametrize("binary", [True, False])
def test_datatypes(triton: InferenceServerClient, dtype: str, binary: bool) -> None:
    """Arrays of NumPy's other types give the outputs of the same numbers in float32."""
    numbers = np.array([[1, 2, 3, 100], [5, 0, 7, 8]], dtype)
    name = np_to_triton_dtype(numbers.dtype)
    x = InferInput("input", [2, 4], name).set_data_from_numpy(numbers, binary)
    expected = Predictor(FLOWERS.artifact).predict(numbers.astype(np.float32))
    assert_same(expected, triton.infer("flowers", [x]))


def test_selected_outputs(triton: InferenceServerClient, expected: Outputs) -> None:
    """The reply has the requested outputs in their order, one binary and one in JSON."""
    outputs = [InferRequestedOutput("label", binary_data=False), InferRequestedOutput("logits")]
    result = triton.infer(
        "flowers", [tensor()], outputs=outputs, priority=1, timeout=1000, parameters={"custom": "x"}
    )
    assert_same({name: expected[name] for name in ("label", "logits")}, result)
    assert ["label", "logits"] == [output["name"] for output in result.get_response()["outputs"]]


def test_concurrent_requests(server: Server) -> None:
    """Concurrent requests over several connections receive their own outputs."""
    predictor = Predictor(FLOWERS.artifact)
    with InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        batches = [np.resize(ROWS + i, (1 + i % 7, 4)).astype(np.float32) for i in range(40)]
        pending = [client.async_infer("flowers", [tensor(x)]) for x in batches]
        for rows, request in zip(batches, pending, strict=True):
            assert_same(predictor.predict(rows), request.get_result())


def test_health_and_metadata(triton: InferenceServerClient) -> None:
    """The client reads liveness, readiness by model and version, and metadata."""
    assert triton.is_server_live()
    assert triton.is_server_ready()
    models = (("flowers", ""), ("flowers", "1"), ("flowers", "9"), ("houses", ""))
    assert [True, True, False, False] == [triton.is_model_ready(*model) for model in models]
    assert "twolayernet" == triton.get_server_metadata()["name"]
    metadata = triton.get_model_metadata("flowers", "1")
    assert [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}] == metadata["inputs"]
    assert ["logits", "probabilities", "label"] == [o["name"] for o in metadata["outputs"]]


Call = Callable[[InferenceServerClient], object]
ERRORS: tuple[tuple[int, Call], ...] = (
    (400, lambda client: client.infer("flowers", [tensor()], headers={"Content-Encoding": "gzip"})),
    (404, lambda client: client.infer("houses", [tensor()])),
    (404, lambda client: client.get_model_metadata("houses")),
    (404, lambda client: client.get_model_config("flowers")),
    (404, lambda client: client.get_model_repository_index()),
    (404, lambda client: client.load_model("flowers")),
    (406, lambda client: client.infer("flowers", [tensor()], headers={"Accept": "text/csv"})),
    (413, lambda client: client.infer("flowers", [tensor(np.zeros((1000, 4), np.float32))])),
    (415, lambda client: client.infer("flowers", [tensor()], headers={"Content-Encoding": "br"})),
    (422, lambda client: client.infer("flowers", [tensor(np.zeros((1, 5), np.float32))])),
    (422, lambda client: client.infer("flowers", [tensor()], sequence_id=3)),
)


@pytest.mark.parametrize(("status", "call"), ERRORS)
def test_error(triton: InferenceServerClient, status: int, call: Call) -> None:
    """An error reaches the caller as a status and a message, and the client stays usable."""
    with pytest.raises(InferenceServerException) as raised:
        call(triton)
    assert (str(status), None) == (raised.value.status(), raised.value.debug_details())
    message = raised.value.message()
    assert message
    assert "\n" not in message
    assert triton.is_model_ready("flowers")
