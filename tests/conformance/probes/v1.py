"""TensorFlow Serving's REST API, and KServe's V1 protocol: POST /v1/models/M:predict."""

import json
from typing import Any

from tests.conformance.probes import native
from tests.conformance.probes.answers import Columns, Rows
from tests.conformance.probes.ask import Ask, Probe, kind
from tests.conformance.probes.json_text import Members, Token
from tests.conformance.probes.replies import CSV, JSON, Refusal

SIGNATURE = "serving_default"


def path(ask: Ask) -> str:
    """Return a path that answers, with a version in it or not."""
    version = ask.choice(("", f"/versions/{ask.subject.version}"))
    return f"/v1/models/{ask.subject.name}{version}:predict"


def document(ask: Ask, member: str, values: Any) -> Members:
    """Return a request that may name the signature that there is."""
    members = Members([(member, values)])
    if ask.random.random() < 0.3:
        members.append(("signature_name", SIGNATURE))
        ask.random.shuffle(members)
    return members


def refused(ask: Ask, body: object, status: int, where: str | None, says: str = "") -> Probe:
    """Send a document that does not fit."""
    return ask.post(path(ask), ask.text(body), Refusal(status, where, says))


@kind("valid", 8)
def instances(ask: Ask) -> Probe:
    """{"instances": rows or records}: answered row by row."""
    index = ask.rows()
    cells: list[Any] = ask.texts(index)
    if ask.random.random() < 0.4:
        cells = [ask.record(row) for row in cells]
    form = ask.choice(
        (JSON, JSON, None, "application/json; charset=utf-8", "application/x-www-form-urlencoded")
    )
    return ask.post(
        path(ask), ask.text(document(ask, "instances", cells)), Rows(ask.subject, index), form=form
    )


@kind("valid", 6)
def inputs(ask: Ask) -> Probe:
    """{"inputs": rows}, or the one input by its name: answered output by output."""
    index = ask.rows()
    cells: Any = ask.texts(index)
    if ask.random.random() < 0.3:
        cells = {"input": cells}
    return ask.post(
        path(ask), ask.text(document(ask, "inputs", cells)), Columns(ask.subject, index)
    )


@kind("valid", 1)
def no_rows(ask: Ask) -> Probe:
    """JsontensorTest.FromJsonSingleZeroBatchTensor of TF Serving: no instances, no predictions."""
    none = ask.rows()[:0]
    if ask.random.random() < 0.5:
        return ask.post(path(ask), ask.text({"instances": []}), Rows(ask.subject, none))
    return ask.post(path(ask), ask.text({"inputs": []}), Columns(ask.subject, none))


@kind("valid", 1)
def as_many_rows_as_allowed(ask: Ask) -> Probe:
    """The cap itself is allowed."""
    index = ask.rows(least=ask.subject.most_rows)
    return ask.post(path(ask), ask.text({"instances": ask.wide(index)}), Rows(ask.subject, index))


@kind("valid", 1)
def accept_that_takes_json(ask: Ask) -> Probe:
    """Whatever else it would take."""
    index = ask.rows()
    accept = ask.choice(
        ("*/*", JSON, "application/*", "text/csv, */*;q=0.1", "text/html;q=0.9, application/json")
    )
    body = ask.text({"instances": ask.texts(index)})
    return ask.post(path(ask), body, Rows(ask.subject, index), headers=[("Accept", accept)])


@kind("nearly valid", 1)
def nothing_that_is_accepted(ask: Ask) -> Probe:
    """There is JSON, and nothing else."""
    accept = ask.choice((CSV, "application/octet-stream", "text/html", "application/json;q=0"))
    return ask.post(
        path(ask),
        ask.text({"instances": ask.texts(ask.rows())}),
        Refusal(406),
        headers=[("Accept", accept)],
    )


@kind("nearly valid", 1)
def type_that_is_not_spoken(ask: Ask) -> Probe:
    """KServe's TestTFHttpServerAvroCloudEvent and its like: there is JSON, and nothing else."""
    form = ask.choice(
        (
            CSV,
            "application/octet-stream",
            "text/plain",
            "application/avro",
            "application/cloudevents+json",
        )
    )
    return ask.post(path(ask), b'{"instances": []}', Refusal(415, None, JSON), form=form)


@kind("nearly valid", 4)
def no_number(ask: Ask) -> Probe:
    """JsontensorTest.SingleUnnamedTensorErrors of TF Serving, 'not of expected type': a string among the numbers."""
    index = ask.rows()
    cells: list[Any] = [list(row) for row in ask.texts(index)]
    i, j = ask.place(index)
    cells[i][j] = ask.choice(native.NOT_NUMBERS)
    member, form = ask.choice(
        (("instances", "rows"), ("instances", "records"), ("inputs", "rows"), ("inputs", "named"))
    )
    where = f"{member}{'.input' if form == 'named' else ''}{ask.cell(i, j, form == 'records')}"
    values: Any = [ask.record(row) for row in cells] if form == "records" else cells
    made = document(ask, member, {"input": values} if form == "named" else values)
    return refused(ask, made, 422, where, "expected a number")


@kind("nearly valid", 2)
def number_beyond_float32(ask: Ask) -> Probe:
    """JsontensorTest.SingleUnnamedTensorErrors of TF Serving, 'loss of precision': the largest double."""
    index = ask.rows()
    cells, (i, j) = ask.texts(index), ask.place(index)
    cells[i][j] = Token(ask.choice(native.TOO_LARGE))
    member = ask.choice(("instances", "inputs"))
    return refused(ask, document(ask, member, cells), 422, member + ask.cell(i, j), "float32")


@kind("nearly valid", 1)
def answer_beyond_float32(ask: Ask) -> Probe:
    """A finite row whose answer is not."""
    rows, i = ask.beyond(ask.rows())
    member = ask.choice(("instances", "inputs"))
    return refused(ask, document(ask, member, rows), 422, f"{member}[{i}]", "overflows float32")


@kind("nearly valid", 3)
def row_of_another_width(ask: Ask) -> Probe:
    """JsontensorTest.SingleUnnamedTensorErrors of TF Serving, 'Expecting tensor size': [[1, 2], [3, 4], [5, 6, 7]]."""
    index = ask.rows()
    cells, (i, j) = ask.texts(index), ask.place(index)
    cells[i] = ask.choice((cells[i][:-1], cells[i] + cells[i][j:], []))
    member, says = ask.choice(("instances", "inputs")), f"found {len(cells[i])}"
    return refused(ask, document(ask, member, cells), 422, f"{member}[{i}]", says)


@kind("nearly valid", 2)
def scalars(ask: Ask) -> Probe:
    """PredictRequestErrors of TF Serving sends {"instances": [1, 2]} to a model of another shape."""
    member = ask.choice(("instances", "inputs"))
    values = ask.choice(([1, 2], [1, [1]], ["a"], [None]))
    return refused(ask, document(ask, member, values), 422, f"{member}[0]", "expected a list")


@kind("nearly valid", 1)
def rows_and_records_mixed(ask: Ask) -> Probe:
    """JsontensorTest.MultipleNamedTensorErrors of TF Serving: 'Expecting object but got list', and the reverse."""
    index = ask.rows(least=2)
    cells, i = ask.texts(index), ask.random.randrange(1, len(index))
    as_records = ask.random.random() < 0.5
    mixed = [
        ask.record(row) if (place < i) == as_records else row for place, row in enumerate(cells)
    ]
    return refused(ask, document(ask, "instances", mixed), 422, f"instances[{i}]", "do not mix")


@kind("nearly valid", 1)
def records_as_columns(ask: Ask) -> Probe:
    """{"inputs": ...} is a tensor, and has no records."""
    values = [ask.record(row) for row in ask.texts(ask.rows())]
    return refused(ask, document(ask, "inputs", values), 422, "inputs[0]", "expected a list")


@kind("nearly valid", 1)
def inputs_by_other_names(ask: Ask) -> Probe:
    """JsontensorTest.MultipleNamedTensorColumnarFormat of TF Serving: this model has the one input, `input`."""
    cells = ask.texts(ask.rows())
    values = ask.choice(
        ({"int_tensor": cells}, {"input": cells, "str_tensor": ["foo"]}, {}, {"b64": "aGVsbG8="})
    )
    return refused(ask, document(ask, "inputs", values), 422, "inputs", "expected a list")


@kind("nearly valid", 1)
def bytes_in_base64(ask: Ask) -> Probe:
    """JsontensorTest.SingleUnnamedTensorBase64Scalars of TF Serving: {"b64": ...} is no number, and no feature."""
    index = ask.rows()
    cells: list[Any] = [list(row) for row in ask.texts(index)]
    i, j = ask.place(index)
    cells[i][j] = {"b64": "aGVsbG8="}
    return refused(
        ask,
        document(ask, "instances", cells),
        422,
        "instances" + ask.cell(i, j),
        "expected a number",
    )


@kind("nearly valid", 2)
def both_or_neither(ask: Ask) -> Probe:
    """JsontensorTest.SingleUnnamedTensorErrors of TF Serving, 'Not formatted correctly': both members at once."""
    cells = ask.texts(ask.rows())
    both = {"instances": cells, "inputs": cells}
    made = ask.choice(
        (
            both,
            {},
            [],
            cells,
            {"examples": cells},
            {"signature_name": SIGNATURE},
            1,
            None,
            "instances",
        )
    )
    return refused(ask, made, 422, None, '"instances"')


@kind("nearly valid", 1)
def no_list(ask: Ask) -> Probe:
    """KServe's TestModel.test_validate: {"instances": "invalid"}."""
    values = ask.choice(("invalid", 1, None, True, {}, {"a": 1}))
    return refused(ask, document(ask, "instances", values), 422, "instances", "expected a list")


@kind("nearly valid", 2)
def signature_unknown(ask: Ask) -> Probe:
    """{"signature_name": 5} of TF Serving's JsontensorTest; any but the one that there is."""
    name = ask.choice((5, "predict_images", "", None, [], "serving_default "))
    made = Members([("instances", ask.texts(ask.rows())), ("signature_name", name)])
    return refused(ask, made, 422, "signature_name", SIGNATURE)


@kind("nearly valid", 1)
def member_unknown(ask: Ask) -> Probe:
    """Nothing stands there that would be passed over."""
    made = document(ask, "instances", ask.texts(ask.rows()))
    other = ask.choice(("examples", "context", "id", "parameters", "Instances"))
    made.append((other, 1))
    return refused(ask, made, 422, None, "no member beside")


@kind("nearly valid", 1)
def too_many_rows(ask: Ask) -> Probe:
    """One row more than is allowed."""
    member, most = ask.choice(("instances", "inputs")), ask.subject.most_rows
    rows = [[0] * len(ask.subject.features)] * (most + ask.choice((1, 30)))
    body = json.dumps({member: rows}, separators=(",", ":")).encode()
    return ask.post(path(ask), body, Refusal(413, member, str(most)))


@kind("nearly valid", 1)
def keys_that_stand_twice(ask: Ask) -> Probe:
    """A key twice: which is meant, nobody can know."""
    cells = ask.texts(ask.rows(most=7))
    member = ask.choice(("instances", "inputs"))
    made = Members([(member, cells), (member, cells)])
    return refused(ask, made, 400, None, f'"{member}" stands twice')


@kind("hostile", 2)
def no_json(ask: Ask) -> Probe:
    """PredictRequestErrors of TF Serving, and the broken bodies of KServe's CloudEvents: a brace, and no UTF-8."""
    broken = (*native.BAD_TEXT, b"0\x80\x80\x06World!\x00\x00")
    return ask.post(path(ask), ask.choice(broken), Refusal(400))


@kind("hostile", 2)
def number_that_json_has_not(ask: Ask) -> Probe:
    """NaN and Infinity, which TF Serving's JsontensorTest.MultipleNamedTensor takes, are no JSON, and no answer."""
    index = ask.rows(most=7)
    cells, (i, j) = ask.texts(index), ask.place(index)
    cells[i][j] = Token(ask.choice(("NaN", "Infinity", "-Infinity", *native.NOT_JSON)))
    return ask.post(path(ask), ask.text({"instances": cells}), Refusal(400))
