"""Expected replies with predictions in each protocol, checked against a float64 reference."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.conformance.outcomes import (
    BYTES,
    CSV,
    JSON,
    JSON_LENGTH,
    JsonReply,
    Outcome,
    Reply,
    head_differences,
    parse,
    same,
)
from tests.conformance.served import Index, ServedModel


@dataclass(frozen=True)
class Predictions(JsonReply):
    """The reply of POST /predict, as JSON, CSV or bytes."""

    model: ServedModel = field(repr=False)
    index: Index = field(repr=False)
    media_type: str = JSON

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        if self.media_type == JSON:
            yield from super().differences(reply)
            return
        is_csv = self.media_type == CSV
        wrong = list(head_differences(reply, 200, f"{CSV}; charset=utf-8" if is_csv else BYTES))
        yield from wrong
        if not wrong:
            yield from self._csv(reply.body) if is_csv else self._bytes(reply.body)

    def _document_differences(self, document: dict[str, Any], reply: Reply) -> Iterator[str]:
        model = self.model
        classes = ["probabilities", "classes"] if model.classes else []
        if list(document) != ["predictions", *classes, "model"]:
            yield f"members: found {list(document)}"
            return
        if document["model"] != {"name": model.name, "version": model.version}:
            yield f"model: found {document['model']}"
        if not model.classes:
            yield from model.differences(self.index, {"output": document["predictions"]})
            return
        if not same(document["classes"], list(model.classes)):
            yield f"classes: expected {list(model.classes)}, found {document['classes']}"
        predictions, probabilities = document["predictions"], document["probabilities"]
        yield from self._classification(predictions, model.classes, probabilities)

    def _csv(self, body: bytes) -> Iterator[str]:
        model = self.model
        lines = list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))
        names = [f"probability_{name}" for name in model.classes]
        targets = [f"prediction_{target}" for target in model.manifest["targets"]]
        header = ["prediction", *names] if model.classes else targets
        if lines[:1] != [header]:
            yield f"header: expected {header}, found {lines[:1]}"
        elif model.classes:
            labels, values = [line[0] for line in lines[1:]], [line[1:] for line in lines[1:]]
            yield from self._classification(labels, list(map(str, model.classes)), values)
        else:
            yield from model.differences(self.index, {"output": lines[1:]})

    def _bytes(self, body: bytes) -> Iterator[str]:
        rows, columns = len(self.index), self.model.columns
        if len(body) != 4 * rows * columns:
            yield f"expected {rows} rows of {columns} float32, found {len(body)} bytes"
            return
        name = "probabilities" if self.model.classes else "output"
        yield from self.model.differences(self.index, {name: np.frombuffer(body, "<f4")})

    def _classification(
        self, predictions: Any, classes: Sequence[Any], probabilities: Any
    ) -> Iterator[str]:
        positions = {(type(value), value): index for index, value in enumerate(classes)}
        try:
            labels = [positions[type(value), value] for value in predictions]
        except (KeyError, TypeError):
            yield f"predictions: expected some of {list(classes)}, found {predictions!s:.200}"
            return
        outputs = {"label": labels, "probabilities": probabilities}
        yield from self.model.differences(self.index, outputs)


@dataclass(frozen=True)
class Tensors(Outcome):
    """The reply of the Open Inference Protocol V2, as JSON or with binary tensors."""

    model: ServedModel = field(repr=False)
    index: Index = field(repr=False)
    binary: Mapping[str, bool]
    """Whether each output is binary, by name in the order of the reply."""
    id: str | None = None

    def differences(self, reply: Reply) -> Iterator[str]:
        """Yield what is wrong with a reply."""
        any_binary = any(self.binary.values())
        yield from head_differences(reply, 200, BYTES if any_binary else JSON)
        length = reply.header(JSON_LENGTH)
        if (length is not None) != any_binary or not (length or "0").isdecimal():
            yield f"{JSON_LENGTH}: found {length!r}"
            return
        split = len(reply.body) if length is None else int(length)
        document, wrong = parse(reply.body[:split])
        yield from wrong
        if document is None:
            return
        tensors = document.pop("outputs", None)
        members = {"model_name": self.model.name, "model_version": self.model.version}
        members |= {} if self.id is None else {"id": self.id}
        if document != members:
            yield f"expected {members}, found {document}"
        names = isinstance(tensors, list) and [tensor.get("name") for tensor in tensors]
        if names != list(self.binary):
            yield f"outputs: expected {list(self.binary)}, found {tensors!s:.200}"
            return
        yield from self._tensors(tensors, reply.body[split:])

    def _tensors(self, tensors: list[dict[str, Any]], tail: bytes) -> Iterator[str]:
        outputs = {}
        for tensor in tensors:
            name, values = tensor["name"], tensor.pop("data", None)
            shape = self.model.shape(name, self.index)
            datatype = self.model.outputs[name]
            expected: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
            count = int(np.prod(shape, dtype=int))
            if self.binary[name]:
                item = np.dtype("<i8" if name == "label" else "<f4")
                size = count * item.itemsize
                expected["parameters"] = {"binary_data_size": size}
                raw, tail = tail[:size], tail[size:]
                values = np.frombuffer(raw, item) if len(raw) == size else []
            if tensor != expected:
                yield f"outputs: expected {expected}, found {tensor}"
            if len(values) != count:
                yield f"{name}: expected {count} values in a flat list, found {len(values)}"
            outputs[name] = values
        if tail:
            yield f"{len(tail)} bytes follow the last tensor"
        yield from self.model.differences(self.index, outputs)


@dataclass(frozen=True)
class RowPredictions(JsonReply):
    """The reply of TensorFlow Serving's API to {"instances": ...}: one item per row."""

    model: ServedModel = field(repr=False)
    index: Index = field(repr=False)

    def _document_differences(self, document: dict[str, Any], reply: Reply) -> Iterator[str]:
        rows, names = document.get("predictions"), list(self.model.outputs)
        if list(document) != ["predictions"] or not isinstance(rows, list):
            yield f"members: found {list(document)}"
        elif not self.model.classes:
            yield from self.model.differences(self.index, {"output": rows})
        elif any(list(row) != names for row in rows):
            yield f"predictions: expected rows of {names}, found {rows!s:.200}"
        else:
            outputs = {name: [row[name] for row in rows] for name in names}
            yield from self.model.differences(self.index, outputs)


@dataclass(frozen=True)
class ColumnPredictions(JsonReply):
    """The reply of TensorFlow Serving's API to {"inputs": ...}: an output, or several by name."""

    model: ServedModel = field(repr=False)
    index: Index = field(repr=False)

    def _document_differences(self, document: dict[str, Any], reply: Reply) -> Iterator[str]:
        outputs, names = document.get("outputs"), list(self.model.outputs)
        if list(document) != ["outputs"]:
            yield f"members: found {list(document)}"
        elif not self.model.classes:
            yield from self.model.differences(self.index, {"output": outputs})
        elif not isinstance(outputs, dict) or list(outputs) != names:
            yield f"outputs: expected {names}, found {outputs!s:.200}"
        else:
            yield from self.model.differences(self.index, outputs)
