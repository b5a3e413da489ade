"""The Open Inference Protocol V2 with its binary tensor extension, which KServe and Triton use.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from collections.abc import Sequence

import orjson

from service.artifact import manifest
from service.artifact.manifest import Manifest
from service.errors import MAX_SHOWN_CHARACTERS, Refused
from service.protocols import messages, v2_request
from service.protocols.byte_rows import read_layout, rows_from_bytes
from service.protocols.messages import BYTES, CURL_DEFAULT, JSON, Reply, Request
from service.protocols.rows import Place
from service.protocols.v2_request import JSON_LENGTH_HEADER, Document, RequestedOutputs
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs

SERVER = {"name": "twolayernet", "version": "0.1.0", "extensions": ["binary_tensor_data"]}
"""Document of GET /v2; a test compares its version with pyproject.toml."""
PLATFORM = "onnx_onnxv1"
DATA_TYPES = {"float32": "FP32", "int64": "INT64"}
"""The protocol's names of NumPy's data types."""
REQUEST_MEDIA_TYPES = (JSON, BYTES, "", CURL_DEFAULT)
"""Accepted content types; Triton's client sends none."""


def answer(request: Request, served: ServedModel) -> Reply:
    """Answer an inference request in JSON, followed by the outputs requested as bytes, if any."""
    media_type, length = request.content_type, request.json_length
    if media_type not in REQUEST_MEDIA_TYPES or (media_type == BYTES and length is None):
        expected = f"expected {JSON}, or {BYTES} with {JSON_LENGTH_HEADER}"
        detail = f"{expected}, found {media_type[:MAX_SHOWN_CHARACTERS]}"
        raise Refused(415, detail, reason="unsupported_media_type")
    about = served.predictor.manifest
    document: Document = {}
    if length == 0:  # without JSON the body is the tensor, and every output is requested as bytes
        body = messages.complete_body(request)
        dtype, count = read_layout(request.parameters, required=False)
        rows = rows_from_bytes(body, served.features, served.max_rows, dtype, count)
        place: Place = "row {}".format
        requested = dict.fromkeys(manifest.OUTPUTS[about.task], True)
    else:
        document, tail = v2_request.parse_body(request, served.max_rows * len(served.features))
        requested = v2_request.read_requested_outputs(document, about)
        rows, place = v2_request.read_rows(document, tail, served)
    if request.accept:
        # The requested outputs decide the media type; Accept can only reject it. The clients of
        # Triton and KServe send */* or no header.
        messages.negotiate(request.accept, (BYTES,) if any(requested.values()) else (JSON,))
    return _reply(served.infer(rows, place), requested, about, document)


def model_metadata(about: Manifest, versions: Sequence[int] = ()) -> Document:
    """Return the document of GET /v2/models/M; by default it lists only the version of `about`."""
    outputs = []
    for name, dtype in manifest.OUTPUTS[about.task].items():
        shape = [-1] if name == "label" else [-1, about.out_features]
        outputs.append({"name": name, "datatype": DATA_TYPES[dtype], "shape": shape})
    shape = [-1, len(about.features)]
    return {
        "name": about.name,
        "versions": [str(version) for version in versions or (about.version,)],
        "platform": PLATFORM,
        "inputs": [{"name": manifest.INPUT, "datatype": "FP32", "shape": shape}],
        "outputs": outputs,
    }


def _reply(
    outputs: Outputs, requested: RequestedOutputs, about: Manifest, document: Document
) -> Reply:
    """Return a reply with outputs as flat lists or as little-endian bytes after the JSON."""
    head: Document = {"model_name": about.name, "model_version": str(about.version)}
    if "id" in document:
        head["id"] = document["id"]
    head["outputs"] = tensors = []
    tail = []
    dtypes = manifest.OUTPUTS[about.task]
    for name, binary in requested.items():
        values, datatype = outputs[name], DATA_TYPES[dtypes[name]]
        tensor: Document = {"name": name, "datatype": datatype, "shape": values.shape}
        if binary:
            tail.append(values.astype(v2_request.DATATYPES[datatype], copy=False).tobytes())
            tensor["parameters"] = {"binary_data_size": values.nbytes}
        else:
            tensor["data"] = values.reshape(-1)
        tensors.append(tensor)
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return Reply(text)
    return Reply(b"".join((text, *tail)), BYTES, headers=((JSON_LENGTH_HEADER, str(len(text))),))
