"""Jobs that measure this project and plain PyTorch; bench.train.worker runs this module.

Every implementation uses its default number of threads: the engine follows model/fit/devices.py,
and the plain loop uses every core. The parent process may limit both by CPU affinity and
OMP_NUM_THREADS.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.datasets import make_friedman1
from torch import Tensor, nn

from bench.train.peers import (
    LEARNING_RATE,
    Array,
    Parts,
    Predict,
    run_jobs,
    timed,
    torch_objects,
    torch_predict,
)
from model.config import TrainConfig
from model.fit.devices import max_threads, thread_count
from model.fit.loop import FitState, run_epochs
from model.fit.step import Batch, Step, squared_error
from model.lessons import comparison
from model.lessons.formulations import Form
from model.net import TwoLayerNet
from model.scaling import build_net, standardise_rows
from model.table import load
from model.training import prepare_table

ADAM: dict[str, Any] = {
    **{"lr": LEARNING_RATE, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    **{"weight_decay": 0.0, "amsgrad": False, "maximize": False},
}
RunSteps = Callable[[int], float]
"""Function that runs a number of steps on the same rows, and returns the last step's loss."""


def engine(net: TwoLayerNet, x: Tensor, y: Tensor) -> RunSteps:
    """Return a function that runs the training steps of model/fit/step.py."""
    torch.set_num_threads(thread_count(net, len(x), max_threads()))
    step = Step(net, squared_error)
    batch = Batch(x, y.t().contiguous(), torch.ones(1, len(x)))

    def run(steps: int) -> float:
        losses = torch.empty(steps)
        step.run([batch] * steps, [LEARNING_RATE] * steps, losses)
        return float(losses[-1])

    return run


def plain(net: nn.Module, x: Tensor, y: Tensor) -> RunSteps:
    """Return a function that runs a tutorial's loop: nn.Module, Adam, .item() and print."""
    torch.set_num_threads(max_threads())
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)

    def run(steps: int) -> float:
        for number in range(steps):
            loss = ((net(x) - y) ** 2).sum()
            print(number, loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    return run


def floor(net: TwoLayerNet, x: Tensor, y: Tensor) -> RunSteps:
    """Return a function that runs only the five matrix products and the fused Adam of a step.

    It trains nothing, but runs these operations in the order of a training step, so that the CPU
    caches hold the same data.
    """
    torch.set_num_threads(thread_count(net, len(x), max_threads()))
    weight1, weight2 = net.linear1.weight.detach(), net.linear2.weight.detach()
    hidden, scores = torch.rand(len(weight1), len(x)), torch.rand(len(weight2), len(x))
    hidden_gradient = torch.empty_like(hidden)
    gradient = torch.full((sum(parameter.numel() for parameter in net.parameters()),), 1e-3)
    weight1_gradient = gradient[: weight1.numel()].view_as(weight1)
    weight2_gradient = gradient[weight1.numel() :][: weight2.numel()].view_as(weight2)
    flat, first, second, count = *(torch.zeros_like(gradient) for _ in range(3)), torch.ones(())
    state = [flat], [gradient], [first], [second], list[Tensor](), [count]

    def run(steps: int) -> float:
        for _ in range(steps):
            torch.mm(weight1, x.t(), out=hidden)
            torch.mm(weight2, hidden, out=scores)
            torch.mm(scores, hidden.t(), out=weight2_gradient)
            torch.mm(weight2.t(), scores, out=hidden_gradient)
            torch.mm(hidden_gradient, x, out=weight1_gradient)
            torch._fused_adam_(*state, **ADAM)
        return 0.0

    return run


def lesson(kind: type[Form], seed: int) -> RunSteps:
    """Return a function that runs an implementation of model/lessons on random rows."""
    net = kind(comparison.reference(kind, seed))
    return lambda steps: [net.step() for _ in range(steps)][-1]


FORMS = {form.__name__: form for form in (engine, floor, plain)}
LESSONS = {form.name: form for form in comparison.FORMS}


def forms() -> dict[str, object]:
    """Return the names of the implementations that `reference` can time."""
    return {"names": [*FORMS, *LESSONS]}


def reference(form: str, path: str, steps: int, seed: int) -> dict[str, float]:
    """Run some steps of one implementation; return the duration in seconds and the last loss.

    Lessons draw their own rows; the others fit the arrays x, (rows, in_features), and y,
    (rows, out_features), of the NPZ file at path.
    """
    if form in LESSONS:
        run = lesson(LESSONS[form], seed)
    else:
        with np.load(path) as file:
            x, y = torch.from_numpy(file["x"]), torch.from_numpy(file["y"])
        torch.manual_seed(seed)
        run = FORMS[form](TwoLayerNet(x.shape[1], 100, y.shape[1]), x, y)
    started = time.perf_counter()
    loss = run(steps)
    return {"seconds": time.perf_counter() - started, "loss": loss}


def prepare(name: str, seed: int, path: str) -> dict[str, object]:
    """Write the training, validation and test rows of a table, standardised, to an NPZ file.

    The table `synthetic` has 200,000 rows of 50 features, five of which determine the target
    (Friedman 1991).
    """
    if name == "synthetic":
        x, y = make_friedman1(n_samples=200_000, n_features=50, noise=1.0, random_state=0)
        np.savez(path, x=x.astype(np.float32), y=y)
    table = load.load_table(path if name == "synthetic" else name)
    data = prepare_table(table, TrainConfig(seed=seed))
    parts, net = data.parts, build_net(table, data.statistics, data.target_statistics, 1)
    contents: dict[str, Array] = {}
    for part, indices in parts.items():
        x, y = standardise_rows(net, table, indices)
        contents |= {f"x_{part}": x.numpy(), f"y_{part}": y.numpy()}
    np.savez(path, allow_pickle=False, **contents)
    return {"rows": {part: len(indices) for part, indices in parts.items()}}


@timed
def table(parts: Parts, epochs: int, seed: int) -> Predict:
    """Fit as `python -m model train` does; it evaluates the validation rows after every epoch."""
    train, validation = (
        (torch.from_numpy(x), torch.from_numpy(y)) for x, y in (parts["train"], parts["validation"])
    )
    config = TrainConfig(epochs=epochs, seed=seed)
    net, *_ = torch_objects(parts, seed)
    torch.set_num_threads(thread_count(net, config.batch_size, max_threads()))
    state = FitState(net, config, classification=train[1].dtype == torch.int64)
    for _ in run_epochs(state, train, validation):
        pass
    return torch_predict(net)


if __name__ == "__main__":
    run_jobs(forms, reference, prepare, table)
