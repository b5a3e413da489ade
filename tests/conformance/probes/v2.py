"""The Open Inference Protocol V2, as KServe's and Triton's clients speak it: POST /v2/models/M/infer.

The negative cases of Triton's qa/L0_http (http_test.py, test.sh, http_input_size_limit_test.py, nested_json_crash.py),
qa/L0_input_validation and src/http_server.cc, of KServe's python/kserve/test (test_infer_type.py, test_server.py) and
of MLServer's tests/rest are among them, each in the kind that names it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from tests.conformance.probes import native
from tests.conformance.probes.answers import Tensors
from tests.conformance.probes.ask import Ask, Headers, Probe, kind
from tests.conformance.probes.json_text import Members
from tests.conformance.probes.replies import BYTES, CSV, JSON, Expected, Refusal
from tests.conformance.probes.subject import Index

Form = Literal["flat", "nested", "binary"]
HEADER = "Inference-Header-Content-Length"
IDS = (
    "1",
    "",
    "4be4e82f-5500-420a-a5c5-ac86841e271b",
    "caf\u00e9",
    "a" * 300,
    "\u2028 \U0001f600",
    'q"u\\o',
)
KSERVE_PARAMETERS = {"test-str": "dummy", "test-bool": True, "test-int": 100, "test-float": 1.3}


def path(ask: Ask) -> str:
    """Return a path that answers, with a version in it or not."""
    version = ask.choice(("", f"/versions/{ask.subject.version}"))
    return f"/v2/models/{ask.subject.name}{version}/infer"


def tensor(ask: Ask, index: Index, form: Form = "flat") -> dict[str, Any]:
    """Return the one input."""
    shape = [len(index), len(ask.subject.features)]
    made: dict[str, Any] = {"name": "input", "shape": shape, "datatype": "FP32"}
    if form == "binary":
        return made | {"parameters": {"binary_data_size": 4 * shape[0] * shape[1]}}
    rows = ask.texts(index)
    return made | {"data": rows if form == "nested" else [value for row in rows for value in row]}


def raw(ask: Ask, index: Index) -> bytes:
    """Return rows as the protocol has them in bytes."""
    return ask.subject.wide[index].astype("<f4").tobytes()


def shuffled(ask: Ask, document: Mapping[str, Any]) -> Members:
    """Return an object with its members in any order."""
    members = Members(document.items())
    ask.random.shuffle(members)
    return members


def infer(
    ask: Ask,
    document: Any,
    expected: Expected,
    tail: bytes | None = None,
    form: str | None = JSON,
    headers: Headers = (),
    length: str | None = None,
) -> Probe:
    """Send a document, and bytes behind it."""
    body = ask.text(document)
    if tail is not None:
        headers = [*headers, (HEADER, str(len(body)) if length is None else length)]
        form = ask.choice((BYTES, None, JSON)) if form == JSON else form
    return ask.post(path(ask), body + (tail or b""), expected, form=form, headers=headers)


def refused(
    ask: Ask,
    changes: dict[str, Any],
    status: int,
    where: str | None,
    says: str = "",
    form: Form = "flat",
) -> Probe:
    """Send a request whose one input is changed, or lacks what is changed to ..."""
    index = ask.rows()
    made = {
        name: value
        for name, value in (tensor(ask, index, form) | changes).items()
        if value is not ...
    }
    tail = raw(ask, index) if form == "binary" else None
    return infer(ask, {"inputs": [shuffled(ask, made)]}, Refusal(status, where, says), tail)


def outputs(ask: Ask) -> tuple[list[dict[str, Any]], dict[str, bool], bool | None]:
    """Draw outputs to ask for, the way each comes back in, and what is asked of all of them."""
    names = ask.random.sample(
        list(ask.subject.outputs), ask.random.randint(1, len(ask.subject.outputs))
    )
    default = ask.choice((None, None, True, False))
    listed, asked = [], {}
    for name in names:
        own = ask.choice((None, True, False))
        parameters = {} if own is None else {"parameters": {"binary_data": own}}
        listed.append({"name": name, **parameters})
        asked[name] = bool(default) if own is None else own
    return listed, asked, default


@kind("valid", 12)
def numbers(ask: Ask) -> Probe:
    """Data flat or nested, every output in JSON; the id comes back."""
    index, request_id = ask.rows(), ask.choice((None, *IDS))
    document: dict[str, Any] = {
        "inputs": [shuffled(ask, tensor(ask, index, ask.choice(("flat", "nested"))))]
    }
    if request_id is not None:
        document["id"] = request_id
    if ask.random.random() < 0.3:
        document["model_name"] = ask.subject.name  # KServe's client writes it
    form = ask.choice(
        (JSON, JSON, None, "application/json; charset=utf-8", "application/x-www-form-urlencoded")
    )
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False), request_id)
    return infer(ask, shuffled(ask, document), expected, form=form)


@kind("valid", 8)
def some_outputs(ask: Ask) -> Probe:
    """Any of the outputs in any order, each as numbers or bytes; test_binary_data_parameter_precedence of KServe."""
    index = ask.rows()
    listed, asked, default = outputs(ask)
    form: Form = ask.choice(("flat", "nested", "binary"))
    document: dict[str, Any] = {"inputs": [tensor(ask, index, form)], "outputs": listed}
    if default is not None:
        document["parameters"] = {"binary_data_output": default}
    tail = raw(ask, index) if form == "binary" else None
    return infer(ask, shuffled(ask, document), Tensors(ask.subject, index, asked), tail)


@kind("valid", 2)
def parameters_unknown(ask: Ask) -> Probe:
    """test_infer_parameters_v2 of KServe: parameters of every type that nobody here knows are passed over."""
    index = ask.rows()
    made = tensor(ask, index) | {"parameters": KSERVE_PARAMETERS}
    listed = [{"name": name, "parameters": KSERVE_PARAMETERS} for name in ask.subject.outputs]
    document = {"inputs": [made], "outputs": listed, "parameters": KSERVE_PARAMETERS}
    return infer(
        ask, document, Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False))
    )


@kind("valid", 2)
def no_rows(ask: Ask) -> Probe:
    """A shape of [0, n], in JSON and in bytes."""
    none = ask.rows()[:0]
    form: Form = ask.choice(("flat", "binary"))
    document = {"inputs": [tensor(ask, none, form)], "outputs": []}
    expected = Tensors(ask.subject, none, dict.fromkeys(ask.subject.outputs, False))
    return infer(ask, document, expected, b"" if form == "binary" else None)


@kind("valid", 1)
def as_many_rows_as_allowed(ask: Ask) -> Probe:
    """The cap itself is allowed."""
    index = ask.rows(least=ask.subject.most_rows)
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, False))
    return infer(ask, {"inputs": [tensor(ask, index, "binary")]}, expected, raw(ask, index))


@kind("valid", 1)
def accept_that_takes_it(ask: Ask) -> Probe:
    """Accept has its say on the media type that the protocol's own parameters decide."""
    index, back = ask.rows(), ask.random.random() < 0.5
    both = ("*/*", "application/*", f"{BYTES}, {JSON};q=0.5", "text/html, */*;q=0.2")
    accept = ask.choice((*both, BYTES) if back else (*both, JSON))
    expected = Tensors(ask.subject, index, dict.fromkeys(ask.subject.outputs, back))
    document = {"inputs": [tensor(ask, index)], "parameters": {"binary_data_output": back}}
    return infer(ask, document, expected, headers=[("Accept", accept)])


@kind("nearly valid", 1)
def nothing_that_is_accepted(ask: Ask) -> Probe:
    """Neither CSV nor a page is to be had here."""
    accept = ask.choice((CSV, "text/html", "image/*", "application/json;q=0"))
    return infer(
        ask, {"inputs": [tensor(ask, ask.rows())]}, Refusal(406), headers=[("Accept", accept)]
    )


@kind("nearly valid", 2)
def type_that_is_not_spoken(ask: Ask) -> Probe:
    """Another media type; or bytes without the header that says where the JSON ends."""
    form = ask.choice(
        (CSV, "text/plain", BYTES, "application/avro", "application/cloudevents+json")
    )
    return infer(ask, {"inputs": [tensor(ask, ask.rows())]}, Refusal(415, None, JSON), form=form)


@kind("nearly valid", 3)
def member_missing(ask: Ask) -> Probe:
    """test_infer_request_from_bytes_missing_data_field of KServe, Triton's #2436 (no shape), and the other members."""
    missing = ask.choice(("name", "shape", "datatype", "data"))
    return refused(ask, {missing: ...}, 422, "inputs[0]", missing)


@kind("nearly valid", 2)
def member_unknown(ask: Ask) -> Probe:
    """Nothing stands there that would be passed over."""
    made = tensor(ask, ask.rows())
    document: dict[str, Any] = {
        "inputs": [made],
        "outputs": [{"name": name} for name in ask.subject.outputs],
    }
    place, holder = ask.choice(
        ((None, document), ("inputs[0]", made), ("outputs[0]", document["outputs"][0]))
    )
    holder[ask.choice(("versions", "Data", "dtype", "", "x" * 500))] = 1
    return infer(ask, document, Refusal(422, place, "no member beside"))


@kind("nearly valid", 2)
def inputs_of_another_number(ask: Ask) -> Probe:
    """test_input_validation_required_empty of Triton: none, or several, or no list at all."""
    made = tensor(ask, ask.rows(most=7))
    inputs = ask.choice(
        ([], [made, made], [made, made | {"name": "b"}], "invalid", None, {}, made, 1, [{}] * 1000)
    )
    return infer(ask, {"inputs": inputs}, Refusal(422, "inputs", "one input"))


@kind("nearly valid", 1)
def no_inputs(ask: Ask) -> Probe:
    """JSON, and nothing in it that is asked."""
    document = ask.choice(({}, {"outputs": []}, {"id": "1"}, {"instances": [[1]]}, {"Inputs": []}))
    return infer(ask, document, Refusal(422, None, '"inputs"'))


@kind("nearly valid", 1)
def no_object(ask: Ask) -> Probe:
    """An object is expected, for the whole of it and for an input."""
    if ask.random.random() < 0.5:
        return infer(ask, ask.choice(([], 1, "a", None, [{}])), Refusal(422, None, "an object"))
    return infer(
        ask,
        {"inputs": [ask.choice(([], 1, "a", None, True))]},
        Refusal(422, "inputs[0]", "an object"),
    )


@kind("nearly valid", 2)
def outputs_that_stand_twice(ask: Ask) -> Probe:
    """test_duplicate_output_names of Triton's L0_http (CVE-2025-23310 and its like): each output once."""
    names = list(ask.subject.outputs)
    names.insert(ask.random.randrange(1, len(names) + 1), names[0])
    again = len(names) - 1 - names[::-1].index(names[0])
    listed = [{"name": name} for name in names] * ask.choice((1, 1, 100))
    document = {"inputs": [tensor(ask, ask.rows(most=7))], "outputs": listed}
    return infer(ask, document, Refusal(422, f"outputs[{again}].name", "stands twice"))


@kind("nearly valid", 2)
def outputs_unknown(ask: Ask) -> Probe:
    """'unexpected inference output' of Triton: an output that the graph has not."""
    listed: list[Any] = [{"name": name} for name in ask.subject.outputs]
    i = ask.random.randrange(len(listed) + 1)
    listed.insert(
        i,
        {"name": ask.choice(("OUTPUT0", "Label", "", None, 1, "input", "logits ", [], "x" * 5000))},
    )
    document = {"inputs": [tensor(ask, ask.rows())], "outputs": listed}
    return infer(ask, document, Refusal(422, f"outputs[{i}].name", "expected one of"))


@kind("nearly valid", 1)
def no_outputs(ask: Ask) -> Probe:
    """'Unable to parse outputs' of Triton: no list of objects with names."""
    where, listed = ask.choice(
        (
            ("outputs", {}),
            ("outputs", "all"),
            ("outputs", 1),
            ("outputs[0]", ["label"]),
            ("outputs[0]", [{}]),
        )
    )
    return infer(ask, {"inputs": [tensor(ask, ask.rows())], "outputs": listed}, Refusal(422, where))


@kind("nearly valid", 2)
def parameters_of_another_kind(ask: Ask) -> Probe:
    """Parameters are scalars by name, and those that this service reads are booleans."""
    bad = ask.choice(("true", 1, 0, "", 1.5))
    document, where = ask.choice(
        (
            ({"parameters": ask.choice(([], 1, "a", [{}]))}, "parameters"),
            ({"parameters": {"a": ask.choice(([], {}, None, [1]))}}, "parameters.a"),
            ({"parameters": {"binary_data_output": bad}}, "parameters.binary_data_output"),
            (
                {
                    "outputs": [
                        {"name": n, "parameters": {"binary_data": bad}} for n in ask.subject.outputs
                    ]
                },
                None,
            ),
        )
    )
    where = where or "outputs[0].parameters.binary_data"
    return infer(
        ask, {"inputs": [tensor(ask, ask.rows())], **document}, Refusal(422, where, "expected")
    )


@kind("nearly valid", 2)
def parameters_that_are_not_served(ask: Ask) -> Probe:
    """Shared memory, sequences, classification: Triton's extensions that would change what the answer means."""
    memory = {"shared_memory_region": "x", "shared_memory_byte_size": 16}
    name = next(iter(ask.subject.outputs))
    made = tensor(ask, ask.rows())
    document, where = ask.choice(
        (
            (
                {"inputs": [made | {"parameters": memory}]},
                "inputs[0].parameters.shared_memory_region",
            ),
            ({"inputs": [made], "parameters": {"sequence_id": 7}}, "parameters.sequence_id"),
            (
                {"inputs": [made], "parameters": {"sequence_start": True}},
                "parameters.sequence_start",
            ),
            (
                {
                    "inputs": [made],
                    "outputs": [{"name": name, "parameters": {"classification": 2}}],
                },
                "outputs[0].parameters.classification",
            ),
            (
                {"inputs": [made], "outputs": [{"name": name, "parameters": memory}]},
                "outputs[0].parameters.shared_memory_region",
            ),
        )
    )
    return infer(ask, document, Refusal(422, where, "not supported"))


@kind("nearly valid", 1)
def id_that_is_no_string(ask: Ask) -> Probe:
    """An id is echoed, so it is what the protocol says: a string."""
    document = {"id": ask.choice((1, 1.5, [], {}, True)), "inputs": [tensor(ask, ask.rows())]}
    return infer(ask, document, Refusal(422, "id", "expected a string"))


@kind("nearly valid", 1)
def model_of_another_name(ask: Ask) -> Probe:
    """KServe's client writes the model's name into the body too: it must be the one in the path."""
    document = {
        "model_name": ask.choice(("TestModel", "", 1, "../x")),
        "inputs": [tensor(ask, ask.rows())],
    }
    return infer(ask, document, Refusal(422, "model_name", ask.subject.name))


@kind("hostile", 2)
def no_json(ask: Ask) -> Probe:
    """test_infer_request_from_bytes_invalid_json of KServe; bytes behind the JSON that no header speaks of."""
    index = ask.rows(most=7)
    behind = ask.text({"inputs": [tensor(ask, index, "binary")]}) + b"\xff" + raw(ask, index)
    body = ask.choice((*native.BAD_TEXT, behind))
    return ask.post(path(ask), body, Refusal(400), form=ask.choice((JSON, None)))


@kind("hostile", 2)
def keys_that_stand_twice(ask: Ask) -> Probe:
    """A key twice: which is meant, nobody can know; the place is the object that has it."""
    made = Members(tensor(ask, ask.rows(most=7)).items())
    document = Members(
        [("id", "1"), ("inputs", [made]), ("parameters", Members([("a", 1), ("b", 2)]))]
    )
    where, holder = ask.choice(
        ((None, document), ("inputs[0]", made), ("parameters", document[2][1]))
    )
    holder.append(ask.choice(holder))
    return infer(ask, document, Refusal(400, where, "stands twice"))
