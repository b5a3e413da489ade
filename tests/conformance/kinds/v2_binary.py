"""The binary tensor extension of the Open Inference Protocol: JSON, then the tensors' bytes.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from typing import Any

from tests.conformance.draw import Case, Draw, kind
from tests.conformance.kinds.csv_and_bytes import NOT_FINITE_BITS
from tests.conformance.kinds.v2 import JSON_LENGTH, all_outputs, infer, reject_change, tensor
from tests.conformance.kinds.v2 import v2_path as path
from tests.conformance.outcomes import BYTES, JSON, ErrorReply

WRONG_SIZES = ("48", 1.5, True, -1, -48, 0, 7, 2**31, 2**63, 2**64, 2**80, 1e300)
"""Values of binary_data_size that are no integers, or not the tensor's size."""
WRONG_LENGTHS = ("-1", "+5", "1e2", "0x10", "abc", "1.0", "5 5", "1,1", "9" * 30, "\u00b2")
"""Values of Inference-Header-Content-Length that are no numbers."""
BARE = [(JSON_LENGTH, "0")]
"""The header of a request without JSON, whose body is the input's bytes."""


@kind("valid", 8)
def binary_input(draw: Draw) -> Case:
    """Bytes in, and in most cases bytes out, as Triton's client sends by default."""
    index, binary = draw.index(), draw.chance(0.7)
    members = draw.shuffled(tensor(draw, index, "binary").items())
    document: dict[str, Any] = {"inputs": [members]}
    if binary:
        document["parameters"] = {"binary_data_output": True}
    outcome = all_outputs(draw, index, binary=binary)
    return infer(draw, draw.shuffled(document.items()), outcome, draw.float32(index))


@kind("valid", 4)
def bytes_without_json(draw: Draw) -> Case:
    """test_raw_binary and test_raw_binary_longer of Triton's L0_http; all outputs are bytes."""
    index, content_type = draw.index(), draw.choice((BYTES, None, JSON))
    outcome, body = all_outputs(draw, index, binary=True), draw.float32(index)
    return draw.post(path(draw), body, outcome, content_type=content_type, headers=BARE)


@kind("valid", 2)
def json_length_of_the_whole_body(draw: Draw) -> Case:
    """The length header without a binary tail."""
    index = draw.index()
    return infer(draw, {"inputs": [tensor(draw, index)]}, all_outputs(draw, index), b"")


@kind("nearly valid", 3)
def wrong_size(draw: Draw) -> Case:
    """'unexpected size for input' of Triton's http_server.cc."""
    parameters = {"binary_data_size": draw.choice(WRONG_SIZES)}
    place = ".parameters.binary_data_size"
    return reject_change(draw, {"parameters": parameters}, place, form="binary")


@kind("nearly valid", 3)
def tail_of_wrong_length(draw: Draw) -> Case:
    """'expecting .. additional bytes', 'unexpected additional input data' of http_server.cc."""
    index = draw.index()
    tail = draw.float32(index)
    tail = draw.choice((tail[:-1], tail + b"\0", tail * 2, b"", tail[:-4]))
    outcome = ErrorReply(400, None, f"found {len(tail)}")
    return infer(draw, {"inputs": [tensor(draw, index, "binary")]}, outcome, tail)


@kind("nearly valid", 2)
def contradictory_data(draw: Draw) -> Case:
    """KServe's test_infer_request_from_bytes_missing_binary_data_size; data and a size at once."""
    index = draw.index()
    members, tail = tensor(draw, index), draw.float32(index)
    without_data = {name: value for name, value in members.items() if name != "data"}
    both = members | {"parameters": {"binary_data_size": len(tail)}}
    neither = (without_data, ErrorReply(422, "inputs[0]", "binary_data_size"))
    wrong = (neither, (members, ErrorReply(400)), (both, ErrorReply(422, "inputs[0]")))
    inputs, outcome = draw.choice(wrong)
    return infer(draw, {"inputs": [inputs]}, outcome, tail)


@kind("nearly valid", 2)
def bytes_that_are_not_finite(draw: Draw) -> Case:
    """Infinities and NaNs, with and without JSON, in a place named by row and column."""
    index = draw.index()
    (i, j), bits = draw.position(index), draw.model.rows[index].astype("<f4").view("<u4")
    bits[i, j] = draw.choice(NOT_FINITE_BITS)
    outcome = ErrorReply(422, f"row {i}, column {j}", "finite")
    if draw.chance(0.5):
        return draw.post(path(draw), bits.tobytes(), outcome, content_type=None, headers=BARE)
    return infer(draw, {"inputs": [tensor(draw, index, "binary")]}, outcome, bits.tobytes())


@kind("nearly valid", 2)
def bytes_without_json_of_wrong_length(draw: Draw) -> Case:
    """Incomplete rows, no rows, and too many, as in Triton's http_input_size_limit_test.py."""
    limit, row_bytes = draw.model.max_rows, 4 * len(draw.model.features)
    tail = draw.float32(draw.index(at_most=33))
    part = draw.choice((tail[:-1], tail + b"\0\0\0\0"))
    incomplete = (part, ErrorReply(422, None, f"a multiple of {row_bytes} bytes"))
    too_many = (bytes(row_bytes * (limit + 1)), ErrorReply(413, None, str(limit)))
    wrong = ((b"", ErrorReply(400, None, "empty")), incomplete, too_many)
    body, outcome = draw.choice(wrong)
    return draw.post(path(draw), body, outcome, content_type=None, headers=BARE)


@kind("hostile", 3)
def wrong_json_length(draw: Draw) -> Case:
    """'inference header size should be in range' of Triton's http_server.cc."""
    index, length = draw.index(), draw.choice((*WRONG_LENGTHS, "99999999"))
    outcome = ErrorReply(400, None, JSON_LENGTH if length.isascii() else "")
    document = {"inputs": [tensor(draw, index, "binary")]}
    return infer(draw, document, outcome, draw.float32(index), length=length)


@kind("hostile", 2)
def json_length_inside_the_json(draw: Draw) -> Case:
    """A length that ends inside the JSON, or beyond it."""
    index = draw.index()
    body = draw.json({"inputs": [tensor(draw, index, "binary")]}).strip()
    tail = b"\xff" + draw.float32(index)[1:]
    length = draw.choice((1, len(body) - 1, len(body) // 2, len(body) + 1, len(body) + len(tail)))
    headers = [(JSON_LENGTH, str(length))]
    outcome = ErrorReply(400)
    return draw.post(path(draw), body + tail, outcome, content_type=BYTES, headers=headers)
