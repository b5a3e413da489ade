"""The binary tensor extension of the Open Inference Protocol: a JSON document, its length in a header, and then bytes.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from typing import Any

from tests.conformance.probes import v2
from tests.conformance.probes.answers import Tensors
from tests.conformance.probes.ask import Ask, Probe, kind
from tests.conformance.probes.replies import BYTES, JSON, Refusal

NOT_SIZES = ("48", 1.5, True, -1, -48, 0, 7, 2**31, 2**63, 2**64, 2**80, 1e300)
"""Of binary_data_size: no integers, and integers that are not the tensor's."""
NOT_LENGTHS = ("-1", "+5", "1e2", "0x10", "abc", "1.0", "5 5", "1,1", "9" * 30, "\u00b2")
"""Of Inference-Header-Content-Length."""


@kind("valid", 8)
def both_ways(ask: Ask) -> Probe:
    """The binary tensor extension both ways, as Triton's client speaks by default."""
    index, back = ask.rows(), ask.random.random() < 0.7
    document: dict[str, Any] = {"inputs": [v2.shuffled(ask, v2.tensor(ask, index, "binary"))]}
    if back:
        document["parameters"] = {"binary_data_output": True}
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, back))
    return v2.infer(ask, v2.shuffled(ask, document), expected, v2.raw(ask, index))


@kind("valid", 4)
def alone(ask: Ask) -> Probe:
    """test_raw_binary and test_raw_binary_longer of Triton's L0_http: bytes alone; every output comes back in bytes."""
    index = ask.rows()
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, True))
    form = ask.choice((BYTES, None, JSON))
    return ask.post(
        v2.path(ask), v2.raw(ask, index), expected, form=form, headers=[(v2.HEADER, "0")]
    )


@kind("valid", 2)
def length_of_json_alone(ask: Ask) -> Probe:
    """The header may stand where no bytes follow, and counts the whole body."""
    index = ask.rows()
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False))
    return v2.infer(ask, {"inputs": [v2.tensor(ask, index)]}, expected, b"")


@kind("nearly valid", 3)
def size_of_another_kind(ask: Ask) -> Probe:
    """'unexpected size for input' of Triton's http_server.cc; the size is held to the shape before it is used."""
    parameters = {"binary_data_size": ask.choice(NOT_SIZES)}
    return v2.refused(
        ask, {"parameters": parameters}, 422, "inputs[0].parameters.binary_data_size", form="binary"
    )


@kind("nearly valid", 3)
def bytes_of_another_length(ask: Ask) -> Probe:
    """'expecting .. additional bytes' and 'unexpected additional input data' of Triton's http_server.cc."""
    index = ask.rows()
    tail = v2.raw(ask, index)
    tail = ask.choice((tail[:-1], tail + b"\0", tail * 2, b"", tail[:-4]))
    return v2.infer(
        ask,
        {"inputs": [v2.tensor(ask, index, "binary")]},
        Refusal(400, None, f"found {len(tail)}"),
        tail,
    )


@kind("nearly valid", 2)
def without_its_parameter(ask: Ask) -> Probe:
    """test_infer_request_from_bytes_missing_binary_data_size of KServe; and bytes behind numbers, and both at once."""
    index = ask.rows()
    made = v2.tensor(ask, index)
    tail = v2.raw(ask, index)
    bare = {name: value for name, value in made.items() if name != "data"}
    size = {"parameters": {"binary_data_size": len(tail)}}
    sent, expected = ask.choice(
        (
            (bare, Refusal(422, "inputs[0]", "binary_data_size")),
            (made, Refusal(400, None, "follow")),
            (made | size, Refusal(422, "inputs[0]")),
        )
    )
    return v2.infer(ask, {"inputs": [sent]}, expected, tail)


@kind("nearly valid", 2)
def not_finite(ask: Ask) -> Probe:
    """Infinities and NaNs, at a row and a column, behind JSON and alone."""
    index = ask.rows()
    bits, (i, j) = ask.subject.wide[index].astype("<f4").view("<u4"), ask.place(index)
    bits[i, j] = ask.choice((0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001))
    expected = Refusal(422, f"row {i}, column {j}", "finite")
    if ask.random.random() < 0.5:
        return ask.post(
            v2.path(ask), bits.tobytes(), expected, form=None, headers=[(v2.HEADER, "0")]
        )
    return v2.infer(ask, {"inputs": [v2.tensor(ask, index, "binary")]}, expected, bits.tobytes())


@kind("nearly valid", 2)
def alone_of_another_length(ask: Ask) -> Probe:
    """Half a row, or nothing, where the bytes stand alone; too many rows, as http_input_size_limit_test.py has them."""
    most, width = ask.subject.most_rows, 4 * len(ask.subject.features)
    tail = v2.raw(ask, ask.rows(most=33))
    body, expected = ask.choice(
        (
            (tail[:-1], Refusal(422, None, f"a multiple of {width} bytes")),
            (tail + b"\0\0\0\0", Refusal(422, None, f"a multiple of {width} bytes")),
            (b"", Refusal(400, None, "empty")),
            (bytes(width * (most + 1)), Refusal(413, None, str(most))),
        )
    )
    return ask.post(v2.path(ask), body, expected, form=None, headers=[(v2.HEADER, "0")])


@kind("hostile", 3)
def length_of_json_wrong(ask: Ask) -> Probe:
    """'inference header size should be in range' of Triton's http_server.cc: no number, or more than there is."""
    index = ask.rows()
    length = ask.choice((*NOT_LENGTHS, "99999999"))
    document = {"inputs": [v2.tensor(ask, index, "binary")]}
    says = v2.HEADER if length.isascii() else ""
    return v2.infer(ask, document, Refusal(400, None, says), v2.raw(ask, index), length=length)


@kind("hostile", 2)
def length_of_json_within_it(ask: Ask) -> Probe:
    """The header ends the JSON too early, or takes some of the bytes for JSON."""
    index = ask.rows()
    body = ask.text({"inputs": [v2.tensor(ask, index, "binary")]}).strip()
    tail = b"\xff" + v2.raw(ask, index)[1:]
    length = ask.choice((1, len(body) - 1, len(body) // 2, len(body) + 1, len(body) + len(tail)))
    return ask.post(
        v2.path(ask), body + tail, Refusal(400), form=BYTES, headers=[(v2.HEADER, str(length))]
    )
