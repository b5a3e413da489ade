"""The body of an Open Inference Protocol request: its JSON document, its tensor and its outputs.

The functions raise BadInput with the status and the place of the first fault.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.artifact import manifest
from service.artifact.manifest import Manifest
from service.errors import TOO_LARGE, UNPARSEABLE, BadInput, describe_value
from service.protocols import json_rows
from service.protocols.messages import Request
from service.protocols.rows import array_from_numbers, rows_from_bytes, rows_from_instances
from service.runtime.served_model import ServedModel
from service.runtime.session import Rows

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
MAX_SHOWN_DIMENSIONS = 4
"""Maximum number of dimensions of a shape that an error message shows."""
REQUEST_MEMBERS = ("model_name", "id", "parameters", "inputs", "outputs")
"""Members of a request. The specification lacks model_name, and KServe's client sends it."""
SEQUENCE_PARAMETERS = ("sequence_id", "sequence_start", "sequence_end")
MEMORY_PARAMETERS = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
UNSUPPORTED_PARAMETERS = {
    "classification": "ask for the output label or probabilities",
    **dict.fromkeys(SEQUENCE_PARAMETERS, "the model keeps no state"),
    **dict.fromkeys(MEMORY_PARAMETERS, "there is no shared memory"),
}
"""Parameters that would change the reply's meaning, and why they are refused."""
Document = dict[str, Any]
RequestedOutputs = dict[str, bool]
"""The requested outputs in their order, and whether each is requested as bytes."""


def parse_body(request: Request, max_values: int) -> tuple[Document, bytes]:
    """Return the JSON document of a request, and the bytes that follow it.

    Where the fast path succeeds, the data of the input is a float32 array.
    """
    body = request.body
    length = len(body) if request.json_length is None else request.json_length
    if length > len(body):
        expected = f"expected at most the {len(body)} bytes of the body"
        raise BadInput(f"{JSON_LENGTH_HEADER}: {expected}, found {length}", status=UNPARSEABLE)
    head, tail = body[:length], body[length:]
    document = None if tail else json_rows.load_with_array(head, ("inputs", 0, "data"), max_values)
    if document is None:
        document = json_rows.load_json(head, max_values)
    return _object(document, None, ("inputs",), REQUEST_MEMBERS), tail


def read_rows(document: Document, tail: bytes, served: ServedModel) -> tuple[Rows, str]:
    """Return the input, (rows, in_features) float32, and the format of a row's place."""
    inputs, width = document["inputs"], len(served.features)
    if type(inputs) is not list or len(inputs) != 1:
        actual = len(inputs) if type(inputs) is list else describe_value(inputs)
        raise BadInput(f"expected a list of one input, found {actual}", where="inputs")
    tensor = _object(inputs[0], "inputs[0]", ("name", "shape", "datatype"), ("parameters", "data"))
    _expect(tensor, "name", manifest.INPUT, "inputs[0]")
    _expect(tensor, "datatype", "FP32", "inputs[0]")
    count = _row_count(tensor["shape"], served)
    size = _parameters(tensor, "inputs[0]").get("binary_data_size")
    if (size is None) != ("data" in tensor):
        detail = 'expected either "data" or the parameter binary_data_size'
        raise BadInput(detail, where="inputs[0]")
    if size is None:
        if tail:
            detail = f"{len(tail)} bytes follow the JSON, and no input has a binary_data_size"
            raise BadInput(detail, status=UNPARSEABLE)
        return _rows_from_data(tensor["data"], count, served)
    if type(size) is not int or size != 4 * count * width:
        expected = f"expected {4 * count * width} bytes for the shape [{count}, {width}]"
        where = "inputs[0].parameters.binary_data_size"
        raise BadInput(f"{expected}, found {describe_value(size)}", where=where)
    if len(tail) != size:
        expected = f"expected {size} bytes after the JSON, the input's binary_data_size"
        raise BadInput(f"{expected}, found {len(tail)}", status=UNPARSEABLE)
    if not size:
        return np.zeros((0, width), np.float32), "row {}"
    return rows_from_bytes(tail, served.features, served.max_rows), "row {}"


def read_requested_outputs(document: Document, about: Manifest) -> RequestedOutputs:
    """Return the requested outputs; a request that names none requests all, in graph order."""
    if "model_name" in document:
        _expect(document, "model_name", about.name)
    if type(document.get("id", "")) is not str:
        raise BadInput(f"expected a string, found {describe_value(document['id'])}", where="id")
    known = manifest.OUTPUTS[about.task]
    default = _flag(_parameters(document), "binary_data_output", default=False)
    outputs = document.get("outputs", [])
    if type(outputs) is not list:
        detail = f"expected a list of outputs, found {describe_value(outputs)}"
        raise BadInput(detail, where="outputs")
    requested: RequestedOutputs = {}
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        name = _object(output, where, ("name",), ("parameters",))["name"]
        if type(name) is not str or name not in known:
            detail = f"expected one of {', '.join(known)}, found {describe_value(name)}"
            raise BadInput(detail, where=f"{where}.name")
        if name in requested:
            raise BadInput(f'the output "{name}" appears twice', where=f"{where}.name")
        requested[name] = _flag(_parameters(output, where), "binary_data", default, where)
    return requested or dict.fromkeys(known, default)


def _row_count(shape: Any, served: ServedModel) -> int:
    """Return the number of rows of a shape, checked against the limit before any allocation."""
    where, width = "inputs[0].shape", len(served.features)
    is_pair = type(shape) is list and [type(size) for size in shape] == [int, int]
    if not is_pair or shape[0] < 0 or shape[1] != width:
        raise BadInput(f"expected [rows, {width}], found {_describe_shape(shape)}", where=where)
    if shape[0] > served.max_rows:
        detail = f"expected at most {served.max_rows} rows, found {shape[0]}"
        raise BadInput(detail, where=where, status=TOO_LARGE)
    return int(shape[0])


def _rows_from_data(data: Any, count: int, served: ServedModel) -> tuple[Rows, str]:
    """Read a tensor in JSON, nested as a list of rows, or flat as one list in the same order."""
    where, width = "inputs[0].data", len(served.features)
    if isinstance(data, np.ndarray):
        if data.shape in ((count, width), (count * width,)):
            return data.reshape(count, width), where + "[{}]" if data.ndim == 2 else "row {}"
        data = data.tolist()
    if type(data) is not list:
        raise BadInput(f"expected a list, found {describe_value(data)}", where=where)
    nested = data and type(data[0]) is list
    size = count if nested else count * width
    if len(data) != size:
        noun = "rows" if nested else "values"
        detail = f"expected {size} {noun} for the shape [{count}, {width}], found {len(data)}"
        raise BadInput(detail, where=where)
    if nested:
        return rows_from_instances(data, served.features, served.max_rows, where), where + "[{}]"
    return array_from_numbers(data, where).reshape(count, width), "row {}"


def _object(
    value: Any, where: str | None, required: Sequence[str], optional: Sequence[str]
) -> Document:
    """Return an object that has the required members and no unknown one."""
    if type(value) is not dict:
        raise BadInput(f"expected an object, found {describe_value(value)}", where=where)
    for name in required:
        if name not in value:
            raise BadInput(f'expected the member "{name}"', where=where)
    for name in value:
        if name not in required and name not in optional:
            known = ", ".join(dict.fromkeys((*required, *optional)))
            detail = f"expected no member other than {known}, found {describe_value(name)}"
            raise BadInput(detail, where=where)
    return value


def _parameters(holder: Document, where: str = "") -> Document:
    """Return the parameters of a request, an input or an output: scalars by name."""
    parameters, where = holder.get("parameters", {}), f"{where}.parameters".lstrip(".")
    if type(parameters) is not dict:
        raise BadInput(f"expected an object, found {describe_value(parameters)}", where=where)
    for name, value in parameters.items():
        if type(value) not in (str, int, float, bool):
            detail = f"expected a string, a number, true or false, found {describe_value(value)}"
            raise BadInput(detail, where=f"{where}.{name[:40]}")
        if name in UNSUPPORTED_PARAMETERS:
            detail = f"not supported: {UNSUPPORTED_PARAMETERS[name]}"
            raise BadInput(detail, where=f"{where}.{name}")
    return parameters


def _flag(parameters: Document, name: str, default: bool, where: str = "") -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        detail = f"expected true or false, found {describe_value(value)}"
        raise BadInput(detail, where=f"{where}.parameters.{name}".lstrip("."))
    return value


def _expect(holder: Document, member: str, expected: str, where: str = "") -> None:
    if holder[member] != expected:
        detail = f'expected "{expected}", found {describe_value(holder[member])}'
        raise BadInput(detail, where=f"{where}.{member}".lstrip("."))


def _describe_shape(shape: Any) -> str:
    """Return a shape for a message: itself if it is a short list of numbers, else its type."""
    is_short = type(shape) is list and len(shape) <= MAX_SHOWN_DIMENSIONS
    is_clear = is_short and all(type(size) in (int, float) for size in shape)
    return str(shape) if is_clear else describe_value(shape)
