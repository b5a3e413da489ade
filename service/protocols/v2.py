"""The Open Inference Protocol V2 with its binary tensor extension: what the clients of KServe and Triton speak.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from service import errors
from service.artifact import manifest
from service.artifact.manifest import Manifest
from service.errors import MAX_SHOWN_CHARACTERS, TOO_LARGE, UNPARSEABLE, BadInput, Refused
from service.protocols import json_rows, messages
from service.protocols.messages import BYTES, JSON, Reply, Request
from service.protocols.rows import (
    NUMBER_TYPES,
    array_from_numbers,
    rows_from_bytes,
    rows_from_instances,
)
from service.runtime.served_model import ServedModel
from service.runtime.session import Outputs, Rows

SERVER = {"name": "twolayernet", "version": "0.1.0", "extensions": ["binary_tensor_data"]}
"""The document of GET /v2; the version is pyproject.toml's."""
PLATFORM = "onnx_onnxv1"
DATATYPES = {"float32": "FP32", "int64": "INT64"}
LITTLE_ENDIAN: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
HEADER = "Inference-Header-Content-Length"
FORMS = (JSON, BYTES, "", "application/x-www-form-urlencoded")
"""What a body may be called: Triton's client says nothing, and curl says the last."""
MEMBERS = ("model_name", "id", "parameters", "inputs", "outputs")
"""Of a request; the first is in no specification, and in every request of KServe's client."""
UNSUPPORTED = {
    "classification": "ask for the output label or probabilities",
    "sequence_id": "the model keeps no state",
    "sequence_start": "the model keeps no state",
    "sequence_end": "the model keeps no state",
    "shared_memory_region": "there is no shared memory",
    "shared_memory_offset": "there is no shared memory",
    "shared_memory_byte_size": "there is no shared memory",
}
"""Parameters that change what the answer means, and why they are refused; those that are unknown are passed over."""
Document = dict[str, Any]
RequestedOutputs = dict[str, bool]
"""The outputs that are asked for, in their order, and whether each is wanted as bytes."""


def answer(request: Request, served: ServedModel) -> Reply:
    """Answer a request to infer, in JSON, or in JSON followed by the bytes of the outputs that are wanted so.

    Raises:
        BadInput: with the status and the place.
        Refused: 415 or 406.
    """
    form, length = request.content_type, request.json_length
    if form not in FORMS or (form == BYTES and length is None):
        detail = f"expected {JSON}, or {BYTES} with {HEADER}, found {form[:MAX_SHOWN_CHARACTERS]}"
        raise Refused(415, detail, reason="unsupported_media_type")
    about = served.predictor.manifest
    document: Document = {}
    if length == 0:  # no JSON at all: the one input's bytes, for every output's
        rows, place = (
            rows_from_bytes(messages.complete_body(request), served.features, served.most_rows),
            "row {}",
        )
        asked = dict.fromkeys(manifest.OUTPUTS[about.task], True)
    else:
        document, tail = _parse(request, served.most_rows * len(served.features))
        asked = _requested_outputs(document, about)
        rows, place = _rows(document, tail, served)
    if request.accept:
        # What will be sent, and nothing else: Triton's client says */* or nothing, KServe's (httpx) */*.
        messages.negotiate(request.accept, (BYTES,) if any(asked.values()) else (JSON,))
    return _reply(served.infer(rows, place), asked, about, document)


def model(served: ServedModel, versions: Sequence[int] = ()) -> Document:
    """Make the document of GET /v2/models/M.

    Args:
        served: the version to describe.
        versions: all that are served, where it is not the only one.
    """
    about = served.predictor.manifest
    outputs = [
        {
            "name": name,
            "datatype": DATATYPES[dtype],
            "shape": [-1] if name == "label" else [-1, about.out_features],
        }
        for name, dtype in manifest.OUTPUTS[about.task].items()
    ]
    return {
        "name": about.name,
        "versions": [str(version) for version in versions or (about.version,)],
        "platform": PLATFORM,
        "inputs": [
            {"name": manifest.INPUT, "datatype": "FP32", "shape": [-1, len(about.features)]}
        ],
        "outputs": outputs,
    }


def _parse(request: Request, most: int) -> tuple[Document, bytes]:
    """Return the JSON document of a request, its data as an array if that went well, and the bytes that follow it."""
    body, length = request.body, request.json_length
    if length is None:
        length = len(body)
    if length > len(body):
        detail = f"{HEADER}: expected at most the {len(body)} bytes of the body, found {length}"
        raise BadInput(detail, status=UNPARSEABLE)
    head, tail = body[:length], body[length:]
    document = None if tail else json_rows.load_with_array(head, ("inputs", 0, "data"), most)
    if document is None:
        document = json_rows.load_json(head, most)
    return _object(document, None, ("inputs",), MEMBERS), tail


def _rows(document: Document, tail: bytes, served: ServedModel) -> tuple[Rows, str]:
    """Return the rows of the one input, (rows, in_features) float32, and how a row is called in the request."""
    inputs, width = document["inputs"], len(served.features)
    if type(inputs) is not list or len(inputs) != 1:
        found = len(inputs) if type(inputs) is list else errors.describe_value(inputs)
        raise BadInput(f"expected a list of one input, found {found}", where="inputs")
    tensor = _object(inputs[0], "inputs[0]", ("name", "shape", "datatype"), ("parameters", "data"))
    _expect(tensor, "name", manifest.INPUT, "inputs[0]")
    _expect(tensor, "datatype", "FP32", "inputs[0]")
    count = _count(tensor["shape"], served)
    size = _parameters(tensor, "inputs[0]").get("binary_data_size")
    if (size is None) != ("data" in tensor):
        raise BadInput(
            'expected either "data" or the parameter binary_data_size', where="inputs[0]"
        )
    if size is None:
        if tail:
            detail = f"{len(tail)} bytes follow the JSON, and no input has a binary_data_size"
            raise BadInput(detail, status=UNPARSEABLE)
        return _numbers(tensor["data"], count, served)
    if type(size) is not int or size != 4 * count * width:
        detail = f"expected {4 * count * width} bytes for the shape [{count}, {width}], found {errors.describe_value(size)}"
        raise BadInput(detail, where="inputs[0].parameters.binary_data_size")
    if len(tail) != size:
        detail = f"expected {size} bytes after the JSON, as the input's binary_data_size says, found {len(tail)}"
        raise BadInput(detail, status=UNPARSEABLE)
    if not size:
        return np.zeros((0, width), np.float32), "row {}"
    return rows_from_bytes(tail, served.features, served.most_rows), "row {}"


def _count(shape: Any, served: ServedModel) -> int:
    """Return how many rows a shape speaks of; nothing is allocated by it before it is held to the cap."""
    where, width = "inputs[0].shape", len(served.features)
    if (
        type(shape) is not list
        or [type(size) for size in shape] != [int, int]
        or shape[0] < 0
        or shape[1] != width
    ):
        raise BadInput(f"expected [rows, {width}], found {_shape(shape)}", where=where)
    if shape[0] > served.most_rows:
        raise BadInput(
            f"expected at most {served.most_rows} rows, found {shape[0]}",
            where=where,
            status=TOO_LARGE,
        )
    return int(shape[0])


def _numbers(data: Any, count: int, served: ServedModel) -> tuple[Rows, str]:
    """Read the tensor as JSON has it: nested, a list of rows, or flat, one list of numbers in the same order."""
    where, width = "inputs[0].data", len(served.features)
    if isinstance(data, np.ndarray):
        if data.shape in ((count, width), (count * width,)):
            return data.reshape(count, width), where + "[{}]" if data.ndim == 2 else "row {}"
        data = data.tolist()
    if type(data) is not list:
        raise BadInput(f"expected a list, found {errors.describe_value(data)}", where=where)
    if data and type(data[0]) is list:
        if len(data) != count:
            raise BadInput(
                f"expected {count} rows, as the shape says, found {len(data)}", where=where
            )
        return rows_from_instances(data, served.features, served.most_rows, where), where + "[{}]"
    if len(data) != count * width:
        raise BadInput(
            f"expected {count * width} values, as the shape says, found {len(data)}", where=where
        )
    return array_from_numbers(data, where).reshape(count, width), "row {}"


def _requested_outputs(document: Document, about: Manifest) -> RequestedOutputs:
    """Return what is asked for; nothing in particular is everything, in the graph's order."""
    if "model_name" in document:
        _expect(document, "model_name", about.name)
    if type(document.get("id", "")) is not str:
        raise BadInput(
            f"expected a string, found {errors.describe_value(document['id'])}", where="id"
        )
    known = manifest.OUTPUTS[about.task]
    default = _flag(_parameters(document), "binary_data_output", default=False)
    outputs = document.get("outputs", [])
    if type(outputs) is not list:
        raise BadInput(
            f"expected a list of outputs, found {errors.describe_value(outputs)}", where="outputs"
        )
    asked: RequestedOutputs = {}
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        name = _object(output, where, ("name",), ("parameters",))["name"]
        if type(name) is not str or name not in known:
            detail = f"expected one of {', '.join(known)}, found {errors.describe_value(name)}"
            raise BadInput(detail, where=f"{where}.name")
        if name in asked:
            raise BadInput(f'the output "{name}" stands twice', where=f"{where}.name")
        asked[name] = _flag(_parameters(output, where), "binary_data", default, where)
    return asked or dict.fromkeys(known, default)


def _reply(outputs: Outputs, asked: RequestedOutputs, about: Manifest, document: Document) -> Reply:
    """Write the outputs that are asked for, each as a flat list or as little-endian bytes behind the JSON."""
    head: Document = {"model_name": about.name, "model_version": str(about.version)}
    if "id" in document:
        head["id"] = document["id"]
    head["outputs"] = listed = []
    tail = []
    dtypes = manifest.OUTPUTS[about.task]
    for name, binary in asked.items():
        values, datatype = outputs[name], DATATYPES[dtypes[name]]
        output: Document = {"name": name, "datatype": datatype, "shape": values.shape}
        if binary:
            tail.append(values.astype(LITTLE_ENDIAN[datatype], copy=False).tobytes())
            output["parameters"] = {"binary_data_size": values.nbytes}
        else:
            output["data"] = values.reshape(-1)
        listed.append(output)
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if not tail:
        return Reply(text)
    return Reply(b"".join((text, *tail)), BYTES, headers=((HEADER, str(len(text))),))


def _object(
    value: Any, where: str | None, needed: Sequence[str], others: Sequence[str]
) -> Document:
    """Return an object that has the members it needs, and no unknown one."""
    if type(value) is not dict:
        raise BadInput(f"expected an object, found {errors.describe_value(value)}", where=where)
    for name in needed:
        if name not in value:
            raise BadInput(f'expected the member "{name}"', where=where)
    for name in value:
        if name not in needed and name not in others:
            known = ", ".join(dict.fromkeys((*needed, *others)))
            raise BadInput(
                f"expected no member beside {known}, found {errors.describe_value(name)}",
                where=where,
            )
    return value


def _parameters(holder: Document, where: str = "") -> Document:
    """Return the parameters of a request, an input or an output: scalars by name."""
    parameters, where = holder.get("parameters", {}), f"{where}.parameters".lstrip(".")
    if type(parameters) is not dict:
        raise BadInput(
            f"expected an object, found {errors.describe_value(parameters)}", where=where
        )
    for name, value in parameters.items():
        if type(value) not in (str, int, float, bool):
            detail = (
                f"expected a string, a number, true or false, found {errors.describe_value(value)}"
            )
            raise BadInput(detail, where=f"{where}.{name[:40]}")
        if name in UNSUPPORTED:
            raise BadInput(f"not supported: {UNSUPPORTED[name]}", where=f"{where}.{name}")
    return parameters


def _flag(parameters: Document, name: str, default: bool, where: str = "") -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        detail = f"expected true or false, found {errors.describe_value(value)}"
        raise BadInput(detail, where=f"{where}.parameters.{name}".lstrip("."))
    return value


def _expect(holder: Document, member: str, expected: str, where: str = "") -> None:
    if holder[member] != expected:
        detail = f'expected "{expected}", found {errors.describe_value(holder[member])}'
        raise BadInput(detail, where=f"{where}.{member}".lstrip("."))


def _shape(shape: Any) -> str:
    """Show a shape, where it is a short list of numbers."""
    if (
        type(shape) is list
        and len(shape) <= 4
        and all(type(size) in NUMBER_TYPES for size in shape)
    ):
        return str(shape)
    return errors.describe_value(shape)
