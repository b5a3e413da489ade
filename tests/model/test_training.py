"""model.run: from a Table to a complete run on disk."""

import dataclasses
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.utils import compute_class_weight

from model import metrics
from model.config import TrainConfig
from model.errors import DataError, Diverged
from model.fit.checkpoint import TrainRequest
from model.run import Run, load_run, net_from_weights
from model.table.column_statistics import column_statistics
from model.table.dataset import Table
from model.table.split import split
from model.train import build_net, class_weights, predict_rows, standardise_rows, train

CONFIG = TrainConfig(hidden_features=8, epochs=8, learning_rate=1e-2)


def table(classes: tuple[str, ...] = (), rows: int = 100) -> Table:
    """Make a table of a year, a constant 0.1, Unix days and noise; the target is linear in them, or its sign."""
    rng = np.random.default_rng(0)
    year, days, noise = (
        rng.integers(1990, 2020, rows),
        rng.integers(18_000, 20_000, rows),
        rng.normal(size=rows),
    )
    x = np.stack([year, np.full(rows, 0.1), days, noise], axis=1).astype(np.float32)
    y = 1e5 + 300 * (year - 2005.0) + 5 * (days - 19_000.0) + 1000 * noise
    return Table(
        name="t",
        task="classification" if classes else "regression",
        features=("year", "constant", "days", "noise"),
        kinds=("integer", "float", "integer", "float"),
        x=x,
        targets=("price €",),
        y=(y > 1e5).astype(np.int64) if classes else y[:, None],
        classes=classes,
        notes=("note",),
    )


CLASSES = ("cheap", "dear")


def trained(folder: Path, data: Table, **changes: Any) -> Run:
    """Train on the CPU and load the run."""
    config = dataclasses.replace(CONFIG, **changes)
    return load_run(train(data, config, torch.device("cpu"), folder / "runs", Console(quiet=True)))


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_same_seed_same_bits(tmp_path: Path, classes: tuple[str, ...]) -> None:
    """Two runs of one seed are byte-identical but for the time they were made; another seed's is another."""
    first, second, other = (trained(tmp_path, table(classes), seed=seed) for seed in (5, 5, 6))
    assert tmp_path / "runs" / "t" / "2" == second.path
    assert first.content == second.content
    assert first.content != other.content
    assert dataclasses.replace(first.record, created="") == dataclasses.replace(
        second.record, created=""
    )
    assert (first.path / "curves.png").read_bytes() == (second.path / "curves.png").read_bytes()


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_test_rows_never_influence_training(tmp_path: Path, classes: tuple[str, ...]) -> None:
    """Other test rows give the same weights, history and statistics, bit for bit, and other test metrics."""
    data = table(classes)
    test = split(data, CONFIG.seed).test
    x, y = data.x.copy(), data.y.copy()
    x[test] = np.random.default_rng(1).normal(1e6, 1e6, x[test].shape)
    if not classes:  # classes decide the split itself
        y[test] = -y[test]
    expected = trained(tmp_path, data)
    found = trained(tmp_path, dataclasses.replace(data, x=x, y=y))
    assert expected.content == found.content
    assert expected.record.history == found.record.history
    assert expected.record.features == found.record.features
    assert expected.record.metrics["validation"] == found.record.metrics["validation"]
    assert expected.record.metrics["test"] != found.record.metrics["test"]


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_run_is_the_best_epoch(tmp_path: Path, classes: tuple[str, ...]) -> None:
    """The saved network's own metrics on each part are those recorded, and best_epoch is the lowest loss."""
    data = table(classes)
    saved = trained(
        tmp_path, data, epochs=30, learning_rate=0.3
    )  # coarse: the loss goes up and down
    losses = [epoch.validation_loss for epoch in saved.record.history]
    best = saved.record.best_epoch
    assert min(losses) == losses[best - 1]
    assert best < 30, "the last epoch should not be the best"
    net = net_from_weights(saved.weights)
    for part, rows in vars(split(data, CONFIG.seed)).items():
        assert (
            metrics.compute_metrics(data, predict_rows(net, data.x, rows), data.y[rows])
            == saved.record.metrics[part]
        )
    if not classes:  # the validation loss is the error in units of the targets' spread
        spread = float(saved.weights["output_scale"][0])
        assert (
            pytest.approx(losses[best - 1] ** 0.5 * spread, rel=1e-4)
            == saved.record.metrics["validation"]["rmse"]
        )


def test_record(tmp_path: Path) -> None:
    """What a run says of itself: the training rows' figures, the split, the choices, the warnings."""
    data = table()
    saved = trained(tmp_path, data)
    parts = split(data, CONFIG.seed)
    assert ("t", "regression", ("price €",), (), CONFIG, "cpu") == (
        saved.record.name,
        saved.record.task,
        saved.record.targets,
        saved.record.classes,
        saved.record.config,
        saved.record.device,
    )
    assert {"train": 64, "validation": 16, "test": 20} == saved.record.rows
    assert list(range(1, 9)) == [epoch.number for epoch in saved.record.history]
    assert (
        "note",
        "1 column is constant: the network does not see it ('constant')",
    ) == saved.record.notes
    assert {"mean", "linear"} == saved.record.baselines.keys()
    for index, feature in enumerate(saved.record.features):
        column = data.x[parts.train, index].astype(np.float64)
        assert (data.features[index], data.kinds[index]) == (feature.name, feature.kind)
        expected = column.mean(), column.std(), column.min(), column.max(), np.median(column)
        assert pytest.approx(expected) == (
            feature.mean,
            feature.std,
            feature.min,
            feature.max,
            feature.median,
        )
    assert np.array_equal(data.x[parts.validation], saved.rows)


def test_scaling_is_that_of_the_training_rows(tmp_path: Path) -> None:
    """Standardised training rows have mean 0 and spread 1; the constant column is multiplied by 0."""
    data = table()
    saved = trained(tmp_path, data)
    rows = split(data, CONFIG.seed).train
    v = net_from_weights(saved.weights).standardise(torch.from_numpy(data.x[rows])).double().numpy()
    np.testing.assert_allclose(v.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(v.std(axis=0), [1, 0, 1, 1], rtol=1e-5)
    assert 0 == saved.weights["scale"][1]


def test_linear_target_is_learnt(tmp_path: Path) -> None:
    """In its own units, beside a mean baseline that explains nothing and a linear one that explains all."""
    saved = trained(tmp_path, table(rows=400), epochs=60)
    assert saved.record.metrics["test"]["r2"] > 0.99
    assert saved.record.baselines["mean"]["r2"] < 0.05
    assert saved.record.baselines["linear"]["r2"] > 0.999


def outlier(part: str) -> Table:
    """Make a table with a value in a row of the part that float32 cannot hold once it is standardised."""
    data = table(rows=400)
    x = data.x.copy()
    x[:, 3] *= 0.1
    x[getattr(split(data, CONFIG.seed), part)[0], 3] = 3e38
    return dataclasses.replace(data, x=x)


OUTLIER = r"column 'noise': an outlier that leaves float32's range when it is standardised"


@pytest.mark.parametrize(
    ("data", "changes", "expected"),
    [
        (
            table(),
            {"learning_rate": 1e30},
            r"the loss is (inf|nan) at step 1 \(epoch 1\), learning rate 1e\+30: .*",
        ),
        (outlier("validation"), {}, OUTLIER),
        (outlier("test"), {}, OUTLIER),
        (table(), {"class_weights": "balanced"}, "class_weights: a regression has no classes"),
        (table(), {"class_weights": (1.0,)}, "class_weights: a regression has no classes"),
        (
            table(CLASSES),
            {"class_weights": (1.0, 2.0, 3.0)},
            "class_weights: expected 2, one for each of 'cheap', 'dear', found 3",
        ),
    ],
)
def test_nothing_stays_of_a_fit_that_fails(
    tmp_path: Path, data: Table, changes: dict[str, Any], expected: str
) -> None:
    """A loss that diverges at once, values out of range and weights for no classes end in one line; no folder stays."""
    with pytest.raises(DataError, match=f"^{expected}$"):
        trained(tmp_path, data, **changes)
    assert [tmp_path / "runs"] == list(tmp_path.rglob("*"))


def test_answers_that_are_not_finite_are_refused() -> None:
    """In one line: infinity is no answer."""
    net = build_net(table(), np.arange(64), column_statistics(table().x[:64]), 4)
    net.output_scale.fill_(3e38)  # type: ignore[operator] # a buffer of the regressor
    expected = "the network's answers leave float32's range: scale the columns of the data"
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        predict_rows(net, table().x * 100, np.arange(10))


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_slices_are_the_whole(monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]) -> None:
    """However few rows are standardised or answered at once: the same to rounding, in the order of the indices."""
    data, indices = table(classes), np.random.default_rng(0).permutation(100)[:37]
    net = build_net(data, np.arange(64), column_statistics(data.x[:64]), 8)
    with torch.no_grad():
        x = net.standardise(torch.from_numpy(data.x))[indices]
        whole = net(torch.from_numpy(data.x))
        answers = (whole[1] if classes else whole).double().numpy()[indices]
        targets = net.training_targets(torch.from_numpy(data.y))[indices]
    for slice_floats in (
        1,
        4 * 10,
        12 * 10,
        1 << 22,
    ):  # of one row, and of a number that leaves a rest
        monkeypatch.setattr(train, "MAX_SLICE_VALUES", slice_floats)
        found = standardise_rows(net, data, indices)
        assert torch.equal(x, found[0])
        assert torch.equal(targets, found[1])
        np.testing.assert_allclose(
            answers, predict_rows(net, data.x, indices), rtol=1e-5, atol=1e-6
        )


def test_class_weights() -> None:
    """None where all classes count alike; balanced as scikit-learn has it, from the training rows; else as given."""
    data = dataclasses.replace(table(("a", "b", "c")), y=np.array([0] * 70 + [1] * 20 + [2] * 10))
    train = np.arange(10, 95)
    assert class_weights(data, train, CONFIG) is None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=data.y[train])
    found = class_weights(data, train, dataclasses.replace(CONFIG, class_weights="balanced"))
    assert found is not None
    np.testing.assert_allclose(expected, found.numpy(), rtol=1e-7)
    found = class_weights(data, train, dataclasses.replace(CONFIG, class_weights=(0.5, 1.0, 3.25)))
    assert found is not None
    assert [0.5, 1.0, 3.25] == found.tolist()


def test_class_weights_reach_the_fit(tmp_path: Path) -> None:
    """A class that counts more is answered more often, and the choice is recorded."""
    noise = np.random.default_rng(3).integers(0, 2, 100)
    data = dataclasses.replace(table(CLASSES), y=noise)
    rows = np.arange(100)
    answered = []
    for weights in ((1.0, 30.0), (30.0, 1.0)):
        saved = trained(tmp_path, data, class_weights=weights)
        assert weights == saved.record.config.class_weights
        answered.append(
            predict_rows(net_from_weights(saved.weights), data.x, rows).argmax(axis=1).mean()
        )
    assert answered[0] > 0.9 > 0.1 > answered[1]


@pytest.mark.parametrize("classes", [(), CLASSES])
def test_best_epoch_outlives_a_later_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]
) -> None:
    """The run is complete, that of the epochs before, and says why it ended; the error says where it lies."""
    expected = trained(tmp_path / "good", table(classes), epochs=3)
    monkeypatch.setattr("model.fit.loop.learning_rates", rates_that_jump(3))
    shown = io.StringIO()
    with pytest.raises(Diverged) as caught:
        train(
            table(classes),
            CONFIG,
            torch.device("cpu"),
            tmp_path,
            Console(file=shown, width=200),
            request=TrainRequest(source="t"),
            save_seconds=0,
        )
    saved = load_run(tmp_path / "t" / "1")
    assert [saved.path] == list(saved.path.parent.iterdir())
    reason = saved.record.notes[-1]
    pattern = r"the loss is (inf|nan) at step 4 \(epoch 4\), learning rate 1e\+30: probably the learning rate is too .*"
    assert re.fullmatch(pattern, reason)
    assert f"{saved.path} holds the best epoch, {saved.record.best_epoch}: {reason}" == str(
        caught.value
    )
    assert (
        shown.getvalue()
        .splitlines()[1]
        .startswith(f"best epoch {saved.record.best_epoch} of 3, validation loss ")
    )
    assert [1, 2, 3] == [epoch.number for epoch in saved.record.history]
    assert expected.content == saved.content
    assert expected.record.metrics == saved.record.metrics


def rates_that_jump(epochs: int) -> Callable[[TrainConfig, int, int, int], list[float]]:
    """Return a schedule that is far too large after so many epochs."""

    def rates(config: TrainConfig, first: int, steps: int, steps_per_epoch: int) -> list[float]:
        return [config.learning_rate if first < epochs * steps_per_epoch else 1e30] * steps

    return rates


def test_tiny_spread_is_constant(tmp_path: Path) -> None:
    """A column whose reciprocal spread would overflow float32 does not poison the fit."""
    data = table()
    x = data.x.copy()
    x[:, 3] *= 1e-41
    saved = trained(tmp_path, dataclasses.replace(data, x=x))
    assert np.isfinite(saved.weights["scale"]).all()
    assert "2 columns are constant" in saved.record.notes[-1]


def test_progress_on_a_terminal_and_plain_lines_in_a_log(tmp_path: Path) -> None:
    """A terminal sees a bar with the validation loss; a log gets no control characters at all."""
    shown, logged = io.StringIO(), io.StringIO()
    for console in (
        Console(file=shown, force_terminal=True, width=120),
        Console(file=logged, width=120),
    ):
        train(table(), CONFIG, torch.device("cpu"), tmp_path, console)
    assert "8/8" in shown.getvalue()
    assert "validation loss" in shown.getvalue()
    assert "\x1b" in shown.getvalue()
    assert "\x1b" not in logged.getvalue()
    warning, best, *rows = logged.getvalue().splitlines()
    assert "warning: 1 column is constant: the network does not see it ('constant')" == warning
    assert best.startswith("best epoch ")
    assert ["r2", "train", "validation", "test", "mean", "linear"] == [
        row.split()[0] for row in rows
    ]
