"""POST /predict in JSON: {"instances": [...]}."""

import json
from typing import Any

from tests.conformance.probes.answers import Predictions
from tests.conformance.probes.ask import Ask, Probe, kind
from tests.conformance.probes.json_text import Members, Token
from tests.conformance.probes.replies import BYTES, CSV, JSON, PROBLEM, Refusal

PATH = "/predict"
FLOAT32_ENDS = "3.4028235677973366e38"
"""The smallest number that float32 rounds to infinity: half a step above its largest."""
TOO_LARGE = (
    "1e39",
    "-1e39",
    FLOAT32_ENDS,
    "-3.5E+38",
    "1e308",
    "9" * 40,
    "-1" + "0" * 39,
    "1.7976931348623157e308",
)
NOT_NUMBERS: tuple[Any, ...] = (
    True,
    False,
    None,
    "1",
    "",
    "NaN",
    "1e3",
    [],
    [1],
    {},
    {"a": 1},
    [[1]],
    "\u00e9",
)
NOT_JSON = (
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
        "inf",
        "-nan",
        "+1",
        "01",
        "-01",
        ".5",
        "5.",
        "1e",
        "1e+",
        "-",
        "--1",
    ),
    *(
        "0x10",
        "1_000",
        "1,5,",
        "1f",
        "1.0f",
        "'1'",
        "True",
        "None",
        "undefined",
        "1 2",
        "//\n1",
        "/**/1",
        "\\u0031",
    ),
)
BAD_TEXT = (
    *(
        b"",
        b" ",
        b"\n\t ",
        b"{",
        b"[",
        b'"',
        b"{]",
        b"{}}",
        b"null,",
        b"{'instances': []}",
        b"{instances: []}",
    ),
    *(
        b'{"instances": [],}',
        b'{"instances": []} {"instances": []}',
        b'{"instances" []}',
        b'{"instances": []',
        b"\x00",
    ),
    *(
        b'{"instances": []}\x00',
        b'\xef\xbb\xbf{"instances": []}',
        '{"instances": []}'.encode("utf-16"),
        b"{,}",
    ),
    *(
        '{"instances": []}'.encode("utf-32"),
        b'{"instances": [] // none\n}',
        b"instances = [1, 2]",
        b"<a/>",
        b"{:1}",
    ),
    *(
        b'{"\xff": 1}',
        b'{"a": "\xc3\x28"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\x41"}',
    ),
    *(
        b'{"a": "\n"}',
        b'{"a": "\x00"}',
        b'{"a": tru}',
        b'{"instances": [[1, 2]}',
        b'{"instances": [1 2]}',
        b"\xff\xfe",
    ),
)


def asked(ask: Ask, instances: object, index: Any, **options: Any) -> Probe:
    """Ask for rows that are fine."""
    return ask.post(
        PATH, ask.text({"instances": instances}), Predictions(ask.subject, index), **options
    )


def refused(ask: Ask, document: object, status: int, where: str | None, says: str = "") -> Probe:
    """Send a document that does not fit."""
    return ask.post(PATH, ask.text(document), Refusal(status, where, says))


@kind("valid", 20)
def rows(ask: Ask) -> Probe:
    """Rows in the order of the features; numbers and spaces in every form that JSON has."""
    index = ask.rows()
    return asked(ask, ask.texts(index), index)


@kind("valid", 10)
def records(ask: Ask) -> Probe:
    """Records by feature name, their members in any order."""
    index = ask.rows()
    return asked(ask, [ask.record(row) for row in ask.texts(index)], index)


@kind("valid", 1)
def no_rows(ask: Ask) -> Probe:
    """{"instances": []} is answered with no predictions."""
    return asked(ask, [], ask.rows()[:0])


@kind("valid", 1)
def as_many_rows_as_allowed(ask: Ask) -> Probe:
    """The cap itself is allowed (http_input_size_limit_test.py of Triton's L0_http asks on both sides of its limit)."""
    index = ask.rows(least=ask.subject.most_rows)
    return asked(ask, ask.wide(index), index)


@kind("valid", 1)
def body_of_the_largest_size(ask: Ask) -> Probe:
    """A body of exactly as many bytes as are allowed."""
    index = ask.rows(most=33)
    body = ask.text({"instances": ask.wide(index)})
    body += b" " * (ask.subject.limits.body_bytes - len(body))
    framing = ask.choice(("length", "chunked", "gzip", "zlib"))
    return ask.post(PATH, body, Predictions(ask.subject, index), framing=framing)


@kind("valid", 3)
def whatever_it_is_called(ask: Ask) -> Probe:
    """Content-Type in any case, with parameters, curl's default one, or none at all: a body that begins with {."""
    index = ask.rows()
    called = (
        *(
            JSON,
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/json;charset=UTF-8 ; a=b",
        ),
        *("application/json;", "application/x-www-form-urlencoded", "", None),
    )
    body = ask.choice((b"", b" ", b"\r\n\t")) + ask.text({"instances": ask.texts(index)})
    return ask.post(PATH, body, Predictions(ask.subject, index), form=ask.choice(called))


@kind("valid", 2)
def keys_written_with_escapes(ask: Ask) -> Probe:
    r"""A key with \u escapes is the same key."""
    index = ask.rows()
    name = "".join(
        f"\\u{ord(letter):04x}" if ask.random.random() < 0.4 else letter for letter in "instances"
    )
    body = b'{"' + name.encode() + b'":' + ask.text(ask.texts(index)) + b"}"
    return ask.post(PATH, body, Predictions(ask.subject, index))


@kind("valid", 2)
def numbers_below_float32(ask: Ask) -> Probe:
    """A number too small for float32, or float64, is zero; integers and long fractions are numbers like others."""
    forms = (
        "0",
        "-0",
        "0.0",
        "-0.0",
        "0e5",
        "1e-60",
        "-1e-400",
        "0.000",
        "0E-0",
        "1e-99999",
        "0." + "0" * 300 + "1",
    )
    cells = [Token(ask.choice(forms)) for _ in ask.subject.features]
    return asked(ask, [cells], ask.subject.zero)


ACCEPTED: dict[str, str] = {
    "": JSON,
    "*/*": JSON,
    "application/json": JSON,
    "APPLICATION/JSON": JSON,
    "text/csv": CSV,
    "application/octet-stream": BYTES,
    "text/*": CSV,
    "application/*": JSON,
    "text/csv;q=0.5, application/json;q=0.4": CSV,
    "text/csv;q=0.4, application/json;q=0.5": JSON,
    "application/octet-stream, */*;q=0.1": BYTES,
    "text/html, */*;q=0.1": JSON,
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": JSON,
    "*/*, application/json;q=0": CSV,
    "application/*, application/json;q=0": BYTES,
    "text/csv , application/json ; q=0.999": CSV,
    "application/json;q=0.2, text/csv;q=0.3, application/octet-stream;q=0.25": CSV,
    "application/problem+json, application/json": JSON,
    "application/xml, text/csv; q=0.001": CSV,
}
"""Accept, and what is answered (RFC 9110, 12.5.1): the highest quality, of equals the first of JSON, CSV and bytes."""
NOT_ACCEPTED = (
    *(
        "text/html",
        "image/*",
        "application/xml, text/plain",
        "application/json;q=0",
        "*/*;q=0",
        "text/csv;q=0.0",
    ),
    *("application/jsonx", "json", "text/csvx, applications/json"),
)


@kind("valid", 8)
def answered_as_accepted(ask: Ask) -> Probe:
    """Accept decides between JSON, CSV and float32 bytes."""
    index, accept = ask.rows(), ask.choice(list(ACCEPTED))
    body = ask.text({"instances": ask.texts(index)})
    headers = [("Accept", accept)]
    return ask.post(PATH, body, Predictions(ask.subject, index, ACCEPTED[accept]), headers=headers)


@kind("valid", 1)
def accept_of_a_thousand_ranges(ask: Ask) -> Probe:
    """An Accept as long as the host lets through is read like another."""
    index = ask.rows()
    accept = 'application/x;q=0.1, text/*;q=0.2;x="y", ' * 1000 + "application/json;q=0.3"
    return asked(ask, ask.texts(index), index, headers=[("Accept", accept)])


@kind("nearly valid", 3)
def nothing_that_is_accepted(ask: Ask) -> Probe:
    """406 where Accept leaves nothing; the refusal itself is JSON all the same."""
    body = ask.text({"instances": ask.texts(ask.rows())})
    accept = ask.choice(NOT_ACCEPTED)
    return ask.post(PATH, body, Refusal(406, says="Accept"), headers=[("Accept", accept)])


@kind("nearly valid", 2)
def refused_as_problem_json(ask: Ask) -> Probe:
    """A refusal is application/problem+json for who asks for that first; who takes nothing else has no prediction."""
    form = ask.choice((JSON, None))
    if ask.random.random() < 0.3:
        expected = Refusal(406, media_type=PROBLEM)
        return ask.post(
            PATH, b'{"instances": []}', expected, form=form, headers=[("Accept", PROBLEM)]
        )
    accept = ask.choice((f"{PROBLEM}, */*", f"{PROBLEM};q=0.9, {JSON}", f" {PROBLEM} , text/csv"))
    return ask.post(
        PATH, b"{", Refusal(400, media_type=PROBLEM), form=form, headers=[("Accept", accept)]
    )


@kind("nearly valid", 6)
def no_number_in_a_row(ask: Ask) -> Probe:
    """Booleans, strings, null, lists and objects; JsontensorTest.SingleUnnamedTensorErrors of TF Serving."""
    index = ask.rows()
    cells, (i, j) = ask.texts(index), ask.place(index)
    instances: list[list[Any]] = [list(row) for row in cells]
    instances[i][j] = ask.choice(NOT_NUMBERS)
    return refused(
        ask, {"instances": instances}, 422, "instances" + ask.cell(i, j), "expected a number"
    )


@kind("nearly valid", 4)
def no_number_in_a_record(ask: Ask) -> Probe:
    """Likewise, and the place names the feature."""
    index = ask.rows()
    cells: list[list[Any]] = [list(row) for row in ask.texts(index)]
    i, j = ask.place(index)
    cells[i][j] = ask.choice(NOT_NUMBERS)
    where = "instances" + ask.cell(i, j, record=True)
    return refused(
        ask, {"instances": [ask.record(row) for row in cells]}, 422, where, "expected a number"
    )


@kind("nearly valid", 4)
def number_beyond_float32(ask: Ask) -> Probe:
    """Finite in JSON, infinite in float32; JsontensorTest.SingleUnnamedTensorErrors of TF Serving has DBL_MAX."""
    index, as_records = ask.rows(), ask.random.random() < 0.4
    cells, (i, j) = ask.texts(index), ask.place(index)
    cells[i][j] = Token(ask.choice(TOO_LARGE))
    instances = [ask.record(row) for row in cells] if as_records else cells
    return refused(
        ask, {"instances": instances}, 422, "instances" + ask.cell(i, j, as_records), "float32"
    )


@kind("nearly valid", 2)
def answer_beyond_float32(ask: Ask) -> Probe:
    """A finite row whose answer is not: refused at its row, and none of the others is answered."""
    cells, i = ask.beyond(ask.rows())
    return refused(ask, {"instances": cells}, 422, f"instances[{i}]", "overflows float32")


@kind("nearly valid", 4)
def row_of_another_width(ask: Ask) -> Probe:
    """A row too short or too long; 'Expecting tensor size' of TF Serving's JsontensorTest."""
    index = ask.rows()
    cells, (i, j) = ask.texts(index), ask.place(index)
    width = len(ask.subject.features)
    cells[i] = ask.choice((cells[i][:-1], cells[i] + cells[i][j:], [], cells[i] * 2, cells[i][:j]))
    says = f"expected {width} values, found {len(cells[i])}"
    return refused(ask, {"instances": cells}, 422, f"instances[{i}]", says)


@kind("nearly valid", 2)
def no_row_at_all(ask: Ask) -> Probe:
    """What stands among the rows is none; 'Expecting shape' of TF Serving's JsontensorTest has [1, [1]]."""
    index = ask.rows()
    instances: list[Any] = list(ask.texts(index))
    i = ask.place(index)[0]
    instances[i] = ask.choice((1, 1.5, "a", None, True))
    return refused(
        ask, {"instances": instances}, 422, f"instances[{i}]", "expected a list or an object"
    )


@kind("nearly valid", 2)
def rows_and_records_mixed(ask: Ask) -> Probe:
    """JsontensorTest.MultipleNamedTensorErrors of TF Serving: 'Expecting object but got list', and the reverse."""
    index = ask.rows(least=2)
    cells, i = ask.texts(index), ask.random.randrange(1, len(index))
    as_records = ask.random.random() < 0.5
    mixed = [
        ask.record(row) if (place < i) == as_records else row for place, row in enumerate(cells)
    ]
    return refused(ask, {"instances": mixed}, 422, f"instances[{i}]", "do not mix")


@kind("nearly valid", 2)
def no_list_of_instances(ask: Ask) -> Probe:
    """KServe's TestModel.test_validate has {"instances": "invalid"}; so may any other value be."""
    value = ask.choice(("invalid", 1, None, True, {}, {"a": [1]}, 1.5, ""))
    return refused(ask, {"instances": value}, 422, "instances", "expected a list")


@kind("nearly valid", 2)
def no_instances(ask: Ask) -> Probe:
    """JSON, and no object with the one member that is needed."""
    document = ask.choice(
        ([], [[1, 2]], {}, {"instance": []}, {"Instances": []}, 1, "instances", None, {"": 1})
    )
    return refused(ask, document, 422, None, '"instances"')


@kind("nearly valid", 2)
def feature_missing(ask: Ask) -> Probe:
    """A record without one of the features, or without any."""
    index = ask.rows()
    made, (i, j) = [ask.record(row) for row in ask.texts(index)], ask.place(index)
    name = ask.subject.features[j]
    made[i] = Members(pair for pair in made[i] if pair[0] != name)
    return refused(ask, {"instances": made}, 422, f"instances[{i}]", f"missing feature '{name}'")


@kind("nearly valid", 2)
def feature_unknown(ask: Ask) -> Probe:
    """A record with a feature too many, or with one under another name."""
    index = ask.rows()
    made, (i, j) = [ask.record(row) for row in ask.texts(index)], ask.place(index)
    name = ask.subject.features[j]
    other = ask.choice((name + " ", name.upper() + "X", "", "label", name[:-1], name + "\u0301"))
    if ask.random.random() < 0.5:
        made[i] = Members((other if pair[0] == name else pair[0], pair[1]) for pair in made[i])
    else:
        made[i].append((other, 1))
    return refused(ask, {"instances": made}, 422, f"instances[{i}]", f"unknown feature '{other}'")


@kind("nearly valid", 2)
def member_beside_instances(ask: Ask) -> Probe:
    """Nothing stands beside the instances that could be meant, and would be passed over."""
    other = ask.choice(
        ("inputs", "id", "parameters", "Instances", "instances ", "\u00e9", "signature_name")
    )
    document = Members(
        [("instances", ask.texts(ask.rows())), (other, ask.choice((1, None, [], "a")))]
    )
    ask.random.shuffle(document)
    return refused(ask, document, 422, other, 'no member beside "instances"')


@kind("nearly valid", 2)
def too_many_rows(ask: Ask) -> Probe:
    """One row more than is allowed, or many more; short rows, so that the body is not too large."""
    most, width = ask.subject.most_rows, len(ask.subject.features)
    count = ask.choice((most + 1, most + 2, most * 3))
    row: Any = ask.choice(([0] * width, dict.fromkeys(ask.subject.features, 0), [0] * width, []))
    body = json.dumps(
        {"instances": [row] * count}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    assert len(body) <= ask.subject.limits.body_bytes
    return ask.post(PATH, body, Refusal(413, "instances", str(most)))


@kind("nearly valid", 3)
def keys_that_stand_twice(ask: Ask) -> Probe:
    """A key twice in one object: which of the two is meant, nobody can know."""
    index = ask.rows()
    cells, (i, j) = ask.texts(index), ask.place(index)
    if ask.random.random() < 0.3:
        key = ask.choice(('"instances"', '"inst\\u0061nces"'))
        body = (
            b'{"instances":' + ask.text(cells) + b"," + key.encode() + b":" + ask.text(cells) + b"}"
        )
        return ask.post(PATH, body, Refusal(400, None, '"instances" stands twice'))
    made: list[Any] = [ask.record(row) for row in cells]
    made[i].insert(
        ask.random.randrange(len(made[i])), (ask.subject.features[j], ask.choice((1, "a", None)))
    )
    says = f"{json.dumps(ask.subject.features[j], ensure_ascii=False)} stands twice"
    return refused(ask, {"instances": made}, 400, f"instances[{i}]", says)


@kind("nearly valid", 2)
def nested(ask: Ask) -> Probe:
    """Lists in lists where a number is expected, as deep as a parser follows; TF Serving's JsontensorTest."""
    index = ask.rows(most=7)
    cells, (i, j) = ask.texts(index), ask.place(index)
    depth = ask.choice((1, 2, 3, 10, 100))
    opening, closing = ask.choice((("[", "]"), ('{"a":', "}")))
    cells[i][j] = Token(opening * depth + "1" + closing * depth)
    return refused(
        ask, {"instances": cells}, 422, "instances" + ask.cell(i, j), "expected a number"
    )


@kind("hostile", 3)
def nested_too_deep(ask: Ask) -> Probe:
    """nested_json_crash.py of Triton's L0_http: more lists in each other than a parser follows, or than are allowed."""
    deep = ask.choice((1100, 1300, 30_000))
    depth = deep
    opening, closing = ask.choice((("[", "]"), ("[", ""), ('{"a":', "}"), ("[[],", "]")))
    depth = min(depth, 60_000 // (len(opening) + len(closing)))
    nest = opening * depth + "1" + closing * depth
    body = ask.choice((f'{{"instances": [[{nest}]]}}', nest, f'{{"instances": {nest}}}'))
    return ask.post(PATH, body.encode(), Refusal(413 if deep == 30_000 else 400))


@kind("hostile", 6)
def number_that_json_has_not(ask: Ask) -> Probe:
    """NaN, Infinity, hexadecimal, leading zeros and plus signs, comments: Python's own parser takes some of them."""
    index = ask.rows(most=7)
    cells, (i, j) = ask.texts(index), ask.place(index)
    cells[i][j] = Token(ask.choice(NOT_JSON))
    return ask.post(PATH, ask.text({"instances": cells}), Refusal(400))


@kind("hostile", 2)
def number_beyond_float64(ask: Ask) -> Probe:
    """1e400: RFC 8259, section 6, lets a parser set a range, and this one's is float64's."""
    index = ask.rows(most=7)
    cells, (i, j) = ask.texts(index), ask.place(index)
    cells[i][j] = Token(
        ask.choice(("1e400", "-1e309", "1e99999", "9" * 400, "-" + "8" * 5000, "1.8e308"))
    )
    return ask.post(PATH, ask.text({"instances": cells}), Refusal(400))


@kind("hostile", 6)
def no_json(ask: Ask) -> Probe:
    """PredictRequestErrors of TF Serving: an empty body, `instances = [1, 2]`; and broken text of every other kind."""
    return ask.post(PATH, ask.choice(BAD_TEXT), Refusal(400))


@kind("hostile", 3)
def cut_short(ask: Ask) -> Probe:
    """A document that ends too early; KServe's test_infer_request_from_bytes_invalid_json."""
    body = ask.text({"instances": ask.texts(ask.rows(most=7))}).rstrip()
    return ask.post(PATH, body[: ask.random.randrange(len(body))], Refusal(400))


@kind("hostile", 2)
def a_byte_of_it_broken(ask: Ask) -> Probe:
    """A byte that begins no character of UTF-8, anywhere in the document."""
    body = ask.text({"instances": ask.texts(ask.rows(most=7))})
    cut = ask.random.randrange(1, len(body) - 1)
    broken = ask.choice((b"\xff", b"\xc0\x80", b"\xf8\x88\x80\x80\x80", b"\x80"))
    return ask.post(PATH, body[:cut] + broken + body[cut:], Refusal(400))
