"""The answers to rows, in each dialect's form, held to the float64 reference."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.conformance.probes.replies import (
    BYTES,
    CSV,
    JSON,
    JSON_LENGTH,
    Expected,
    Reply,
    heading,
    parsed,
    same,
)
from tests.conformance.probes.subject import Index, Subject


@dataclass(frozen=True)
class Predictions(Expected):
    """The native reply to rows, in one of its three forms."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)
    form: str = JSON

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from heading(reply, 200, f"{CSV}; charset=utf-8" if self.form == CSV else self.form)
        read = {JSON: self._json, CSV: self._csv, BYTES: self._bytes}[self.form]
        yield from read(reply.body)

    def _json(self, body: bytes) -> Iterator[str]:
        document, wrong = parsed(body)
        yield from wrong
        if document is None:
            return
        subject = self.subject
        classes = ["probabilities", "classes"] if subject.classes else []
        if list(document) != ["predictions", *classes, "model"]:
            yield f"members: found {list(document)}"
            return
        if document["model"] != {"name": subject.name, "version": subject.version}:
            yield f"model: found {document['model']}"
        if not subject.classes:
            yield from subject.faults(self.index, {"output": document["predictions"]})
            return
        if not same(document["classes"], list(subject.classes)):
            yield f"classes: expected {list(subject.classes)}, found {document['classes']}"
        yield from self._classified(
            document["predictions"], subject.classes, document["probabilities"]
        )

    def _csv(self, body: bytes) -> Iterator[str]:
        subject = self.subject
        lines = list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))
        names = [f"probability_{name}" for name in subject.classes]
        targets = [f"prediction_{target}" for target in subject.manifest["targets"]]
        header = ["prediction", *names] if subject.classes else targets
        if lines[:1] != [header]:
            yield f"header: expected {header}, found {lines[:1]}"
            return
        if subject.classes:
            texts = [str(value) for value in subject.classes]
            yield from self._classified(
                [line[0] for line in lines[1:]], texts, [line[1:] for line in lines[1:]]
            )
        else:
            yield from subject.faults(self.index, {"output": lines[1:]})

    def _bytes(self, body: bytes) -> Iterator[str]:
        if len(body) != 4 * len(self.index) * self.subject.columns:
            yield f"expected {len(self.index)} rows of {self.subject.columns} float32, found {len(body)} bytes"
            return
        name = "probabilities" if self.subject.classes else "output"
        yield from self.subject.faults(self.index, {name: np.frombuffer(body, "<f4")})

    def _classified(
        self, predictions: Any, classes: Sequence[Any], probabilities: Any
    ) -> Iterator[str]:
        place = {(type(value), value): index for index, value in enumerate(classes)}
        try:
            labels = [place[type(value), value] for value in predictions]
        except (KeyError, TypeError):
            yield f"predictions: expected some of {list(classes)}, found {predictions!s:.200}"
            return
        yield from self.subject.faults(
            self.index, {"label": labels, "probabilities": probabilities}
        )


@dataclass(frozen=True)
class Tensors(Expected):
    """The reply of the Open Inference Protocol V2, JSON or with its binary tensor extension."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)
    asked: Mapping[str, bool]
    """The outputs, in their order, and whether each comes as bytes."""
    id: str | None = None

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        binary = any(self.asked.values())
        yield from heading(reply, 200, BYTES if binary else JSON)
        length = reply.header(JSON_LENGTH)
        if (length is not None) != binary or not (length or "0").isdecimal():
            yield f"{JSON_LENGTH}: found {length!r}"
            return
        split = len(reply.body) if length is None else int(length)
        document, wrong = parsed(reply.body[:split])
        yield from wrong
        if document is None:
            return
        tensors = document.pop("outputs", None)
        about = {"model_name": self.subject.name, "model_version": self.subject.version}
        about |= {} if self.id is None else {"id": self.id}
        if document != about:
            yield f"expected {about}, found {document}"
        if not isinstance(tensors, list) or [tensor.get("name") for tensor in tensors] != list(
            self.asked
        ):
            yield f"outputs: expected {list(self.asked)}, found {tensors!s:.200}"
            return
        tail = reply.body[split:]
        found = {}
        for tensor in tensors:
            name, values = tensor["name"], tensor.pop("data", None)
            shape = (
                [len(self.index)] if name == "label" else [len(self.index), self.subject.columns]
            )
            described: dict[str, Any] = {
                "name": name,
                "datatype": self.subject.outputs[name],
                "shape": shape,
            }
            count = int(np.prod(shape, dtype=int))
            if self.asked[name]:
                item = np.dtype("<i8" if name == "label" else "<f4")
                described["parameters"] = {"binary_data_size": count * item.itemsize}
                raw, tail = tail[: count * item.itemsize], tail[count * item.itemsize :]
                values = np.frombuffer(raw, item) if len(raw) == count * item.itemsize else []
            if tensor != described:
                yield f"outputs: expected {described}, found {tensor}"
            if len(values) != count:
                yield f"{name}: expected {count} values in a flat list, found {len(values)}"
            found[name] = values
        if tail:
            yield f"{len(tail)} bytes follow the last tensor"
        yield from self.subject.faults(self.index, found)


@dataclass(frozen=True)
class Rows(Expected):
    """TensorFlow Serving's reply to {"instances": ...}: a list of what there is for each row."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from heading(reply, 200, JSON)
        document, wrong = parsed(reply.body)
        yield from wrong
        if document is None:
            return
        rows = document.get("predictions")
        if list(document) != ["predictions"] or not isinstance(rows, list):
            yield f"members: found {list(document)}"
        elif not self.subject.classes:
            yield from self.subject.faults(self.index, {"output": rows})
        elif any(list(row) != list(self.subject.outputs) for row in rows):
            yield f"predictions: expected rows of {list(self.subject.outputs)}, found {rows!s:.200}"
        else:
            found = {name: [row[name] for row in rows] for name in self.subject.outputs}
            yield from self.subject.faults(self.index, found)


@dataclass(frozen=True)
class Columns(Expected):
    """TensorFlow Serving's reply to {"inputs": ...}: the one output, or all by name."""

    subject: Subject = field(repr=False)
    index: Index = field(repr=False)

    def faults(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong."""
        yield from heading(reply, 200, JSON)
        document, wrong = parsed(reply.body)
        yield from wrong
        if document is None:
            return
        outputs = document.get("outputs")
        if list(document) != ["outputs"]:
            yield f"members: found {list(document)}"
        elif not self.subject.classes:
            yield from self.subject.faults(self.index, {"output": outputs})
        elif not isinstance(outputs, dict) or list(outputs) != list(self.subject.outputs):
            yield f"outputs: expected {list(self.subject.outputs)}, found {outputs!s:.200}"
        else:
            yield from self.subject.faults(self.index, outputs)
