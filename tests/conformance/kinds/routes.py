"""GET routes, wrong methods, unknown models and unknown paths."""

from typing import Any
from urllib.parse import unquote

from tests.conformance.draw import Case, Draw, kind, words
from tests.conformance.kinds.row_protocols import v1_path
from tests.conformance.kinds.v2 import v2_path
from tests.conformance.outcomes import (
    JSON,
    PROBLEM,
    AnyOf,
    DocumentReply,
    ErrorReply,
    OptionsReply,
    Outcome,
    TextReply,
)

POST_PATHS = (
    "/predict",
    *("/v2/models/{}/infer", "/v2/models/{}/versions/{}/infer"),
    *("/v1/models/{}:predict", "/v1/models/{}/versions/{}:predict"),
)
GET_PATHS = words("""
    / /healthz /readyz /model /metrics /openapi.json /docs /v2 /v2/ /v2/health/live
    /v2/health/ready /v2/models/{} /v2/models/{}/ready /v2/models/{}/versions/{}
    /v2/models/{}/versions/{}/ready /v1/models/{} /v1/models/{}/versions/{}
    /v1/models/{}/metadata /v1/models/{}/versions/{}/metadata
""")
OTHER_MODELS = words(f"""
    foo TestModel INPUT0 simple onnx_zero_1_float32 sum-model .. . %2e%2e %2E a%20b %00 caf%c3%a9
    %ff '%3b-- %3cscript%3e %252e * ~root a;b - {"x" * 2000}
""")
OTHER_VERSIONS = words("""
    0 2 99 -1 01 1.0 +1 HELLO v1 18446744073709551615 1e0 %31%00 latest 1%20 \u0661
""")
UNKNOWN_PATHS = words("""
    /no /predict/ /predict/x /Predict /healthz/ /readyz/x /model/ /v2/models /v2/models/ /v3 /v2x
    /v1 /v1/ /v1/foo /v1/models /statuspage /index /index.html /favicon.ico /robots.txt
    /v2/repository/index /v2/logging /v2/repository/models/{}/load
    /v2/repository/models/{}/unload /v2/models/{}/generate /v2/models/{}/infer_stream
    /v2/models/{}/generate_stream /v2/models/{}/trace/setting /v2/trace/setting
    /v2/cudasharedmemory/status /v2/systemsharedmemory/region/test_system_shm_register/register
    /base_path/v2/models/{}/infer /v2/models/{}/infer/ /v2/models/{}/versions//infer
    /v2/models//infer /v1/models/{}:explain /v1/models/{}:regress /v1/models/{}:classify
    /v1/models/{}/version/{}:predict /v1/models/{}:predict/ /v1/models/{}/versions/:predict
    /v1/models/:predict /v1/models/{}: /v1/models/a:b
""")
"""Paths of Triton, KServe, MLServer and TensorFlow Serving that this service does not have."""
TRAVERSAL_PATHS = words(r"""
    /../predict /%2e%2e/%2e%2e/etc/passwd /..%2f..%2fetc/passwd //predict ///healthz /./healthz
    /%00 /healthz%00 /healthz%20 /healthz%2f /healthz/.. /predict%3b /predict;a=b /predict%0a
    /%2fpredict /%70redict/ /%ff%fe /%c0%ae/ /v2/models/..%2f{}/infer /v2/models/{}/../{}/infer
    /v2//models/{}/infer /v2/models/{}%2finfer%2f /\predict
    /v2/models/%0d%0aX-Injected:%201/infer /v2/models/{}/versions/..%2f1/infer /static/app.py
    /service/app.py /.git/config /artifacts/{}/1/manifest.json /proc/self/environ
    /cgi-bin/.%2e/bin/sh
""")
PATH_PARTS = (
    *"az09-._~!$&'()*+,;=:@/|",
    *words("%00 %2f %5C %ff %0a %c3%a9 %25 %zz % // /../ /./ infer :predict \u00e9"),
)
"""Parts to insert into a path; the host accepts all of them."""
EMPTY_BATCH = b'{"instances": []}'
ALIVE = DocumentReply({"status": "alive"})


def fill(draw: Draw, path: str) -> str:
    """Fill the placeholders of a path with the model's name and version."""
    return path.replace("{}", draw.model.name, 1).replace("{}", draw.model.version)


def get(
    draw: Draw, path: str, outcome: Outcome, method: str = "GET", accept: str | None = None
) -> Case:
    """Return a request without a body, and perhaps with a query."""
    headers = [] if accept is None else [("Accept", accept)]
    query = draw.choice(("", "", "", "?", "?a=b&c=%00", "?/../x"))
    return draw.send(method, path + query, headers, b"", outcome)


def v2_tensors(draw: Draw) -> dict[str, list[dict[str, Any]]]:
    """Return the model's tensors as the Open Inference Protocol describes them."""
    width, columns = len(draw.model.features), draw.model.columns
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1] if name == "label" else [-1, columns]}
        for name, datatype in draw.model.outputs.items()
    ]
    model_input = {"name": "input", "datatype": "FP32", "shape": [-1, width]}
    return {"inputs": [model_input], "outputs": outputs}


def v1_signature(draw: Draw) -> dict[str, Any]:
    """Return the model's tensors as TensorFlow Serving describes them."""
    signature: dict[str, Any] = {"method_name": "tensorflow/serving/predict"}
    for group, tensors in v2_tensors(draw).items():
        signature[group] = {}
        for tensor in tensors:
            dimensions = [{"size": str(size), "name": ""} for size in tensor["shape"]]
            signature[group][tensor["name"]] = {
                "dtype": {"FP32": "DT_FLOAT", "INT64": "DT_INT64"}[tensor["datatype"]],
                "tensor_shape": {"dim": dimensions, "unknown_rank": False},
                "name": f"{tensor['name']}:0",
            }
    return {"signature_def": {"signature_def": {"serving_default": signature}}}


def get_outcome(draw: Draw, path: str, accept: str | None = None, empty: bool = False) -> Outcome:
    """Return the expected reply to GET, or to HEAD if `empty`."""
    model = draw.model
    if path == "/docs" or (path == "/" and accept == "text/html"):
        return TextReply("text/html", (model.name,), empty)
    if path == "/metrics":
        return TextReply("text/plain", ("# HELP", "# TYPE", model.name), empty)
    if path == "/openapi.json":
        return DocumentReply({"openapi": "3.1.0"}, complete=False, empty=empty)
    identity = {"name": model.name, "version": model.version}
    status: dict[str, Any] = {"version": model.version, "state": "AVAILABLE"}
    status |= {"status": {"error_code": "OK", "error_message": ""}}
    documents: dict[str, dict[str, Any]] = {
        # KServe's test_liveness_v1 requests "/"; a client that accepts HTML gets a page.
        "": {"status": "alive"},
        "/healthz": {"status": "alive"},
        "/readyz": {"status": "ready", "model": identity, "digest": model.digest},
        "/model": {"digest": model.digest, **model.manifest},
        "/v2": {"name": "twolayernet", "extensions": ["binary_tensor_data"]},
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True, "live": True},
        "/v2/models/{}": {
            **{"name": model.name, "versions": [model.version], "platform": "onnx_onnxv1"},
            **v2_tensors(draw),
        },
        "/v2/models/{}/ready": {"name": model.name, "ready": True},
        "/v1/models/{}": {"model_version_status": [status], "name": model.name, "ready": True},
        "/v1/models/{}/metadata": {
            "model_spec": {**identity, "signature_name": ""},
            "metadata": v1_signature(draw),
        },
    }
    key = path.replace("/versions/{}", "").rstrip("/")
    return DocumentReply(documents[key], complete=key != "/v2", empty=empty)


@kind("valid", 7, variants=("GET", "HEAD"))
def every_get_route(draw: Draw, variant: str) -> Case:
    """Every route with any Accept header; HEAD is GET without the body (RFC 9110, 9.3.2)."""
    path = draw.choice(GET_PATHS)
    accepts = (None,) if path == "/metrics" else (None, None, "*/*", JSON, "text/html", PROBLEM)
    accept = draw.choice(accepts)
    outcome = get_outcome(draw, path, accept, empty=variant == "HEAD")
    return get(draw, fill(draw, path), outcome, variant, accept)


@kind("nearly valid", 8)
def wrong_method(draw: Draw) -> Case:
    """405 with an Allow header; TF Serving's UnsupportedApiCalls."""
    post = ("POST", ("GET", "BREW", "get", "post", "HEAD"), POST_PATHS)
    allowed, other_methods, paths = draw.choice((post, ("GET", ("POST", "PROPFIND"), GET_PATHS)))
    method = draw.choice(("PUT", "DELETE", "PATCH", "TRACE", *other_methods))
    bodyless = method in ("GET", "HEAD", "TRACE", "get")
    body = draw.choice((b"",) if bodyless else (b"", b"{}", EMPTY_BATCH))
    headers = [("Content-Length", str(len(body)))] if body or method in ("POST", "PUT") else []
    outcome = ErrorReply(405, headers={"allow": allowed}, empty=method == "HEAD")
    return draw.send(method, fill(draw, draw.choice(paths)), headers, body, outcome)


@kind("nearly valid", 1)
def options(draw: Draw) -> Case:
    """OPTIONS lists the methods (RFC 9110, 9.3.7), without CORS headers unless CORS is on."""
    path = draw.choice((*POST_PATHS, *GET_PATHS))
    headers = [("Origin", "https://example.org"), ("Access-Control-Request-Method", "POST")]
    outcome = OptionsReply("POST" if path in POST_PATHS else "GET")
    return draw.send("OPTIONS", fill(draw, path), headers, b"", outcome)


@kind("nearly valid", 8)
def unknown_model(draw: Draw) -> Case:
    """404, and the error names the served model or version; TF Serving's UnsupportedApiCalls."""
    name, version = draw.model.name, draw.model.version
    if draw.chance(0.5):
        similar = (name + "x", name + "%00", name + "%20", name.upper())
        target, text = (draw.choice((*OTHER_MODELS, *similar)), version), name
    else:
        target, text = (name, draw.choice(OTHER_VERSIONS)), version
    placeholders = 1 if text == name else 2
    paths = [path for path in (*POST_PATHS, *GET_PATHS) if path.count("{}") >= placeholders]
    path: str = draw.choice(paths)
    outcome, filled = ErrorReply(404, None, text), path.format(*target)
    is_post = path in POST_PATHS
    return draw.post(filled, EMPTY_BATCH, outcome) if is_post else get(draw, filled, outcome)


@kind("hostile", 7)
def unknown_path(draw: Draw) -> Case:
    """404 without a redirection for other servers' routes and for path traversal."""
    path = fill(draw, draw.choice((*UNKNOWN_PATHS, *TRAVERSAL_PATHS)))
    if draw.chance(0.4):
        return draw.post(path, EMPTY_BATCH, ErrorReply(404))
    return draw.send(draw.choice(("GET", "GET", "DELETE")), path, [], b"", ErrorReply(404))


@kind("hostile", 4)
def random_path(draw: Draw) -> Case:
    """404 for a route with a random change; 405 if only the model's name or version changed."""
    routes = [fill(draw, path) for path in (*GET_PATHS, *POST_PATHS)]
    path = draw.choice(routes)
    while unquote(path) in routes:
        cut = draw.random.randrange(1, len(path) + 1)
        added = "".join(draw.random.choices(PATH_PARTS, k=draw.choice((1, 1, 2, 9, 900))))
        path = path[:cut] + added + path[draw.choice((cut, cut, len(path), cut + 1)) :]
    outcome = AnyOf([ErrorReply(404), ErrorReply(405, headers={"allow": "POST"})])
    return get(draw, path, outcome)


@kind("valid", 1)
def path_with_encoded_letters(draw: Draw) -> Case:
    """A percent-encoded letter is the same as the letter (RFC 3986, 6.2.2.2)."""
    template = draw.choice(("/healthz", "/v2/health/live", "/v2/models/{}", "/v1/models/{}"))
    path = fill(draw, template)
    cut = draw.random.randrange(1, len(path))
    while path[cut] == "/":
        cut -= 1
    encoded = f"{path[:cut]}%{ord(path[cut]):02x}{path[cut + 1 :]}"
    return get(draw, encoded, get_outcome(draw, template))


@kind("valid", 1, variants=("query", "body"))
def unnecessary(draw: Draw, variant: str) -> Case:
    """A query is ignored, and a body of GET is not read as the next request."""
    if variant == "query":
        path = draw.choice((v1_path(draw), v2_path(draw), "/predict"))
        return draw.post(path + "?verbose=1&x=%zz", b"{", ErrorReply(400))
    body = draw.choice((b"x", b"GET /no HTTP/1.1\r\n\r\n", b"{}" * 2000))
    return draw.send("GET", "/healthz", [("Content-Length", str(len(body)))], body, ALIVE)
