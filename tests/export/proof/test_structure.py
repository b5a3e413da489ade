"""export.structure: what is not exactly the trained network is refused, and the difference is named."""

import io
import re
import zipfile
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch

from export import ProofError
from export.proof.onnx_structure import prove_onnx
from export.proof.torchscript_structure import prove_torchscript
from export.to_torchscript import load_torchscript, to_torchscript
from model.run import net_from_weights
from service.artifact import manifest
from tests.trained import Trained

Edit = Callable[[onnx.ModelProto], object]


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    """Find an initializer."""
    found: onnx.TensorProto = next(t for t in model.graph.initializer if t.name == name)
    return found


def change(name: str, edit: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """Return a mutant that edits one tensor."""

    def mutate(model: onnx.ModelProto) -> None:
        target = tensor(model, name)
        target.raw_data = (
            edit(onnx.numpy_helper.to_array(target).copy()).astype(np.float32).tobytes()
        )

    return mutate


def one_ulp(values: np.ndarray) -> np.ndarray:
    """Move one value to its neighbour."""
    values.flat[0] = np.nextafter(values.flat[0], np.float32(np.inf))
    return values


def negative_zero(values: np.ndarray) -> np.ndarray:
    """Give a zero a sign that no comparison of numbers sees."""
    values.flat[0] = -values.flat[0]
    return values


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Cut the mantissa to 7 bits."""
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def swap(model: onnx.ModelProto, first: str, second: str) -> None:
    """Exchange the names of two tensors."""
    a, b = tensor(model, first), tensor(model, second)
    a.name, b.name = second, first


def set_attribute(index: int, name: str, value: float) -> Edit:
    """Return a mutant that changes an operator's attribute."""

    def mutate(model: onnx.ModelProto) -> None:
        attribute = next(a for a in model.graph.node[index].attribute if a.name == name)
        attribute.CopyFrom(onnx.helper.make_attribute(name, value))

    return mutate


MUTANTS: dict[str, tuple[Edit, str]] = {
    "one ulp": (change("net.linear1.weight", one_ulp), "net.linear1.weight: 1 of 64 values differ"),
    "one percent": (
        change("net.linear2.bias", lambda v: v * 1.01),
        "net.linear2.bias: 3 of 3 values differ",
    ),
    "bfloat16": (change("net.linear1.weight", bfloat16), "net.linear1.weight: "),
    "float16": (
        change("net.linear2.weight", lambda v: v.astype(np.float16)),
        "net.linear2.weight: ",
    ),
    "NaN": (change("net.linear2.weight", lambda v: v * np.nan), "found np.float32(nan)"),
    "sign of a scale": (change("scale", negative_zero), "scale: 1 of 4 values differ"),
    "rows swapped": (change("net.linear1.weight", lambda v: v[::-1]), "net.linear1.weight: "),
    "shift and scale": (lambda m: swap(m, "shift", "scale"), "scale: 4 of 4 values differ"),
    "bias renamed": (lambda m: setattr(tensor(m, "scale"), "name", "other"), "tensors: expected"),
    "ReLU to Abs": (
        lambda m: setattr(m.graph.node[3], "op_type", "Abs"),
        "operator 4: expected ('Relu'",
    ),
    "ReLU dropped": (lambda m: m.graph.node.pop(3), "count of operators: expected 7, found 6"),
    "foreign domain": (
        lambda m: setattr(m.graph.node[3], "domain", "com.example"),
        "found ('com.example.Relu'",
    ),
    "softmax axis": (set_attribute(5, "axis", 0), "operator 6: expected ('Softmax'"),
    "transposed": (set_attribute(2, "transB", 0), "operator 3: expected ('Gemm'"),
    "alpha": (set_attribute(4, "alpha", 2.0), "operator 5: expected ('Gemm'"),
    "wiring": (
        lambda m: m.graph.node[6].input.__setitem__(0, "probabilities"),
        "operator 7: expected ('ArgMax'",
    ),
    "opset": (
        lambda m: setattr(m.opset_import[0], "version", 18),
        "opsets: expected [('', 17)], found [('', 18)]",
    ),
    "IR version": (lambda m: setattr(m, "ir_version", 10), "IR version: expected 8, found 10"),
    "external data": (
        lambda m: setattr(tensor(m, "shift"), "data_location", onnx.TensorProto.EXTERNAL),
        "data location of shift",
    ),
    "extra output": (
        lambda m: m.graph.output.append(
            onnx.helper.make_tensor_value_info("relu", 1, ["batch", 16])
        ),
        "outputs: expected",
    ),
    "outputs exchanged": (
        lambda m: m.graph.output.insert(0, m.graph.output.pop(1)),
        "outputs: expected",
    ),
    "metadata": (
        lambda m: m.metadata_props.add(key="path", value="/home"),
        "metadata: expected 0, found 1",
    ),
    "metadata of a node": (
        lambda m: m.graph.node[0].metadata_props.add(key="path", value="/home"),
        "expected the canonical bytes of its graph",
    ),
    "attribute twice": (
        lambda m: m.graph.node[5].attribute.insert(0, onnx.helper.make_attribute("axis", 0)),
        "attributes of Softmax: expected ['axis'], found ['axis', 'axis']",
    ),
    "no tensors": (
        lambda m: m.graph.ClearField("initializer"),
        "count of initializers: expected 6, found 0",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_onnx_mutants_die(flowers: Trained, mutant: str) -> None:
    """Every way in which a file can differ from the run is refused, by name."""
    edit, message = MUTANTS[mutant]
    model = onnx.load_model_from_string((flowers.artifact / manifest.MODEL).read_bytes())
    edit(model)
    with pytest.raises(ProofError, match=re.escape(message)):
        prove_onnx(model.SerializeToString(), flowers.run.weights)


@pytest.mark.parametrize("which", ["flowers", "houses"])
def test_healthy_files_pass(which: str, request: pytest.FixtureRequest) -> None:
    """What export wrote is what the proof expects, for both tasks and both formats."""
    made: Trained = request.getfixturevalue(which)
    prove_onnx((made.artifact / manifest.MODEL).read_bytes(), made.run.weights)
    prove_torchscript(
        load_torchscript((made.artifact / manifest.TORCHSCRIPT).read_bytes()), made.run.weights
    )


def edit_code(content: bytes, old: str, new: str) -> bytes:
    """Replace text in the code of a TorchScript file."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            target.writestr(
                entry,
                data.replace(old.encode(), new.encode())
                if entry.filename.endswith(".py")
                else data,
            )
    assert out.getvalue() != content
    return out.getvalue()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "torch.relu(input)",
            "torch.abs(input)",
            "operator 4: expected ('aten::relu', ('gemm',), 'relu')",
        ),
        (
            "torch.softmax(logits, 1)",
            "torch.softmax(logits, 0)",
            "operator 6: expected ('aten::softmax'",
        ),
        (
            "torch.argmax(logits, 1)",
            "torch.argmin(logits, 1)",
            "operator 7: expected ('aten::argmax'",
        ),
        ("torch.sub(x, shift)", "torch.add(x, shift)", "operator 1: expected ('aten::sub'"),
        (
            "torch.sub(x, shift)",
            "torch.sub(x, shift, alpha=2)",
            "operator 1: expected ('aten::sub'",
        ),
        (
            "(logits, torch.softmax(logits, 1)",
            "(torch.softmax(logits, 1), logits",
            "returned values: expected",
        ),
    ],
)
def test_torchscript_mutants_die(flowers: Trained, old: str, new: str, message: str) -> None:
    """Another operator, constant or wire in the code is refused, by name."""
    content = edit_code((flowers.artifact / manifest.TORCHSCRIPT).read_bytes(), old, new)
    with pytest.raises(ProofError, match=re.escape(message)):
        prove_torchscript(load_torchscript(content), flowers.run.weights)


@pytest.mark.parametrize(
    "more",
    [
        "    _9 = torch.zero_(logits)\n",
        "    if torch.eq(torch.size(x, 0), 5):\n      _9 = torch.zero_(logits)\n    else:\n      pass\n",
    ],
    ids=["always", "sometimes"],
)
def test_what_follows_the_returned_tuple_is_seen(flowers: Trained, more: str) -> None:
    """An operator that changes an answer in place after it was put into the tuple is refused."""
    end = "torch.argmax(logits, 1))\n"
    content = edit_code((flowers.artifact / manifest.TORCHSCRIPT).read_bytes(), end, end + more)
    with pytest.raises(
        ProofError, match=r"model\.torchscript\.pt: (count of operators|outputs and blocks)"
    ):
        prove_torchscript(load_torchscript(content), flowers.run.weights)


def test_hooks_are_seen(flowers: Trained) -> None:
    """A forward hook runs after the graph, and is refused."""
    net = net_from_weights(flowers.run.weights)

    def hook(
        self: torch.nn.Module,
        inputs: tuple[torch.Tensor],
        output: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return output

    net.register_forward_hook(hook)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net), buffer)
    with pytest.raises(ProofError, match="hooks: expected"):
        prove_torchscript(load_torchscript(buffer.getvalue()), flowers.run.weights)


def test_half_precision_is_seen(flowers: Trained) -> None:
    """A module of another type is refused by name."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(net_from_weights(flowers.run.weights).half()), buffer)
    with pytest.raises(ProofError, match=re.escape("expected torch.float32, found torch.float16")):
        prove_torchscript(load_torchscript(buffer.getvalue()), flowers.run.weights)


def test_garbage_is_refused(flowers: Trained) -> None:
    """Bytes that are no ONNX file end in a ProofError."""
    with pytest.raises(ProofError, match=r"model\.onnx: "):
        prove_onnx(b"garbage", flowers.run.weights)


def test_torchscript_of_other_weights_dies(flowers: Trained) -> None:
    """One bit in one parameter is found."""
    net = net_from_weights(flowers.run.weights)
    with torch.no_grad():
        net.net.linear1.bias[0] += 1e-6
    with pytest.raises(ProofError, match=re.escape("net.linear1.bias: 1 of 16 values differ")):
        prove_torchscript(load_torchscript(to_torchscript(net)), flowers.run.weights)


def test_proof_of_nothing_fails(flowers: Trained) -> None:
    """A run without tensors proves nothing, whatever the file holds."""
    with pytest.raises(ProofError, match="tensors of the run: expected"):
        prove_torchscript(
            load_torchscript((flowers.artifact / manifest.TORCHSCRIPT).read_bytes()), {}
        )
