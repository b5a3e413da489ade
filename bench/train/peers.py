"""Fits with other libraries for the training benchmark, each as its documentation shows.

The process runs in the peers' virtual environment, and each job imports only its own library.
Durations are in seconds, from arrays in memory to the fitted model. As in this project's fit there
is no weight decay and no early stopping, and every training row is used. Unlike this project's fit,
the peers do not evaluate the validation rows.
"""

import contextlib
import functools
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HIDDEN_FEATURES, BATCH_ROWS, LEARNING_RATE = 100, 64, 1e-3

Array = NDArray[Any]
Parts = Mapping[str, tuple[Array, Array]]
"""Standardised rows and their targets by part: train, validation, test."""
Predict = Callable[[Array], Array]
"""Function from rows, (rows, features), to scores, (rows, outputs)."""


def run_jobs(*jobs: Callable[..., Mapping[str, object]]) -> None:
    """Run jobs from stdin until it ends.

    An input line is a JSON object with the name of a job and its arguments; the output line is its
    result. The output of the jobs themselves is discarded.
    """
    by_name = {job.__name__: job for job in jobs}
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with Path(os.devnull).open("w") as null, contextlib.redirect_stdout(null):
        for line in sys.stdin:
            arguments = json.loads(line)
            result = by_name[arguments.pop("job")](**arguments)
            print(json.dumps(result), file=results, flush=True)


def timed(fit: Callable[[Parts, int, int], Predict]) -> Callable[..., dict[str, float]]:
    """Turn fit(parts, epochs, seed) into a job that returns its duration and test quality."""

    @functools.wraps(fit)
    def job(path: str, epochs: int, seed: int) -> dict[str, float]:
        with np.load(path) as file:
            names = ("train", "validation", "test")
            parts = {name: (file[f"x_{name}"], file[f"y_{name}"]) for name in names}
        started = time.perf_counter()
        predict = fit(parts, epochs, seed)
        seconds = time.perf_counter() - started
        x, y = parts["test"]
        return {"seconds": seconds, "quality": quality(predict(x), y)}

    return job


def quality(scores: Array, y: Array) -> float:
    """Return the accuracy of scores, (rows, out_features), or their R2 if y holds no classes."""
    if y.dtype == np.int64:
        return float((scores.argmax(axis=1) == y).mean())
    y, scores = y.astype(np.float64), scores.reshape(y.shape).astype(np.float64)
    return float(1 - ((y - scores) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum())


def jax_scan(path: str, steps: int, seed: int) -> dict[str, float]:
    """Time the reference setup in JAX, with all steps in one lax.scan, excluding compilation."""
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
        root, rate = jnp.sqrt(1 - 0.999**count), LEARNING_RATE / (1 - 0.9**count)
        parameters = jax.tree.map(
            lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), parameters, first, second
        )
        return (parameters, first, second), value

    with np.load(path) as file:
        x, y = jax.device_put(file["x"]), jax.device_put(file["y"])
    random = np.random.default_rng(seed)
    width, hidden, outputs = x.shape[1], HIDDEN_FEATURES, y.shape[1]
    shapes = (width, hidden), (hidden,), (hidden, outputs), (outputs,)
    bounds = (width**-0.5,) * 2 + (hidden**-0.5,) * 2  # PyTorch's default initialisation
    pairs = zip(bounds, shapes, strict=True)
    initial = [jnp.float32(random.uniform(-bound, bound, shape)) for bound, shape in pairs]
    state = initial, [jnp.zeros_like(p) for p in initial], [jnp.zeros_like(p) for p in initial]
    counts = jnp.arange(1.0, steps + 1)
    scan = jax.jit(lambda state, counts: jax.lax.scan(adam, state, counts))
    fit = scan.lower(state, counts).compile()
    started = time.perf_counter()
    losses = jax.block_until_ready(fit(state, counts)[1])
    return {"seconds": time.perf_counter() - started, "loss": float(losses[-1])}


@timed
def scikit_learn(parts: Parts, epochs: int, seed: int) -> Predict:
    """Fit MLPClassifier or MLPRegressor."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    # scikit-learn warns that a fit with a fixed number of epochs has not converged.
    warnings.simplefilter("ignore")
    x, y = parts["train"]
    classification = y.dtype == np.int64
    model = (MLPClassifier if classification else MLPRegressor)(
        hidden_layer_sizes=(HIDDEN_FEATURES,),
        batch_size=BATCH_ROWS,
        learning_rate_init=LEARNING_RATE,
        alpha=0.0,
        max_iter=epochs,
        n_iter_no_change=epochs,
        random_state=seed,
    )
    model.fit(x, y if classification else y.ravel())
    predict: Predict = model.predict_proba if classification else model.predict
    return predict


@timed
def skorch(parts: Parts, epochs: int, seed: int) -> Predict:
    """Fit NeuralNetClassifier or NeuralNetRegressor, without the progress table."""
    import torch
    from skorch import NeuralNetClassifier, NeuralNetRegressor

    x, y = parts["train"]
    classification = y.dtype == np.int64
    model = (NeuralNetClassifier if classification else NeuralNetRegressor)(
        torch_objects(parts, seed)[0],
        criterion=torch.nn.CrossEntropyLoss if classification else torch.nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=LEARNING_RATE,
        max_epochs=epochs,
        batch_size=BATCH_ROWS,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    model.fit(x, y)
    return lambda x: model.forward(x).numpy()


@timed
def lightning(parts: Parts, epochs: int, seed: int) -> Predict:
    """Fit a LightningModule under a Trainer without logger, checkpoints and progress bars."""
    import logging

    import torch
    from lightning import LightningModule, Trainer

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    # Lightning warns about the small number of data-loading workers.
    warnings.simplefilter("ignore")
    network, loader, mean_loss = torch_objects(parts, seed)

    class Module(LightningModule):  # type: ignore[misc] # not installed for mypy
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def training_step(self, batch: Any, _: int) -> Any:
            rows, targets = batch
            return mean_loss(self.net(rows), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = {"accelerator": "cpu", "devices": 1, **dict.fromkeys(quiet, False)}
    trainer = Trainer(max_epochs=epochs, **options)
    trainer.fit(Module(), loader)
    return torch_predict(network)


@timed
def dataloader(parts: Parts, epochs: int, seed: int) -> Predict:
    """Fit with the loop of PyTorch's tutorials: DataLoader, nn.Module, torch.optim.Adam."""
    import torch

    net, loader, mean_loss = torch_objects(parts, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    for _ in range(epochs):
        for rows, targets in loader:
            loss = mean_loss(net(rows), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return torch_predict(net)


def torch_objects(parts: Parts, seed: int) -> tuple[Any, Any, Any]:
    """Return an initialised network, a DataLoader of shuffled batches, and the mean loss."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from model.net import TwoLayerNet

    torch.manual_seed(seed)
    x, y = map(torch.from_numpy, parts["train"])
    is_class = y.dtype == torch.int64
    net = TwoLayerNet(x.shape[1], HIDDEN_FEATURES, int(y.max()) + 1 if is_class else y.shape[1])
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH_ROWS, shuffle=True)
    functional = torch.nn.functional
    return net, loader, functional.cross_entropy if is_class else functional.mse_loss


def torch_predict(net: Any) -> Predict:
    """Return a function that evaluates a network on rows."""
    import torch

    def predict(x: Array) -> Array:
        with torch.no_grad():
            scores: Array = net(torch.from_numpy(x)).numpy()
        return scores

    return predict


if __name__ == "__main__":
    run_jobs(jax_scan, scikit_learn, skorch, lightning, dataloader)
