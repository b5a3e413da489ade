"""Parsing of Open Inference Protocol requests: JSON document, input tensor, requested outputs.

The functions raise BadInput with the status and the location of the first error.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.artifact import manifest
from service.artifact.manifest import Manifest
from service.errors import TOO_LARGE, UNPARSEABLE, BadInput, describe_value
from service.protocols import json_rows
from service.protocols.byte_rows import DTYPES, DType, rows_from_bytes
from service.protocols.messages import Request
from service.protocols.rows import (
    Place,
    array_from_list,
    mismatch,
    rows_from_instances,
    to_float32,
)
from service.runtime.served_model import ServedModel
from service.runtime.session import Rows

JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
DATATYPES = {name.replace("float", "fp").upper(): dtype for name, dtype in DTYPES.items()}
"""Accepted datatypes of the input, whose numbers are rounded to float32."""
MAX_SHOWN_DIMENSIONS = 4
"""Maximum number of dimensions of a shape that an error message shows."""
REQUEST_MEMBERS = ("model_name", "id", "parameters", "inputs", "outputs")
"""Members of a request: those of the specification, and model_name, which KServe's client sends."""
SEQUENCE_PARAMETERS = ("sequence_id", "sequence_start", "sequence_end")
MEMORY_PARAMETERS = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
UNSUPPORTED_PARAMETERS = {
    "classification": "request the output label or probabilities",
    **dict.fromkeys(SEQUENCE_PARAMETERS, "the model keeps no state"),
    **dict.fromkeys(MEMORY_PARAMETERS, "there is no shared memory"),
}
"""Parameters that are refused because they would change the reply, each with a reason."""
Document = dict[str, Any]
RequestedOutputs = dict[str, bool]
"""Requested outputs in order, by name: True to send the output as bytes, False to send JSON."""


def parse_body(request: Request, max_values: int) -> tuple[Document, bytes]:
    """Return the JSON document of a request, and the bytes that follow it.

    If the fast path succeeds, the data of the input is a float64 array.
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


def read_rows(document: Document, tail: bytes, served: ServedModel) -> tuple[Rows, Place]:
    """Return (rows, in_features) float32, and a function that names the place of a row."""
    inputs, width = document["inputs"], len(served.features)
    if type(inputs) is not list or len(inputs) != 1:
        actual = len(inputs) if type(inputs) is list else describe_value(inputs)
        raise BadInput(f"expected a list of one input, found {actual}", where="inputs")
    tensor = _object(inputs[0], "inputs[0]", ("name", "shape", "datatype"), ("parameters", "data"))
    _expect(tensor, "name", manifest.INPUT, "inputs[0]")
    datatype = tensor["datatype"]
    if type(datatype) is not str or datatype not in DATATYPES:
        raise mismatch(f"one of {', '.join(DATATYPES)}", datatype, "inputs[0].datatype")
    dtype, count = DATATYPES[datatype], _row_count(tensor["shape"], served)
    size = _parameters(tensor, "inputs[0]").get("binary_data_size")
    if (size is None) != ("data" in tensor):
        detail = 'expected either "data" or the parameter binary_data_size'
        raise BadInput(detail, where="inputs[0]")
    if size is None:
        if tail:
            detail = f"{len(tail)} bytes follow the JSON, and no input has a binary_data_size"
            raise BadInput(detail, status=UNPARSEABLE)
        rows, place = _rows_from_data(tensor["data"], count, served)
        if dtype.kind in "iu":
            _require_integers(tensor["data"], dtype)
        return rows, place
    if type(size) is not int or size != count * width * dtype.itemsize:
        layout = f"{datatype} of the shape [{count}, {width}]"
        expected = f"{count * width * dtype.itemsize} bytes for {layout}"
        raise mismatch(expected, size, "inputs[0].parameters.binary_data_size")
    if len(tail) != size:
        expected = f"expected {size} bytes after the JSON, the input's binary_data_size"
        raise BadInput(f"{expected}, found {len(tail)}", status=UNPARSEABLE)
    rows = rows_from_bytes(tail, served.features, served.max_rows, dtype, count)
    return rows, "row {}".format


def read_requested_outputs(document: Document, about: Manifest) -> RequestedOutputs:
    """Return the requested outputs; by default all, in the order of the graph."""
    if "model_name" in document:
        _expect(document, "model_name", about.name)
    if type(document.get("id", "")) is not str:
        raise mismatch("a string", document["id"], "id")
    known = manifest.OUTPUTS[about.task]
    default = _flag(_parameters(document), "binary_data_output", default=False)
    outputs = document.get("outputs", [])
    if type(outputs) is not list:
        raise mismatch("a list of outputs", outputs, "outputs")
    requested: RequestedOutputs = {}
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        output = _object(output, where, ("name",), ("parameters",))
        name = output["name"]
        if type(name) is not str or name not in known:
            raise mismatch(f"one of {', '.join(known)}", name, f"{where}.name")
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


def _rows_from_data(data: Any, count: int, served: ServedModel) -> tuple[Rows, Place]:
    """Read a tensor in JSON, either nested (a list of rows) or flat (one list, row by row)."""
    where, width = "inputs[0].data", len(served.features)
    if isinstance(data, np.ndarray):
        rows, is_nested = to_float32(data), data.ndim == 2
        if data.shape in ((count, width), (count * width,)) and np.isfinite(rows).all():
            return rows.reshape(count, width), (where + "[{}]" if is_nested else "row {}").format
        data = data.tolist()
    if type(data) is not list:
        raise mismatch("a list", data, where)
    nested = data and type(data[0]) is list
    size = count if nested else count * width
    if len(data) != size:
        noun = "rows" if nested else "values"
        detail = f"expected {size} {noun} for the shape [{count}, {width}], found {len(data)}"
        raise BadInput(detail, where=where)
    if nested:
        rows = rows_from_instances(data, served.features, served.max_rows, where, records=False)
        return rows, (where + "[{}]").format
    return array_from_list(data, where).reshape(count, width), "row {}".format


def _require_integers(data: Any, dtype: DType) -> None:
    """Raise BadInput (422) for the first number that an integer type cannot represent.

    JSON numbers are read as float64, in which the largest number of a 64-bit type equals the number
    above it; both are accepted.
    """
    numbers, limits = np.asarray(data, np.float64), np.iinfo(dtype)
    valid = (numbers == np.trunc(numbers)) & (numbers >= limits.min) & (numbers <= limits.max)
    if not valid.all():
        index = tuple(np.argwhere(~valid)[0].tolist())
        number = numbers[index].item()
        place = "inputs[0].data" + "".join(f"[{i}]" for i in index)
        value = int(number) if number.is_integer() else number
        raise mismatch(f"a number of type {dtype.name}", value, place)


def _object(
    value: Any, where: str | None, required: Sequence[str], optional: Sequence[str]
) -> Document:
    """Return an object without null members, after a check for missing and unknown members."""
    if type(value) is not dict:
        raise mismatch("an object", value, where)
    for name in required:
        if name not in value:
            raise BadInput(f'expected the member "{name}"', where=where)
    for name in value:
        if name not in required and name not in optional:
            known = ", ".join(dict.fromkeys((*required, *optional)))
            raise mismatch(f"no member other than {known}", name, where)
    return {name: item for name, item in value.items() if item is not None or name in required}


def _parameters(holder: Document, where: str = "") -> Document:
    """Return the parameters of a request, an input or an output, without those that are null."""
    parameters, where = holder.get("parameters", {}), f"{where}.parameters".lstrip(".")
    if type(parameters) is not dict:
        raise mismatch("an object", parameters, where)
    parameters = {name: value for name, value in parameters.items() if value is not None}
    for name, value in parameters.items():
        if type(value) not in (str, int, float, bool):
            raise mismatch("a string, a number, true or false", value, f"{where}.{name[:40]}")
        if name in UNSUPPORTED_PARAMETERS:
            detail = f"not supported: {UNSUPPORTED_PARAMETERS[name]}"
            raise BadInput(detail, where=f"{where}.{name}")
    return parameters


def _flag(parameters: Document, name: str, default: bool, where: str = "") -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise mismatch("true or false", value, f"{where}.parameters.{name}".lstrip("."))
    return value


def _expect(holder: Document, member: str, expected: str, where: str = "") -> None:
    if holder[member] != expected:
        raise mismatch(f'"{expected}"', holder[member], f"{where}.{member}".lstrip("."))


def _describe_shape(shape: Any) -> str:
    """Describe a shape in a message: by its numbers if it is a short list of them, else by type."""
    is_short = type(shape) is list and len(shape) <= MAX_SHOWN_DIMENSIONS
    is_clear = is_short and all(type(size) in (int, float) for size in shape)
    return str(shape) if is_clear else describe_value(shape)
