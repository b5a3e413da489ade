"""Mutants of the tensors and the code of model.torchscript.pt, which is a zip archive."""

import functools
import io
import zipfile
from collections.abc import Callable
from typing import Concatenate

import torch
from torch import Tensor

from export.to_torchscript import rezip, script
from model.net import ScaledClassifier, ScaledNet
from model.run import net_from_weights
from service.artifact import manifest
from tests.mutants.subject import Arguments, DoesNotApplyError, Kind, Mutant, Subject
from tests.mutants.tensors import COMMON, Change, apply_change

Entries = dict[str, bytes]
Outputs = tuple[Tensor, Tensor, Tensor]
Apply = Callable[[Subject], Subject]


def edit_archive(edit: Callable[[Entries, Subject], object]) -> Apply:
    """Return a mutation of the archive's entries; the archive is rewritten as export writes it."""

    def apply(subject: Subject) -> Subject:
        with zipfile.ZipFile(io.BytesIO(subject.files[manifest.TORCHSCRIPT])) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        edit(entries, subject)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return subject.replaced(TORCHSCRIPT=rezip(out.getvalue()))

    return apply


def edits(
    function: Callable[Concatenate[Entries, Subject, Arguments], None],
) -> Callable[Arguments, Apply]:
    """Turn f(entries, subject, *arguments) into f(*arguments), which returns a mutation."""
    return lambda *args, **options: edit_archive(
        lambda entries, subject: function(entries, subject, *args, **options)
    )


@edits
def tensor(entries: Entries, subject: Subject, name: str, change: Change) -> None:
    """Apply a change to the archive entry that holds the values of one tensor."""
    new = apply_change(subject.weights, name, change)
    entries[_entry_of(entries, subject, name)] = new.tobytes()


@edits
def exchange(entries: Entries, subject: Subject, first: str, second: str) -> None:
    """Exchange the values of two tensors of the same shape."""
    if first not in subject.weights:
        raise DoesNotApplyError
    a, b = (_entry_of(entries, subject, name) for name in (first, second))
    entries[a], entries[b] = entries[b], entries[a]


@edits
def code(entries: Entries, subject: Subject, old: str, new: str) -> None:
    """Replace text in every code file that contains it."""
    files = [name for name in entries if name.endswith(".py") and old.encode() in entries[name]]
    if not files:
        raise DoesNotApplyError
    for name in files:
        entries[name] = entries[name].replace(old.encode(), new.encode())


replace_relu = functools.partial(code, "torch.relu(input)")


def add(name: str, content: bytes) -> Apply:
    """Return a mutation that adds an entry to the archive."""
    return edit_archive(
        lambda entries, subject: entries.update(
            {f"{next(iter(entries)).split('/')[0]}/{name}": content}
        )
    )


@edits
def replace(
    entries: Entries, subject: Subject, ending: str, change: Callable[[bytes], bytes]
) -> None:
    """Change the content of the first entry whose name has this ending."""
    name = next(name for name in entries if name.endswith(ending))
    entries[name] = change(entries[name])


def script_module(make: Callable[[ScaledNet], torch.nn.Module]) -> Apply:
    """Return a mutation that scripts a module made from the network."""
    return lambda subject: subject.replaced(
        TORCHSCRIPT=rezip(script(make(net_from_weights(subject.weights))))
    )


def _entry_of(entries: Entries, subject: Subject, name: str) -> str:
    """Return the name of the entry that holds a tensor."""
    content = subject.weights[name].tobytes()
    return next(entry for entry in entries if entries[entry] == content)


class ConstantClassifier(ScaledClassifier):
    """Returns the same outputs for every row, from a stored hidden layer.

    The attribute replaces a computed value, and has the proof's name for that value, `gemm`.
    """

    def __init__(self, net: ScaledNet) -> None:
        super().__init__(net.net, net.shift, net.scale)
        self.gemm = net.net.linear1(torch.zeros(1, len(net.shift))).detach()

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits that do not depend on the rows."""
        self.net.linear1(self.standardise(x))
        v: torch.Tensor = self.net.linear2(torch.relu(self.gemm))
        return v


def constant_classifier(net: ScaledNet) -> torch.nn.Module:
    """Return a classifier that ignores its input."""
    if not isinstance(net, ScaledClassifier):
        raise DoesNotApplyError
    return ConstantClassifier(net).eval()


def with_attribute(net: ScaledNet) -> torch.nn.Module:
    """Return the network with an attribute that no method reads."""
    net.note = "home"  # type: ignore[assignment] # torch.jit.script accepts a string
    return net


def keep_output(self: torch.nn.Module, inputs: tuple[Tensor], output: Outputs) -> Outputs:
    """Return the output unchanged, as a forward hook."""
    return output


def with_hook(net: ScaledNet) -> torch.nn.Module:
    """Return the network with a forward hook, which runs outside its graph."""
    if not isinstance(net, ScaledClassifier):
        raise DoesNotApplyError
    net.register_forward_hook(keep_output)
    return net


def with_buffer(net: ScaledNet) -> torch.nn.Module:
    """Return the network with an additional buffer."""
    net.register_buffer("spare", torch.zeros(1))
    return net


END = "torch.argmax(logits, 1))\n"

SEMANTIC: dict[str, Apply] = {
    **{name: tensor(*where) for name, where in COMMON.items()},
    "shift and scale exchanged": exchange("shift", "scale"),
    "output shift and scale exchanged": exchange("output_shift", "output_scale"),
    "ReLU dropped": replace_relu("input"),
    "ReLU is LeakyRelu": replace_relu("torch.leaky_relu(input, 0.01)"),
    "ReLU is Abs": replace_relu("torch.abs(input)"),
    "operands of Sub exchanged": code("torch.sub(x, shift)", "torch.rsub(x, shift)"),
    "Sub with alpha 2": code("torch.sub(x, shift)", "torch.sub(x, shift, alpha=2)"),
    "shift left out": code("torch.sub(x, shift)", "x"),
    "un-scaling left out": code("torch.add(_1, output_shift)", "torch.add(_0, output_shift)"),
    "a bias dropped": code("torch.linear(input, weight, bias)", "torch.linear(input, weight)"),
    "a pickle that runs a command": replace("/data.pkl", lambda old: b"cos\nsystem\n(S'true'\ntR."),
    "Softmax over the batch": code("torch.softmax(logits, 1)", "torch.softmax(logits, 0)"),
    "ArgMax is ArgMin": code("torch.argmax(logits, 1)", "torch.argmin(logits, 1)"),
    "ArgMax keeps its dimension": code("torch.argmax(logits, 1)", "torch.argmax(logits, 1, True)"),
    "logits and probabilities exchanged": code(
        "(logits, torch.softmax(logits, 1)", "(torch.softmax(logits, 1), logits"
    ),
    "changed after it was returned": code(END, f"{END}    _9 = torch.zero_(logits)\n"),
    "changed for batches of 5": code(
        END,
        f"{END}    if torch.eq(torch.size(x, 0), 5):\n      _9 = torch.zero_(logits)\n"
        "    else:\n      pass\n",
    ),
    "noise in training mode": replace_relu("torch.dropout(torch.relu(input), 0.5, True)"),
    "a constant hidden layer": script_module(constant_classifier),
    "a hook": script_module(with_hook),
    "half precision": script_module(lambda net: net.half()),
    "an extra tensor": script_module(with_buffer),
    "another byte order declared": replace("/byteorder", lambda old: b"big"),
    "another version of the format": replace("/version", lambda old: b"2\n"),
    "bytecode for mobile runtimes": add("bytecode.pkl", b"\x80\x02K\x00."),
}
FORM: dict[str, Apply] = {
    "ReLU as clamp": replace_relu("torch.clamp_min(input, 0)"),
    "Linear as matmul": code(
        "torch.linear(input, weight, bias)", "torch.add(torch.matmul(input, torch.t(weight)), bias)"
    ),
    "an operator with an unused output": code(END, f"{END}    _9 = torch.relu(logits)\n"),
    "another method": code(
        "  def scores(", "  def home(self) -> int:\n    return 7\n  def scores("
    ),
    "another file of code": add("code/more.py", b""),
    "an unused attribute": script_module(with_attribute),
    "trailing bytes of a tensor": replace("/data/0", lambda old: old + b"home"),
    "paths of a machine": add("code/__torch__/model/net.py.debug", b"/home"),
    "bytes before the archive": lambda subject: subject.replaced(
        TORCHSCRIPT=b"#!" + subject.files[manifest.TORCHSCRIPT]
    ),
    "no archive": lambda subject: subject.replaced(TORCHSCRIPT=b"PK"),
    "an archive of another writer": lambda subject: subject.replaced(
        TORCHSCRIPT=subject.files[manifest.TORCHSCRIPT].replace(b"Z" * 8, b"Y" * 8, 1)
    ),
}


def _mutants(kind: Kind, edits: dict[str, Apply]) -> list[Mutant]:
    return [Mutant(f"torchscript: {name}", kind, apply) for name, apply in edits.items()]


MUTANTS = [*_mutants("semantic", SEMANTIC), *_mutants("form", FORM)]
