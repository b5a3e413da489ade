"""What is asked with GET, with the wrong method, of another model, or of a path that is none."""

from typing import Any

from tests.conformance.probes import v1, v2
from tests.conformance.probes.ask import Ask, Probe, kind, words
from tests.conformance.probes.replies import (
    JSON,
    PROBLEM,
    Allowed,
    Document,
    Expected,
    Refusal,
    Text,
)

POSTED = (
    "/predict",
    "/v2/models/{}/infer",
    "/v2/models/{}/versions/{}/infer",
    "/v1/models/{}:predict",
    "/v1/models/{}/versions/{}:predict",
)
READ = words("""
    / /healthz /readyz /model /metrics /openapi.json /docs /v2 /v2/ /v2/health/live /v2/health/ready
    /v2/models/{} /v2/models/{}/ready /v2/models/{}/versions/{} /v2/models/{}/versions/{}/ready
    /v1/models/{} /v1/models/{}/versions/{} /v1/models/{}/metadata /v1/models/{}/versions/{}/metadata
""")
OTHER_MODELS = words(f"""
    foo TestModel INPUT0 simple onnx_zero_1_float32 sum-model .. . %2e%2e %2E a%20b %00 caf%c3%a9 %ff '%3b--
    %3cscript%3e %252e * ~root a;b - {"x" * 2000}
""")
OTHER_VERSIONS = words(
    "0 2 99 -1 01 1.0 +1 HELLO v1 18446744073709551615 1e0 %31%00 latest 1%20 \u0661"
)
NO_PATHS = words("""
    /no /predict/ /predict/x /Predict /healthz/ /readyz/x /model/ /v2/models /v2/models/ /v3 /v2x /v1 /v1/ /v1/foo
    /v1/models /statuspage /index /index.html /favicon.ico /robots.txt /v2/repository/index /v2/logging
    /v2/repository/models/{}/load /v2/repository/models/{}/unload /v2/models/{}/generate /v2/models/{}/infer_stream
    /v2/models/{}/generate_stream /v2/models/{}/trace/setting /v2/trace/setting /v2/cudasharedmemory/status
    /v2/systemsharedmemory/region/test_system_shm_register/register /base_path/v2/models/{}/infer /v2/models/{}/infer/
    /v2/models/{}/versions//infer /v2/models//infer /v1/models/{}:explain /v1/models/{}:regress /v1/models/{}:classify
    /v1/models/{}/version/{}:predict /v1/models/{}:predict/ /v1/models/{}/versions/:predict /v1/models/:predict
    /v1/models/{}: /v1/models/a:b
""")
"""Of others: what Triton, KServe, MLServer and TensorFlow Serving have, or their suites ask for."""
TRICKS = words("""
    /../predict /%2e%2e/%2e%2e/etc/passwd /..%2f..%2fetc/passwd //predict ///healthz /./healthz /%00 /healthz%00
    /healthz%20 /healthz%2f /healthz/.. /predict%3b /predict;a=b /predict%0a /%2fpredict /%70redict/ /%ff%fe /%c0%ae/
    /v2/models/..%2f{}/infer /v2/models/{}/../{}/infer /v2//models/{}/infer /v2/models/{}%2finfer%2f /\\predict
    /v2/models/%0d%0aX-Injected:%201/infer /v2/models/{}/versions/..%2f1/infer /static/app.py /service/app.py
    /.git/config /artifacts/{}/1/manifest.json /proc/self/environ /cgi-bin/.%2e/bin/sh
""")


def filled(ask: Ask, path: str) -> str:
    """Write the model's name, and then its version, into a path."""
    return path.replace("{}", ask.subject.name, 1).replace("{}", ask.subject.version)


def get(
    ask: Ask, path: str, expected: Expected, method: str = "GET", accept: str | None = None
) -> Probe:
    """Make a request without a body."""
    headers = [] if accept is None else [("Accept", accept)]
    return ask.send(
        method, path + ask.choice(("", "", "", "?", "?a=b&c=%00", "?/../x")), headers, b"", expected
    )


def tensors(ask: Ask) -> dict[str, list[dict[str, Any]]]:
    """Return the model's tensors as the Open Inference Protocol describes them."""
    columns = ask.subject.columns
    return {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, len(ask.subject.features)]}],
        "outputs": [
            {
                "name": name,
                "datatype": datatype,
                "shape": [-1] if name == "label" else [-1, columns],
            }
            for name, datatype in ask.subject.outputs.items()
        ],
    }


def signature(ask: Ask) -> dict[str, Any]:
    """Return the model's tensors as TensorFlow Serving describes them."""

    def described(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
        dimensions = [{"size": str(size), "name": ""} for size in shape]
        return {
            "dtype": datatype,
            "tensor_shape": {"dim": dimensions, "unknown_rank": False},
            "name": f"{name}:0",
        }

    datatypes = {"FP32": "DT_FLOAT", "INT64": "DT_INT64"}
    made = {
        tensor["name"]: described(tensor["name"], datatypes[tensor["datatype"]], tensor["shape"])
        for tensors_of in tensors(ask).values()
        for tensor in tensors_of
    }
    inputs = {"input": made.pop("input")}
    only = {"inputs": inputs, "outputs": made, "method_name": "tensorflow/serving/predict"}
    return {"signature_def": {"signature_def": {"serving_default": only}}}


def answer(ask: Ask, path: str, accept: str | None = None, empty: bool = False) -> Expected:
    """Return what a path that is read answers."""
    subject = ask.subject
    if path == "/docs" or (path == "/" and accept == "text/html"):
        return Text("text/html", (subject.name,), empty)
    if path == "/metrics":
        return Text("text/plain", ("# HELP", "# TYPE", subject.name), empty)
    if path == "/openapi.json":
        return Document({"openapi": "3.1.0"}, whole=False, empty=empty)
    model = {"name": subject.name, "version": subject.version}
    status = {
        "version": subject.version,
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    documents: dict[str, dict[str, Any]] = {
        "": {"status": "alive"},  # test_liveness_v1 of KServe; browsers say that they want a page
        "/healthz": {"status": "alive"},
        "/readyz": {"status": "ready", "model": model, "digest": subject.digest},
        "/model": {"digest": subject.digest, **subject.manifest},
        "/v2": {"name": "twolayernet", "extensions": ["binary_tensor_data"]},
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True, "live": True},
        "/v2/models/{}": {
            "name": subject.name,
            "versions": [subject.version],
            "platform": "onnx_onnxv1",
            **tensors(ask),
        },
        "/v2/models/{}/ready": {"name": subject.name, "ready": True},
        "/v1/models/{}": {"model_version_status": [status], "name": subject.name, "ready": True},
        "/v1/models/{}/metadata": {
            "model_spec": {"name": subject.name, "signature_name": "", "version": subject.version},
            "metadata": signature(ask),
        },
    }
    key = path.replace("/versions/{}", "").rstrip("/")
    return Document(documents[key], whole=key != "/v2", empty=empty)


@kind("valid", 12)
def read(ask: Ask) -> Probe:
    """Every route that is read; whoever asks for it, and with what Accept, it is what it is."""
    path = ask.choice(READ)
    accept = (
        None if path == "/metrics" else ask.choice((None, None, "*/*", JSON, "text/html", PROBLEM))
    )
    return get(ask, filled(ask, path), answer(ask, path, accept), accept=accept)


@kind("valid", 3)
def head(ask: Ask) -> Probe:
    """HEAD is GET without the body (RFC 9110, 9.3.2)."""
    path = ask.choice(READ)
    return get(ask, filled(ask, path), answer(ask, path, empty=True), "HEAD")


@kind("valid", 1)
def read_with_a_body(ask: Ask) -> Probe:
    """A body that GET has no use for is passed over, and does not become the next request."""
    body = ask.choice((b"x", b"GET /no HTTP/1.1\r\n\r\n", b"{}" * 2000))
    headers = [("Content-Length", str(len(body)))]
    return ask.send("GET", "/healthz", headers, body, Document({"status": "alive"}))


@kind("nearly valid", 4)
def method_not_allowed_where_one_posts(ask: Ask) -> Probe:
    """405 with Allow; 'GET /v1/models/foo:predict' of TF Serving's UnsupportedApiCalls."""
    path = filled(ask, ask.choice(POSTED))
    method = ask.choice(("GET", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get", "post", "HEAD"))
    return refused_method(ask, method, path, "POST")


@kind("nearly valid", 4)
def method_not_allowed_where_one_reads(ask: Ask) -> Probe:
    """405 with Allow."""
    path = filled(ask, ask.choice(READ))
    return refused_method(
        ask, ask.choice(("POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND")), path, "GET"
    )


def refused_method(ask: Ask, method: str, path: str, allowed: str) -> Probe:
    """Send a method that a path does not know."""
    body = (
        b""
        if method in ("GET", "HEAD", "TRACE", "get")
        else ask.choice((b"", b"{}", b'{"instances": []}'))
    )
    headers = [("Content-Length", str(len(body)))] if body or method in ("POST", "PUT") else []
    expected = Refusal(405, headers={"allow": allowed}, empty=method == "HEAD")
    return ask.send(method, path, headers, body, expected)


@kind("nearly valid", 1)
def options(ask: Ask) -> Probe:
    """OPTIONS says what is allowed (RFC 9110, 9.3.7), and nothing of other origins while CORS is off."""
    path, allowed = ask.choice(
        [(path, "POST") for path in POSTED] + [(path, "GET") for path in READ]
    )
    headers = [("Origin", "https://example.org"), ("Access-Control-Request-Method", "POST")]
    return ask.send("OPTIONS", filled(ask, path), headers, b"", Allowed(allowed))


@kind("nearly valid", 4)
def model_unknown(ask: Ask) -> Probe:
    """404 that names what is served; test_infer_error of MLServer, PredictModelNameVersionErrors of TF Serving."""
    name = ask.choice(
        (
            *OTHER_MODELS,
            *(ask.subject.name + more for more in ("x", "%00", "%20")),
            ask.subject.name.upper(),
        )
    )
    return unknown(
        ask,
        ask.choice([path for path in (*POSTED, *READ) if "{}" in path]),
        name,
        ask.subject.version,
        ask.subject.name,
    )


@kind("nearly valid", 4)
def version_unknown(ask: Ask) -> Probe:
    """404 that names the version that is served; 'versions/HELLO' and 2^64 of TF Serving's UnsupportedApiCalls."""
    path = ask.choice([path for path in (*POSTED, *READ) if path.count("{}") == 2])
    version = ask.choice(OTHER_VERSIONS)
    return unknown(ask, path, ask.subject.name, version, ask.subject.version)


def unknown(ask: Ask, path: str, name: str, version: str, says: str) -> Probe:
    """Ask for a model or a version that is not there."""
    posted = path in POSTED
    path = path.replace("{}", name, 1).replace("{}", version)
    expected = Refusal(404, None, says)
    return ask.post(path, b'{"instances": []}', expected) if posted else get(ask, path, expected)


@kind("nearly valid", 3)
def path_unknown(ask: Ask) -> Probe:
    """404 for what others have and this service has not: no management, no repository, no shared memory."""
    path = filled(ask, ask.choice(NO_PATHS))
    if ask.random.random() < 0.5:
        return ask.post(path, b'{"instances": []}', Refusal(404))
    return get(ask, path, Refusal(404))


@kind("hostile", 4)
def path_that_tricks(ask: Ask) -> Probe:
    """Dots, slashes, zeros and encodings of them lead nowhere, and are not redirected."""
    path = filled(ask, ask.choice(TRICKS))
    if ask.random.random() < 0.3:
        return ask.post(path, b'{"instances": []}', Refusal(404))
    return ask.send(ask.choice(("GET", "GET", "DELETE")), path, [], b"", Refusal(404))


@kind("valid", 1)
def path_with_letters_encoded(ask: Ask) -> Probe:
    """%41 is A (RFC 3986, 6.2.2.2): the path is the same."""
    path = ask.choice(("/healthz", "/v2/health/live", "/v2/models/{}", "/v1/models/{}"))
    expected = answer(ask, path)
    path = filled(ask, path)
    cut = ask.random.randrange(1, len(path))
    while path[cut] == "/":
        cut -= 1
    encoded = f"{path[:cut]}%{ord(path[cut]):02x}{path[cut + 1 :]}"
    return get(ask, encoded, expected)


@kind("valid", 1)
def prediction_with_a_query(ask: Ask) -> Probe:
    """A query changes nothing."""
    path = ask.choice((v1.path(ask), v2.path(ask), "/predict")) + "?verbose=1&x=%zz"
    return ask.post(path, b"{", Refusal(400))
