"""Real clients against a real server: Triton's tritonclient, and curl for each dialect.

KServe's client needs an environment of its own: `make test-clients` runs tests/clients/.
"""

import gzip
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from service.artifact import manifest
from service.runtime.predictor import Predictor
from service.runtime.session import Outputs, Rows
from tests.serving import Server, free_port, granian, serving
from tests.stored import StoredArtifact
from tests.tables import CLASSES

pytestmark = pytest.mark.e2e

ROWS = np.array([[1, 2, 3, 2001], [0.1, -2.5, 1e-3, 1999], [5, 5, 5, 2003]], np.float32)
CAPS = {"TWOLAYERNET_MAX_ROWS": "100", "TWOLAYERNET_MAX_BODY_BYTES": "10000"}


@pytest.fixture(scope="module")
def server(flowers: StoredArtifact) -> Iterator[Server]:
    """The classifier behind real sockets, with caps that a test can reach."""
    port = free_port()
    with serving(granian(flowers.artifact, port, "--no-access-log"), port, CAPS) as running:
        yield running


@pytest.fixture
def triton(server: Server) -> Iterator[InferenceServerClient]:
    """Triton's client of it."""
    with InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture(scope="module")
def expected(flowers: StoredArtifact) -> Outputs:
    """What the artifact says of the rows."""
    return Predictor(flowers.artifact).predict(ROWS)


def given(
    rows: Rows = ROWS, *, binary: bool = True, name: str = "input", datatype: str = "FP32"
) -> InferInput:
    """Return the rows as Triton's client sends them."""
    one = InferInput(name, list(rows.shape), datatype)
    return one.set_data_from_numpy(rows, binary_data=binary)


def same(expected: Outputs, result: Any) -> bool:
    """Compare what Triton's client read with the artifact's own answer, bit for bit; where empty, it knows no dtype."""
    for name, array in expected.items():
        found = result.as_numpy(name)
        if array.size and array.dtype != found.dtype:
            return False
        if (array.shape, array.tobytes()) != (found.shape, found.tobytes()):
            return False
    return True


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
@pytest.mark.parametrize(
    "binary_out", [True, False, None], ids=["binary out", "json out", "all outputs"]
)
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary in", "json in"])
def test_triton_infers(
    triton: InferenceServerClient,
    expected: Outputs,
    binary_in: bool,
    binary_out: bool | None,
    encoding: str | None,
) -> None:
    """JSON and binary, plain, gzip and deflate, either way: the artifact's numbers, and the id of the request."""
    outputs = None
    if binary_out is not None:
        outputs = [InferRequestedOutput(name, binary_data=binary_out) for name in expected]
    result = triton.infer(
        "flowers",
        [given(binary=binary_in)],
        outputs=outputs,
        request_id="a-1",
        request_compression_algorithm=encoding,
        response_compression_algorithm=encoding,
    )
    assert same(expected, result)
    assert ("a-1", "flowers", "1") == tuple(
        result.get_response()[key] for key in ("id", "model_name", "model_version")
    )


@pytest.mark.parametrize("rows", [0, 1, 100])
@pytest.mark.parametrize("binary", [True, False])
def test_triton_sends_any_number_of_rows(
    triton: InferenceServerClient, flowers: StoredArtifact, rows: int, binary: bool
) -> None:
    """No rows, one, and as many as the cap allows."""
    x = np.resize(ROWS, (rows, 4)).astype(np.float32)
    assert same(
        Predictor(flowers.artifact).predict(x),
        triton.infer("flowers", [given(x, binary=binary)], "1"),
    )


def test_triton_asks_for_a_subset(triton: InferenceServerClient, expected: Outputs) -> None:
    """The outputs asked for, in that order, one as bytes and one as JSON, and no other."""
    outputs = [InferRequestedOutput("label", binary_data=False), InferRequestedOutput("logits")]
    result = triton.infer(
        "flowers", [given()], outputs=outputs, priority=1, timeout=1000, parameters={"custom": "x"}
    )
    assert same({name: expected[name] for name in ("label", "logits")}, result)
    assert ["label", "logits"] == [output["name"] for output in result.get_response()["outputs"]]


def test_triton_asks_concurrently(server: Server, flowers: StoredArtifact) -> None:
    """Many requests at once over several connections: each has its own answer."""
    predictor = Predictor(flowers.artifact)
    with InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        batches = [np.resize(ROWS + i, (1 + i % 7, 4)).astype(np.float32) for i in range(40)]
        asked = [
            client.async_infer("flowers", [given(x, binary=i % 2 == 0)])
            for i, x in enumerate(batches)
        ]
        for rows, one in zip(batches, asked, strict=True):
            assert same(predictor.predict(rows), one.get_result())


def test_triton_reads_health_and_metadata(triton: InferenceServerClient) -> None:
    """Alive, ready by model and version, and documents with the real names, types and shapes."""
    assert (True, True) == (triton.is_server_live(), triton.is_server_ready())
    assert (True, True) == (triton.is_model_ready("flowers"), triton.is_model_ready("flowers", "1"))
    assert (False, False) == (
        triton.is_model_ready("flowers", "9"),
        triton.is_model_ready("houses"),
    )
    assert ("twolayernet", ["binary_tensor_data"]) == tuple(
        triton.get_server_metadata()[key] for key in ("name", "extensions")
    )
    about = triton.get_model_metadata("flowers", "1")
    assert ("flowers", ["1"], "onnx_onnxv1") == tuple(
        about[key] for key in ("name", "versions", "platform")
    )
    assert [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}] == about["inputs"]
    assert [("logits", [-1, 3]), ("probabilities", [-1, 3]), ("label", [-1])] == [
        (output["name"], output["shape"]) for output in about["outputs"]
    ]


def unset() -> InferInput:
    """Return an input that nobody gave data."""
    return InferInput("input", [1, 4], "FP32")


def shared() -> InferInput:
    """Return an input that is said to stand in shared memory."""
    return unset().set_shared_memory("region", 16)


Ask = Callable[[InferenceServerClient], object]
WIDE, NAN = np.zeros((1, 5), np.float32), np.full((2, 4), np.nan, np.float32)
TOO_MANY, TOO_LARGE = np.zeros((101, 4), np.float32), np.zeros((1000, 4), np.float32)


@pytest.mark.parametrize(
    ("ask", "status", "message"),
    [
        (
            lambda triton: triton.infer("houses", [given()]),
            404,
            "expected the model flowers, found 'houses'",
        ),
        (
            lambda triton: triton.infer("flowers", [given()], "9"),
            404,
            "expected version 1, found '9'",
        ),
        (
            lambda triton: triton.infer("flowers", []),
            422,
            "inputs: expected a list of one input, found 0",
        ),
        (
            lambda triton: triton.infer("flowers", [given(), given()]),
            422,
            "inputs: expected a list of one input, found 2",
        ),
        (
            lambda triton: triton.infer("flowers", [given(name="x")]),
            422,
            'inputs[0].name: expected "input", found "x"',
        ),
        (
            lambda triton: triton.infer(
                "flowers", [given(ROWS.astype(np.int32), datatype="INT32")]
            ),
            422,
            'inputs[0].datatype: expected "FP32", found "INT32"',
        ),
        (
            lambda triton: triton.infer("flowers", [given(WIDE)]),
            422,
            "inputs[0].shape: expected [rows, 4], found [1, 5]",
        ),
        (
            lambda triton: triton.infer("flowers", [given(NAN)]),
            422,
            "row 0, column 0: expected a finite number, found nan",
        ),
        (lambda triton: triton.infer("flowers", [given(NAN, binary=False)]), 400, "not JSON: "),
        (
            lambda triton: triton.infer("flowers", [given(TOO_MANY)]),
            413,
            "inputs[0].shape: expected at most 100 rows, found 101",
        ),
        (
            lambda triton: triton.infer("flowers", [given(TOO_LARGE)]),
            413,
            "expected a body of at most 10000 bytes, found more",
        ),
        (
            lambda triton: triton.infer(
                "flowers", [given(TOO_LARGE)], request_compression_algorithm="gzip"
            ),
            413,
            "expected a body of at most 10000 bytes, found more",
        ),
        (
            lambda triton: triton.infer("flowers", [unset()]),
            422,
            'inputs[0]: expected either "data" or the parameter binary_data_size',
        ),
        (
            lambda triton: triton.infer("flowers", [shared()]),
            422,
            "inputs[0].parameters.shared_memory_region: not supported: there is no shared memory",
        ),
        (
            lambda triton: triton.infer("flowers", [given()], outputs=[InferRequestedOutput("x")]),
            422,
            'outputs[0].name: expected one of logits, probabilities, label, found "x"',
        ),
        (
            lambda triton: triton.infer(
                "flowers", [given()], outputs=[InferRequestedOutput("label")] * 2
            ),
            422,
            'outputs[1].name: the output "label" stands twice',
        ),
        (
            lambda triton: triton.infer(
                "flowers", [given()], outputs=[InferRequestedOutput("probabilities", class_count=2)]
            ),
            422,
            "outputs[0].parameters.classification: not supported: ask for the output label or probabilities",
        ),
        (
            lambda triton: triton.infer("flowers", [given()], sequence_id=3),
            422,
            "parameters.sequence_id: not supported: the model keeps no state",
        ),
        (
            lambda triton: triton.infer("flowers", [given()], headers={"Content-Encoding": "br"}),
            415,
            "Content-Encoding: expected gzip or deflate, found br",
        ),
        (
            lambda triton: triton.infer("flowers", [given()], headers={"Content-Encoding": "gzip"}),
            400,
            "not gzip: ",
        ),
        (
            lambda triton: triton.infer("flowers", [given()], headers={"Content-Type": "text/csv"}),
            415,
            "expected application/json, or application/octet-stream with Inference-Header-Content-Length, "
            "found text/csv",
        ),
        (
            lambda triton: triton.infer("flowers", [given()], headers={"Accept": "text/csv"}),
            406,
            "Accept: expected one of application/octet-stream, found text/csv",
        ),
        (
            lambda triton: triton.get_model_metadata("houses"),
            404,
            "expected the model flowers, found 'houses'",
        ),
        (lambda triton: triton.get_model_config("flowers"), 404, ""),
        (lambda triton: triton.get_model_repository_index(), 404, ""),
        (lambda triton: triton.load_model("flowers"), 404, ""),
        (lambda triton: triton.get_inference_statistics("flowers"), 404, ""),
    ],
)
def test_triton_reads_every_error(
    triton: InferenceServerClient, ask: Ask, status: int, message: str
) -> None:
    """A refusal reaches the caller as status and one line; the client could decode it, and works on afterwards."""
    with pytest.raises(InferenceServerException) as caught:
        ask(triton)
    assert (str(status), None) == (caught.value.status(), caught.value.debug_details())
    found = caught.value.message()
    assert found
    assert found.startswith(message)
    assert message in ("", found) or message.endswith(": ")
    assert triton.is_model_ready("flowers")


def test_triton_reads_that_nothing_is_ready(artifact: Path) -> None:
    """Before a broken artifact the server is alive, not ready, and says why."""
    (artifact / manifest.MODEL).write_bytes(b"")
    port = free_port()
    with (
        serving(granian(artifact, port, "--no-access-log"), port, status=503),
        InferenceServerClient(f"127.0.0.1:{port}") as triton,
    ):
        assert (True, False) == (triton.is_server_live(), triton.is_server_ready())
        assert triton.is_model_ready("flowers") is False
        with pytest.raises(InferenceServerException) as caught:
            triton.infer("flowers", [given()])
        assert "503" == caught.value.status()
        assert caught.value.message().startswith("not ready: ")


def curl(server: Server, path: str, *options: str, body: bytes | None = None) -> bytes:
    """Run curl; return what it printed. A body goes in as it is, under curl's own Content-Type."""
    command = [
        "curl",
        "--silent",
        "--show-error",
        f"http://127.0.0.1:{server.port}{path}",
        *options,
    ]
    if body is not None:
        command += ["--data-binary", "@-"]
    return subprocess.run(command, input=body, capture_output=True, check=True).stdout


def test_curl_native(server: Server, flowers: StoredArtifact, expected: Outputs) -> None:
    """The artifact's own example, and rows as JSON, CSV and bytes."""
    example = (flowers.artifact / manifest.EXAMPLE).read_bytes()
    assert "flowers" == json.loads(curl(server, "/predict", body=example))["model"]["name"]
    names = [CLASSES[label] for label in expected["label"]]
    csv = "".join(
        ",".join(map(str, row)) + "\n" for row in ROWS.astype(np.float64).tolist()
    ).encode()
    for form, body in (
        ("application/json", json.dumps({"instances": ROWS.astype(np.float64).tolist()}).encode()),
        ("text/csv", csv),
        ("application/octet-stream", ROWS.astype("<f4").tobytes()),
    ):
        answer = json.loads(curl(server, "/predict", "-H", f"Content-Type: {form}", body=body))
        assert (names, list(CLASSES)) == (answer["predictions"], answer["classes"])
    raw = curl(
        server,
        "/predict",
        "-H",
        "Accept: application/octet-stream",
        "-H",
        "Content-Type: text/csv",
        body=csv,
    )
    assert expected["probabilities"].astype("<f4").tobytes() == raw


def test_curl_v2(server: Server, expected: Outputs) -> None:
    """JSON in, JSON out: whole, gzipped, chunked, with a version; and a raw body, answered in bytes."""
    tensor = {
        "name": "input",
        "shape": [3, 4],
        "datatype": "FP32",
        "data": ROWS.astype(np.float64).tolist(),
    }
    body = json.dumps({"inputs": [tensor], "outputs": [{"name": "label"}]}).encode()
    answer = {
        "name": "label",
        "datatype": "INT64",
        "shape": [3],
        "data": expected["label"].tolist(),
    }
    whole = {"model_name": "flowers", "model_version": "1", "outputs": [answer]}
    assert whole == json.loads(curl(server, "/v2/models/flowers/infer", body=body))
    assert whole == json.loads(curl(server, "/v2/models/flowers/versions/1/infer", body=body))
    chunked = ("-H", "Transfer-Encoding: chunked")
    assert whole == json.loads(curl(server, "/v2/models/flowers/infer", *chunked, body=body))
    zipped = ("-H", "Content-Encoding: gzip")
    assert whole == json.loads(
        curl(server, "/v2/models/flowers/infer", *zipped, body=gzip.compress(body))
    )
    raw = curl(
        server,
        "/v2/models/flowers/infer",
        "-H",
        "Inference-Header-Content-Length: 0",
        body=ROWS.astype("<f4").tobytes(),
    )
    tail = b"".join(
        array.astype(array.dtype.newbyteorder("<")).tobytes() for array in expected.values()
    )
    assert raw.endswith(b"}]}" + tail)


def test_curl_v1(server: Server, expected: Outputs) -> None:
    """By row and by output, status and metadata."""
    rows = ROWS.astype(np.float64).tolist()
    by_row = json.loads(
        curl(server, "/v1/models/flowers:predict", body=json.dumps({"instances": rows}).encode())
    )
    assert expected["label"].tolist() == [row["label"] for row in by_row["predictions"]]
    by_output = json.loads(
        curl(
            server,
            "/v1/models/flowers/versions/1:predict",
            body=json.dumps({"inputs": rows}).encode(),
        )
    )
    found = np.array(by_output["outputs"]["logits"], np.float32)
    assert expected["logits"].tobytes() == found.tobytes()
    status = json.loads(curl(server, "/v1/models/flowers"))
    assert ("1", "AVAILABLE", True) == (
        *map(status["model_version_status"][0].get, ("version", "state")),
        status["ready"],
    )
    assert (
        "flowers" == json.loads(curl(server, "/v1/models/flowers/metadata"))["model_spec"]["name"]
    )
    error = json.loads(curl(server, "/v1/models/flowers:predict", body=b'{"instances": [[1]]}'))
    assert (422, "instances[0]: expected 4 values, found 1") == (error["status"], error["error"])
