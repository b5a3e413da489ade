"""Tests of model.training: runs, failed fits, checkpoints and output of train()."""

import contextlib
import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from sklearn.utils import compute_class_weight

from model.config import TrainConfig
from model.errors import DataError, Diverged
from model.fit.checkpoint import CheckpointWriter, TrainRequest, load_checkpoint
from model.fit.devices import float32_arithmetic
from model.fit.loop import FitState
from model.metrics import baseline_warning, compute_metrics
from model.run import Run, load_run, net_from_weights
from model.scaling import predict_rows
from model.table.dataset import Table
from model.table.load import load_table
from model.table.split import split
from model.training import class_weights, train
from tests.model.epochs import watch_epochs
from tests.model.tables import CLASSES, make_table

CONFIG = TrainConfig(hidden_features=8, epochs=8, learning_rate=1e-2)
CPU = torch.device("cpu")
BOTH_TASKS = pytest.mark.parametrize("classes", [(), CLASSES], ids=["regression", "classification"])


def trained(folder: Path, table: Table, **changes: Any) -> Run:
    """Train on the CPU with changed settings, and return the run."""
    config = dataclasses.replace(CONFIG, **changes)
    return load_run(train(table, config, CPU, folder / "runs", Console(quiet=True)))


@BOTH_TASKS
def test_same_seed_same_bits(tmp_path: Path, classes: tuple[str, ...]) -> None:
    """Runs of one seed differ only in their time of creation; another seed gives other weights."""
    first, second, other = (trained(tmp_path, make_table(classes), seed=seed) for seed in (5, 5, 6))
    assert tmp_path / "runs" / "t" / "2" == second.path
    assert first.content == second.content
    assert first.content != other.content
    assert first.record == dataclasses.replace(second.record, created=first.record.created)
    assert (first.path / "curves.png").read_bytes() == (second.path / "curves.png").read_bytes()


@BOTH_TASKS
def test_test_rows_never_influence_training(tmp_path: Path, classes: tuple[str, ...]) -> None:
    """Changing the test rows changes the test metrics and nothing else."""
    table = make_table(classes)
    test = split(table, CONFIG.seed)["test"]
    x, y = table.x.copy(), table.y.copy()
    x[test] = np.random.default_rng(1).normal(1e6, 1e6, x[test].shape)
    if not classes:  # other classes would change the split
        y[test] = -y[test]
    first = trained(tmp_path, table)
    second = trained(tmp_path, dataclasses.replace(table, x=x, y=y))
    assert first.content == second.content
    assert first.record.history == second.record.history
    assert first.record.features == second.record.features
    assert first.record.metrics["validation"] == second.record.metrics["validation"]
    assert first.record.metrics["test"] != second.record.metrics["test"]


@BOTH_TASKS
def test_run_is_the_best_epoch(tmp_path: Path, classes: tuple[str, ...]) -> None:
    """The saved network and its metrics are those of the epoch with the lowest validation loss."""
    table = make_table(classes)
    # With this large learning rate the loss does not fall in every epoch.
    run = trained(tmp_path, table, epochs=30, learning_rate=0.3)
    losses = [epoch.validation_loss for epoch in run.record.history]
    best = run.record.best_epoch
    assert min(losses) == losses[best - 1]
    assert best < 30, "the last epoch should not be the best"
    net = net_from_weights(run.weights)
    for part, rows in split(table, CONFIG.seed).items():
        predictions = predict_rows(net, table.x, rows)
        expected = compute_metrics(predictions, table.y[rows], len(classes))
        assert expected == run.record.metrics[part]
    if not classes:  # the validation loss is in units of the targets' spread
        rmse = losses[best - 1] ** 0.5 * float(run.weights["output_scale"][0])
        assert pytest.approx(rmse, rel=1e-4) == run.record.metrics["validation"]["rmse"]


def test_record(tmp_path: Path) -> None:
    """The record holds the columns, the statistics of the training rows and the settings."""
    table = make_table()
    run = trained(tmp_path, table)
    record, parts = run.record, split(table, CONFIG.seed)
    assert ("t", "regression", ()) == (record.name, record.task, record.classes)
    assert table.targets == record.targets
    assert (CONFIG, "cpu") == (record.config, record.device)
    assert {"train": 64, "validation": 16, "test": 20} == record.rows
    warning = "1 constant column, which the network ignores ('constant')"
    beaten = baseline_warning("regression", record.metrics, record.baselines)
    assert beaten is not None, "a short fit does not beat a linear model of a linear target"
    assert ("note", warning, beaten) == record.notes
    assert {"mean", "linear"} == record.baselines.keys()
    train_x = table.x[parts["train"]].astype(np.float64)
    assert table.features == tuple(feature.name for feature in record.features)
    assert table.kinds == tuple(feature.kind for feature in record.features)
    for name in ("mean", "std", "min", "max", "median"):
        actual = [getattr(feature, name) for feature in record.features]
        assert pytest.approx(getattr(np, name)(train_x, axis=0)) == actual
    assert np.array_equal(table.x[parts["validation"]], run.rows)


def with_outlier(part: str) -> Table:
    """Make a table with a value in this part that overflows float32 when standardised."""
    table = make_table(rows=400)
    table.x[:, 3] *= 0.1
    table.x[split(table, CONFIG.seed)[part][0], 3] = 3e38
    return table


TOO_MANY_WEIGHTS = "class_weights: expected 2, one for each of 'cheap', 'dear', found 3"
OUTLIER = "column 'noise': an outlier leaves float32's range when it is standardised"


@pytest.mark.parametrize(
    ("table", "changes", "expected"),
    [
        (make_table(), {"learning_rate": 1e30}, r"the loss is (inf|nan) at step 1 \(epoch 1\), .*"),
        (with_outlier("validation"), {}, OUTLIER),
        (with_outlier("test"), {}, OUTLIER),
        (make_table(), {"class_weights": "balanced"}, "class_weights: a regression has no classes"),
        (make_table(CLASSES), {"class_weights": (1.0, 2.0, 3.0)}, TOO_MANY_WEIGHTS),
    ],
)
def test_failed_fit_leaves_no_files(
    tmp_path: Path, table: Table, changes: dict[str, Any], expected: str
) -> None:
    """A fit that fails in its first epoch gives a one-line error and leaves no run."""
    with pytest.raises(DataError, match=f"^{expected}$"):
        trained(tmp_path, table, **changes)
    assert [tmp_path / "runs"] == list(tmp_path.rglob("*"))


def test_class_weights() -> None:
    """Balanced weights equal scikit-learn's on the training rows; explicit ones are kept."""
    y = np.array([0] * 70 + [1] * 20 + [2] * 10)
    table, train = dataclasses.replace(make_table(("a", "b", "c")), y=y), np.arange(10, 95)

    def weights(value: Any) -> Any:
        return class_weights(table, train, dataclasses.replace(CONFIG, class_weights=value))

    assert weights("equal") is None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y[train])
    np.testing.assert_allclose(expected, weights("balanced").numpy(), rtol=1e-7)
    assert [0.5, 1.0, 3.25] == weights((0.5, 1.0, 3.25)).tolist()


def test_class_weights_reach_the_fit(tmp_path: Path) -> None:
    """A class with a larger weight is predicted more often."""
    noise = np.random.default_rng(3).integers(0, 2, 100)
    table = dataclasses.replace(make_table(CLASSES), y=noise)
    shares = []
    for weights in ((1.0, 30.0), (30.0, 1.0)):
        net = net_from_weights(trained(tmp_path, table, class_weights=weights).weights)
        shares.append(predict_rows(net, table.x, np.arange(100)).argmax(axis=1).mean())
    assert shares[0] > 0.9 > 0.1 > shares[1]


def rates_that_jump(
    config: TrainConfig, first: int, steps: int, steps_per_epoch: int
) -> list[float]:
    """Return the normal learning rate for three epochs, then a rate that diverges."""
    return [config.learning_rate if first < 3 * steps_per_epoch else 1e30] * steps


@BOTH_TASKS
def test_divergence_after_good_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: tuple[str, ...]
) -> None:
    """If a fit diverges, the earlier epochs become a run; the run and the error give the reason."""
    table, log = make_table(classes), io.StringIO()
    expected = trained(tmp_path / "good", table, epochs=3)
    monkeypatch.setattr("model.fit.loop.learning_rates", rates_that_jump)
    console, request = Console(file=log, width=200), TrainRequest(source="t")
    with pytest.raises(Diverged) as caught:
        train(table, CONFIG, CPU, tmp_path, console, request=request, checkpoint_seconds=0)
    run = load_run(tmp_path / "t" / "1")
    assert [run.path] == list(run.path.parent.iterdir()), "the checkpoint should be removed"
    best, reason = run.record.best_epoch, run.record.notes[-1]
    pattern = r"the loss is (inf|nan) at step 4 \(epoch 4\), learning rate 1e\+30: probably .*"
    assert re.fullmatch(pattern, reason)
    assert f"{run.path} holds the best epoch, {best}: {reason}" == str(caught.value)
    assert f"best epoch {best} of 3, validation loss " in log.getvalue().splitlines()[1]
    assert expected.content == run.content
    assert expected.record.history == run.record.history
    assert expected.record.metrics == run.record.metrics


def shifted(target: Table, mean: float, std: float) -> Table:
    """Return the table with a target of this mean and standard deviation."""
    y = target.y.astype(np.float64)
    return dataclasses.replace(target, y=mean + std * (y - y.mean()) / y.std())


def test_target_with_a_large_mean(tmp_path: Path) -> None:
    """A target of 1.7e9 +- 600 is fitted as well as float32 allows; the notes say what it costs."""
    changes = {"epochs": 60, "batch_size": 16}
    near = trained(tmp_path / "near", shifted(make_table(), 0, 600), **changes).record
    far = trained(tmp_path / "far", shifted(make_table(), 1.7e9, 600), **changes).record
    rounding = 128 / 12**0.5
    limit = 1.2 * np.hypot(near.metrics["test"]["rmse"], rounding)
    assert near.metrics["test"]["rmse"] < 100
    assert far.metrics["test"]["rmse"] < limit
    assert near.baselines["linear"] == pytest.approx(far.baselines["linear"], rel=1e-3)
    nearest = "target 'price €': float32 rounds answers near 1,[0-9,]+ to the nearest 128, and "
    assert [True, True] == [bool(re.match(nearest, note)) for note in far.notes[2:4]]
    assert not [note for note in near.notes if "rounds answers" in note]


def test_limit_on_baseline_rows_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the baselines are fitted to fewer rows than the network, the notes give both numbers."""
    monkeypatch.setattr("model.metrics.MAX_BASELINE_ROWS", 50)
    record = trained(tmp_path, make_table()).record
    assert "the baselines are fitted to 50 of the 64 training rows" == record.notes[-1]


@pytest.mark.parametrize("rare", [3, 4])
@pytest.mark.parametrize(("classes", "rows"), [(2, 14), (3, 21), (10, 70)])
def test_small_tables_have_every_class_in_every_part(
    tmp_path: Path, classes: int, rows: int, rare: int
) -> None:
    """A table of the smallest size, in which all classes but one are rare, can be trained."""
    labels = np.repeat(np.arange(classes), [rows - rare * (classes - 1), *[rare] * (classes - 1)])
    frame = pl.DataFrame({"x": np.arange(rows) / 7, "y": [f"c{i}" for i in labels]})
    frame.write_csv(tmp_path / "t.csv")
    table = load_table(str(tmp_path / "t.csv"), targets=["y"])
    for indices in split(table, CONFIG.seed).values():
        assert set(range(classes)) == set(table.y[indices].tolist())
    record = trained(tmp_path, table, epochs=1).record
    assert {"train", "validation", "test"} == record.metrics.keys()


# Checkpoints


@pytest.mark.parametrize("request_", [TrainRequest(source="t"), None], ids=["request", "none"])
def test_checkpoint_exists_only_during_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: TrainRequest | None
) -> None:
    """With an interval of 0 and a request, each chunk is saved; the fit removes the file last."""
    saved_epochs = []

    def look(state: FitState) -> None:
        paths = tmp_path.rglob("resume-*")
        saved_epochs.append([len(load_checkpoint(path).history) for path in paths])

    watch_epochs(monkeypatch, look)
    options: dict[str, Any] = {"request": request_, "checkpoint_seconds": 0}
    path = train(make_table(), CONFIG, CPU, tmp_path, Console(quiet=True), **options)
    assert [[number] if request_ else [] for number in range(8)] == saved_epochs
    assert [path] == list((tmp_path / "t").iterdir())


def test_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resuming from the last epoch gives the same run, with the checkpoint's number of threads."""
    table = make_table()
    writer = CheckpointWriter(tmp_path, table, TrainRequest(source="t"), CONFIG, 3, 0.0)
    with monkeypatch.context() as patch:
        watch_epochs(patch, writer.save)
        whole = trained(tmp_path, table)
    checkpoint = load_checkpoint(writer.path)
    assert 8 == len(checkpoint.history)
    console = Console(quiet=True)
    resumed = load_run(train(table, CONFIG, CPU, tmp_path / "2", console, checkpoint=checkpoint))
    assert whole.content == resumed.content
    expected = dataclasses.replace(whole.record, threads=3, created=resumed.record.created)
    assert expected == resumed.record


# Settings of the program


def global_settings() -> list[Any]:
    """Return the settings of torch that a fit could change."""
    return [
        torch.get_num_threads(),
        torch.initial_seed(),
        torch.get_rng_state().tolist(),
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        float(torch.tensor(1e-39) + 0),  # 0 if subnormal numbers are flushed
    ]


@pytest.mark.parametrize("learning_rate", [1e-2, 1e30], ids=["complete", "diverged"])
def test_program_keeps_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, learning_rate: float
) -> None:
    """A fit computes in float32; torch's settings are as before, also after loading the run."""
    inside = []
    watch_epochs(monkeypatch, lambda state: inside.append(global_settings()[3:5]))
    with float32_arithmetic(2):  # restores what the test changes
        torch.set_float32_matmul_precision("high")
        before = global_settings()
        with contextlib.suppress(Diverged, DataError):
            trained(tmp_path, make_table(), learning_rate=learning_rate)
        assert before == global_settings()
    assert {("highest", False)} >= {tuple(settings) for settings in inside}
    assert len(inside) == (8 if learning_rate < 1 else 0)


# Output


def test_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log has plain lines of warnings, epochs, the best epoch, the metrics and a comparison."""
    monkeypatch.setattr("model.fit.progress.LOG_INTERVAL_SECONDS", 0)
    log = io.StringIO()
    train(make_table(), CONFIG, CPU, tmp_path, Console(file=log, width=200))
    assert "\x1b" not in log.getvalue()
    warning, *epochs, best, header, train_row, validation, test, mean, linear, beaten = (
        log.getvalue().splitlines()
    )
    assert "warning: 1 constant column, which the network ignores ('constant')" == warning
    for number, line in zip(range(1, 9), epochs, strict=True):
        assert line.startswith(f"epoch {number} of 8, validation loss ")
    assert best.startswith("best epoch ")
    rows = [row.split()[0] for row in (header, train_row, validation, test, mean, linear)]
    assert ["r2", "train", "validation", "test", "mean", "linear"] == rows
    sentence = "warning: the network does not beat the linear baseline on the test rows: r2 0."
    assert beaten.startswith(sentence)


def test_terminal(tmp_path: Path) -> None:
    """A terminal shows a progress bar with the validation loss."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    train(make_table(), CONFIG, CPU, tmp_path, console)
    assert re.search("\x1b.*8/8.*validation loss", screen.getvalue(), re.DOTALL)
