"""The peers of bench/train.py, each as its documentation shows it, and the process that runs one of them.

The process lives in a virtual environment of the peers, and imports the one library that it is asked for. It answers
JSON lines: a request names a job and its arguments, an answer is what the job returns. Times are in seconds, from
arrays in memory to the fitted model. As in the project's own fit there is no weight decay and no early stopping,
every training row is fitted to, and no row is held back: the peers look at no validation rows.
"""

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIDDEN, BATCH, RATE = 100, 64, 1e-3


def serve(jobs: Mapping[str, Callable[..., Mapping[str, object]]]) -> None:
    """Answer requests from stdin until it ends; what the jobs print goes nowhere, as to a quiet terminal."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123 # a device, not a path
        for line in sys.stdin:
            request = json.loads(line)
            answer = jobs[request.pop("job")](**request)
            print(json.dumps(answer), file=answers, flush=True)


def arrays(path: str) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Read the standardised rows and their targets by part: train, validation, test."""
    with np.load(path) as file:
        return {
            part: (file[f"x_{part}"], file[f"y_{part}"]) for part in ("train", "validation", "test")
        }


def quality(scores: NDArray[Any], y: NDArray[Any]) -> float:
    """Return the accuracy where y holds classes, else R2, of scores (rows, out_features)."""
    if y.dtype == np.int64:
        return float((scores.argmax(axis=1) == y).mean())
    y, scores = y.astype(np.float64), scores.reshape(y.shape).astype(np.float64)
    return float(1 - ((y - scores) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum())


def jax_scan(path: str, steps: int, seed: int) -> dict[str, float]:
    """Time the reference set-up in JAX, all steps in one lax.scan; it is compiled before the clock starts."""
    import jax
    from jax import numpy as jnp

    def loss(parameters: Any) -> Any:
        weight1, bias1, weight2, bias2 = parameters
        return ((jnp.maximum(x @ weight1 + bias1, 0) @ weight2 + bias2 - y) ** 2).sum()

    def adam(state: Any, count: Any) -> Any:
        parameters, first, second = state
        value, gradient = jax.value_and_grad(loss)(parameters)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        root, rate = jnp.sqrt(1 - 0.999**count), RATE / (1 - 0.9**count)
        parameters = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), parameters, first, second
        )
        return (parameters, first, second), value

    with np.load(path) as file:
        x, y = jax.device_put(file["x"]), jax.device_put(file["y"])
    random = np.random.default_rng(seed)
    shapes = (x.shape[1], HIDDEN), (HIDDEN,), (HIDDEN, y.shape[1]), (y.shape[1],)
    bounds = (x.shape[1] ** -0.5,) * 2 + (HIDDEN**-0.5,) * 2  # as torch begins
    begin = [
        jnp.float32(random.uniform(-b, b, shape)) for b, shape in zip(bounds, shapes, strict=True)
    ]
    state = begin, [jnp.zeros_like(p) for p in begin], [jnp.zeros_like(p) for p in begin]
    counts = jnp.arange(1.0, steps + 1)
    fit = (
        jax.jit(lambda state, counts: jax.lax.scan(adam, state, counts))
        .lower(state, counts)
        .compile()
    )
    started = time.perf_counter()
    losses = jax.block_until_ready(fit(state, counts)[1])
    return {"seconds": time.perf_counter() - started, "loss": float(losses[-1])}


def scikit_learn(path: str, epochs: int, seed: int) -> dict[str, float]:
    """Time MLPClassifier or MLPRegressor."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    warnings.simplefilter("ignore")  # the epochs are fixed, so it warns that it has not converged
    parts = arrays(path)
    (x, y), (x_test, y_test) = parts["train"], parts["test"]
    kind = MLPClassifier if y.dtype == np.int64 else MLPRegressor
    settings = {
        "hidden_layer_sizes": (HIDDEN,),
        "batch_size": BATCH,
        "learning_rate_init": RATE,
        "alpha": 0.0,
    }
    started = time.perf_counter()
    model = kind(**settings, max_iter=epochs, n_iter_no_change=epochs, random_state=seed)
    model.fit(x, y if y.dtype == np.int64 else y.ravel())
    seconds = time.perf_counter() - started
    scores = model.predict_proba(x_test) if y.dtype == np.int64 else model.predict(x_test)
    return {"seconds": seconds, "quality": quality(scores, y_test)}


def skorch(path: str, epochs: int, seed: int) -> dict[str, float]:
    """Time NeuralNetClassifier or NeuralNetRegressor, with its default callbacks but not the table that they print."""
    import torch
    from skorch import NeuralNetClassifier, NeuralNetRegressor

    parts = arrays(path)
    (x, y), (x_test, y_test) = parts["train"], parts["test"]
    classification = y.dtype == np.int64
    started = time.perf_counter()
    torch.manual_seed(seed)
    model = (NeuralNetClassifier if classification else NeuralNetRegressor)(
        network(x, y),
        criterion=torch.nn.CrossEntropyLoss if classification else torch.nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=RATE,
        max_epochs=epochs,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    model.fit(x, y)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "quality": quality(model.forward(x_test).numpy(), y_test)}


def lightning(path: str, epochs: int, seed: int) -> dict[str, float]:
    """Time a LightningModule under a Trainer without logger, checkpoints and bars."""
    import logging

    import torch
    from lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # it warns of few workers for few rows
    parts = arrays(path)
    x, y = (torch.from_numpy(part) for part in parts["train"])
    mean_loss = (
        torch.nn.functional.cross_entropy
        if y.dtype == torch.int64
        else torch.nn.functional.mse_loss
    )

    class Module(LightningModule):  # type: ignore[misc] # it is not installed where types are checked
        def __init__(self) -> None:
            super().__init__()
            self.net = network(*parts["train"])

        def training_step(self, batch: Any, _: int) -> Any:
            rows, targets = batch
            return mean_loss(self.net(rows), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

    started = time.perf_counter()
    torch.manual_seed(seed)
    module = Module()
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, **dict.fromkeys(quiet, False)
    )
    trainer.fit(module, DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "quality": torch_quality(module.net, parts["test"])}


def dataloader(path: str, epochs: int, seed: int) -> dict[str, float]:
    """Time the loop that PyTorch's own tutorials write: DataLoader, nn.Module, torch.optim.Adam."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    parts = arrays(path)
    x, y = (torch.from_numpy(part) for part in parts["train"])
    mean_loss = torch.nn.CrossEntropyLoss() if y.dtype == torch.int64 else torch.nn.MSELoss()
    started = time.perf_counter()
    torch.manual_seed(seed)
    net = network(*parts["train"])
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    for _ in range(epochs):
        for rows, targets in loader:
            loss = mean_loss(net(rows), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "quality": torch_quality(net, parts["test"])}


def network(x: NDArray[Any], y: NDArray[Any]) -> Any:
    """Make the network for a table's training rows and targets."""
    from model.net import TwoLayerNet

    return TwoLayerNet(x.shape[1], HIDDEN, int(y.max()) + 1 if y.dtype == np.int64 else y.shape[1])


def torch_quality(net: Any, test: tuple[NDArray[Any], NDArray[Any]]) -> float:
    """Return quality() of a network's scores on the test rows."""
    import torch

    with torch.no_grad():
        return quality(net(torch.from_numpy(test[0])).numpy(), test[1])


if __name__ == "__main__":
    serve({job.__name__: job for job in (jax_scan, scikit_learn, skorch, lightning, dataloader)})
