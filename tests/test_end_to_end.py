"""All commands in turn, from a CSV file to predictions over HTTP."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from export.proof.bound import reference
from model.run import load_run, net_from_weights
from tests.serving import ROOT, free_port, granian, serving
from tests.tables import write_flowers, write_houses

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("write", "options", "features"),
    [
        (
            write_flowers,
            ["--target", "species", "--drop", "id"],
            ["petal, length", "sepal width", "größe", "year"],
        ),
        (write_houses, ["--target", "price €", "--seed", "3"], ["size m²", "age", "constant"]),
    ],
    ids=["classification", "regression"],
)
def test_csv_to_prediction(
    write: Callable[[Path], Path], options: list[str], features: list[str], tmp_path: Path
) -> None:
    """Predictions over HTTP equal those of the PyTorch network, within the derived bound."""
    csv = write(tmp_path / "Meine Daten.csv")

    def run(*command: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", *command], cwd=tmp_path, env=environment, check=True)

    run("model", "train", "--data", str(csv), *options, "--epochs", "20")
    run("export", "build")
    trained = load_run(tmp_path / "runs" / "meine-daten" / "1")
    frame = pl.read_csv(csv, separator=";" if csv.read_bytes().startswith(b"\xef\xbb\xbf") else ",")
    rows = frame.select(features).to_numpy().astype(np.float32)
    expected = reference(trained.weights, rows)
    with torch.no_grad():
        eager = net_from_weights(trained.weights)(torch.from_numpy(rows))

    port = free_port()
    with serving(granian(tmp_path / "artifacts" / "meine-daten", port), port) as server:
        records = [
            dict(zip(features, row, strict=True)) for row in rows.astype(np.float64).tolist()
        ]
        body = json.dumps({"instances": records})
        status, reply = server.request(
            "POST", "/predict", body, **{"Content-Type": "application/json"}
        )
    assert 200 == status
    if isinstance(eager, tuple):
        served, name = np.array(reply["probabilities"]), "probabilities"
        predictions = eager[1].numpy()
        labels = [reply["classes"].index(label) for label in reply["predictions"]]
        assert expected.accepted is not None
        assert expected.accepted[np.arange(len(rows)), labels].all()
    else:
        served, name = np.array(reply["predictions"]), "output"
        predictions = eager.numpy()
    bound = expected.bounds[name]
    assert (np.abs(served.astype(np.float32) - expected.values[name]) <= bound).all()
    assert (np.abs(served.astype(np.float32).astype(np.float64) - predictions) <= 2 * bound).all()
