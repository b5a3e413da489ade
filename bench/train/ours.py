"""What bench/train.py times of this project, and of PyTorch by hand: a process that answers JSON lines.

Every form uses the threads that a person gets who sets none: the engine by the rule in model/train.py, the plain loop
all that torch finds. Who wants fewer restricts the process (OMP_NUM_THREADS, affinity), as bench/train.py does.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.datasets import make_friedman1
from torch import Tensor, nn
from train_peers import arrays, quality, serve

from model.config import TrainConfig
from model.fit.batches import Rows
from model.fit.devices import CORES, thread_count
from model.fit.loop import FitState, run_epochs
from model.fit.step import Batch, Step, squared_error
from model.lessons import formulations
from model.net import TwoLayerNet
from model.table import load
from model.table.column_statistics import column_statistics
from model.table.dataset import Table
from model.table.split import split
from model.scaling import build_net, standardise_rows

RATE = 1e-3

Take = Callable[[int], float]
"""Takes so many steps on the same rows; returns the last one's loss."""


def engine(net: TwoLayerNet, x: Tensor, y: Tensor) -> Take:
    """What fits here: model/step.py."""
    torch.set_num_threads(thread_count(net, len(x), CORES))
    step = Step(net, squared_error)
    batch = Batch(x, y.t().contiguous(), torch.ones(1, len(x)))

    def take(steps: int) -> float:
        losses = torch.empty(steps)
        step.run([batch] * steps, [RATE] * steps, losses)
        return float(losses[-1])

    return take


def plain(net: nn.Module, x: Tensor, y: Tensor) -> Take:
    """The loop of every tutorial: nn.Module, Adam, .item() and a print in every step."""
    torch.set_num_threads(CORES)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)

    def take(steps: int) -> float:
        for number in range(steps):
            loss = ((net(x) - y) ** 2).sum()
            print(number, loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return take


def floor(net: TwoLayerNet, x: Tensor, y: Tensor) -> Take:
    """A step's five products and one fused Adam over one flat tensor, and nothing else: it fits nothing.

    In the order of a step, so that each finds in the caches what it finds there in a step.
    """
    torch.set_num_threads(thread_count(net, len(x), CORES))
    weight1, weight2 = net.linear1.weight.detach(), net.linear2.weight.detach()
    hidden, scores = torch.rand(len(weight1), len(x)), torch.rand(len(weight2), len(x))
    hidden_gradient = torch.empty_like(hidden)
    gradient = torch.full((sum(parameter.numel() for parameter in net.parameters()),), 1e-3)
    weight1_gradient = gradient[: weight1.numel()].view_as(weight1)
    weight2_gradient = gradient[weight1.numel() :][: weight2.numel()].view_as(weight2)
    flat, first, second, count = *(torch.zeros_like(gradient) for _ in range(3)), torch.ones(())
    state = [flat], [gradient], [first], [second], list[Tensor](), [count]

    def take(steps: int) -> float:
        for _ in range(steps):
            torch.mm(weight1, x.t(), out=hidden)
            torch.mm(weight2, hidden, out=scores)
            torch.mm(scores, hidden.t(), out=weight2_gradient)
            torch.mm(weight2.t(), scores, out=hidden_gradient)
            torch.mm(hidden_gradient, x, out=weight1_gradient)
            torch._fused_adam_(
                *state,
                lr=RATE,
                beta1=0.9,
                beta2=0.999,
                weight_decay=0.0,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
        return float("nan")

    return take


def lesson(form: str, seed: int) -> Take:
    """A form of model/formulations.py, on rows and weights that it draws."""
    kind = LESSONS[form]
    at_work = kind(formulations.reference(kind, seed))

    def take(steps: int) -> float:
        return [at_work.step() for _ in range(steps)][-1]

    return take


FORMS: dict[str, Callable[[TwoLayerNet, Tensor, Tensor], Take]] = {
    "engine": engine,
    "floor": floor,
    "plain": plain,
}
LESSONS = {form.name: form for form in formulations.FORMS}


def forms() -> dict[str, object]:
    """Name the forms that reference() can time."""
    return {"names": [*FORMS, *LESSONS]}


def reference(form: str, path: str, steps: int, seed: int) -> dict[str, float]:
    """Time so many steps of one form: seconds, and the last loss.

    All but the lessons fit the arrays x (rows, in_features) and y (rows, out_features) of an NPZ file.
    """
    if form in LESSONS:
        take = lesson(form, seed)
    else:
        with np.load(path) as file:
            x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
        torch.manual_seed(seed)
        take = FORMS[form](TwoLayerNet(x.shape[1], 100, y.shape[1]), x, y)
    started = time.perf_counter()
    loss = take(steps)
    return {"seconds": time.perf_counter() - started, "loss": loss}


def grid(
    in_features: int, hidden_features: int, batch: int, rounds: int, seconds: float
) -> dict[str, object]:
    """Time a step of one shape on 1, 2, 4, ... threads, and the plain loop's on all: the least of a few rounds.

    Args:
        in_features: of 10 out_features.
        hidden_features: likewise.
        batch: rows.
        rounds: each takes every form once.
        seconds: that each form is to take in a round.
    """
    net = TwoLayerNet(in_features, hidden_features, 10)
    x, y = torch.randn(batch, in_features), torch.randn(batch, 10)
    chosen = thread_count(net, batch, CORES)
    counts = sorted(
        {chosen, CORES, *(1 << i for i in range(CORES.bit_length()) if 1 << i <= CORES)}
    )
    loop, ours = plain(TwoLayerNet(in_features, hidden_features, 10), x, y), engine(net, x, y)
    forms = [(str(count), count, ours) for count in counts] + [("plain", CORES, loop)]
    least: dict[str, float] = {}
    for _ in range(rounds):
        for name, count, take in forms:
            torch.set_num_threads(count)
            take(1)  # wakes the threads, and fills the caches
            started = time.perf_counter()
            take(1)
            steps = max(1, min(300, int(seconds / (time.perf_counter() - started))))
            started = time.perf_counter()
            take(steps)
            least[name] = min(least.get(name, 1e9), (time.perf_counter() - started) / steps)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return {
        "seconds": least,
        "chosen": chosen,
        "parameters": parameters,
        "products": batch * parameters,
    }


def prepare(name: str, seed: int, path: str) -> dict[str, object]:
    """Write a table's three parts, as the engine is fitted to them, to an NPZ file that every peer reads."""
    table = synthetic() if name == "synthetic" else load.load_table(name)
    parts = vars(split(table, seed))
    net = build_net(table, parts["train"], column_statistics(table.x[parts["train"]]), 1)
    written = {}
    for part, indices in parts.items():
        written[f"x_{part}"], written[f"y_{part}"] = (
            rows.numpy() for rows in standardise_rows(net, table, indices)
        )
    np.savez(path, allow_pickle=False, **written)
    return {"rows": {part: len(indices) for part, indices in parts.items()}}


def synthetic() -> Table:
    """Draw 200,000 x 50 numbers, of which five decide the target (Friedman 1991), and noise."""
    x, y = make_friedman1(n_samples=200_000, n_features=50, noise=1.0, random_state=0)
    return Table(
        name="synthetic",
        task="regression",
        features=tuple(f"x{i}" for i in range(50)),
        kinds=("float",) * 50,
        x=x.astype(np.float32),
        targets=("y",),
        y=y[:, None],
        classes=(),
        notes=(),
    )


def table(path: str, epochs: int, seed: int) -> dict[str, float]:
    """Fit as `python -m model train` does, from arrays in memory, with a look at the validation rows every epoch."""
    rows = {
        part: (torch.from_numpy(x), torch.from_numpy(y)) for part, (x, y) in arrays(path).items()
    }
    started = time.perf_counter()
    state = begin(rows["train"], epochs, seed)
    for _ in run_epochs(state, rows["train"], rows["validation"]):
        pass
    seconds = time.perf_counter() - started
    x, y = rows["test"]
    with torch.no_grad():
        return {"seconds": seconds, "quality": quality(state.net(x).numpy(), y.numpy())}


def begin(train: Rows, epochs: int, seed: int) -> FitState:
    """Make the net of a seed and its fit, in the dtype of the rows, on the threads of the rule."""
    x, y = train
    config, classification = TrainConfig(epochs=epochs, seed=seed), y.dtype == torch.int64
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(seed)
    net = TwoLayerNet(
        x.shape[1], config.hidden_features, int(y.max()) + 1 if classification else y.shape[1]
    )
    torch.set_default_dtype(x.dtype)  # the engine's buffers have it
    torch.set_num_threads(thread_count(net, config.batch_size, CORES))
    return FitState(net.to(x.dtype), config, classification=classification)


def curve(path: str, epochs: int, seed: int) -> dict[str, float]:
    """Hold the engine's losses to a plain loop's over the same order of rows.

    Returns:
        The largest relative difference of an epoch's training loss over the fit: between the engine and the plain
        loop, in float32 and in float64; and between the plain loop in float32 and in float64, which is what rounding
        alone comes to.
    """
    x, y = (torch.from_numpy(part) for part in arrays(path)["train"])
    ours, loop = {}, {}
    for dtype in (torch.float32, torch.float64):
        rows = x.to(dtype), y if y.dtype == torch.int64 else y.to(dtype)
        ours[dtype] = np.array(
            [epoch.train_loss for epoch in run_epochs(begin(rows, epochs, seed), rows, rows)]
        )
        loop[dtype] = np.fromiter(plain_epochs(rows, epochs, seed), float)
    torch.set_default_dtype(torch.float32)  # begin() has changed it
    compared = {
        "float32": (ours[torch.float32], loop[torch.float32]),
        "float64": (ours[torch.float64], loop[torch.float64]),
        "rounding": (loop[torch.float32], loop[torch.float64]),
    }
    return {name: float(abs(one / other - 1).max()) for name, (one, other) in compared.items()}


def plain_epochs(train: Rows, epochs: int, seed: int) -> Iterator[float]:
    """Fit by nn.Module, autograd and torch.optim.Adam; yield each epoch's mean training loss."""
    x, y = train
    net = begin(train, epochs, seed).net
    mean_loss = nn.functional.cross_entropy if y.dtype == torch.int64 else nn.functional.mse_loss
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(x), generator=order), TrainConfig().batch_size):
            loss = mean_loss(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call] # torch's
            optimizer.step()
            total += loss.item() * len(rows)
        yield total / len(x)


if __name__ == "__main__":
    serve({job.__name__: job for job in (forms, reference, grid, prepare, table, curve)})
