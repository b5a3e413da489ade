"""Tests of model.lessons.comparison and the formulations command."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model.__main__ import main
from model.lessons.comparison import FORMS, Trial, reference
from model.lessons.tensor_forms import Manual


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def formulations(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["formulations", *arguments], catch_exceptions=False)


def test_command(folder: Path) -> None:
    """The command prints a primer, a log and a table of 80 columns, and writes a PNG."""
    result = formulations("--steps", "25")
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    primer = "primer: y = w x + b = 5 at x=1, w=2, b=3; y.backward() stores dx=2, dw=1, db=1 "
    assert lines[0].startswith(primer)
    logged = [line.split(",")[0] for line in lines if line.startswith("step ")]
    assert ["step 10 of 25", "step 20 of 25", "step 25 of 25"] == logged
    header = next(index for index, line in enumerate(lines) if line.startswith("form "))
    rows = lines[header + 1 : header + 1 + len(FORMS)]
    assert max(map(len, rows)) <= 80
    for form, row in zip(FORMS, rows, strict=True):
        pattern = rf"{form.name} +{form.by_hand} +1e-0[36] +(\S+) +(\S+) +\d+ +(oracle|\S+)"
        cells = re.fullmatch(pattern, row)
        assert cells, row
        assert float(cells[2]) < 0.5 * float(cells[1])
        assert ("oracle" == cells[3]) == form.name.startswith("numpy")
        assert "oracle" == cells[3] or 0 < float(cells[3]) < 1e-4
    assert "formulations.png: loss curves" == lines[-1]
    assert [folder / "formulations.png"] == list(folder.iterdir())
    assert Path("formulations.png").read_bytes().startswith(b"\x89PNG")


class WrongGradient(Manual):
    """The manual form, but with the gradient of w2 reported 1 percent too large."""

    def step(self) -> float:
        """Take a step, and scale the gradient of w2 afterwards."""
        loss = super().step()
        self.gradients = {**self.gradients, "w2": 1.01 * self.gradients["w2"]}
        return loss


def test_wrong_gradient_is_reported() -> None:
    """The error of a trial is relative to the gradient's largest element."""
    setup = reference(Manual, 0)
    for form, expected in ((Manual(setup), 0), (WrongGradient(setup), 0.01)):
        trial = Trial(form, setup)
        trial.advance(3)
        assert pytest.approx(expected, rel=1e-3, abs=1e-5) == trial.error
        assert 3 == len(trial.losses)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--steps 0", "steps: expected at least 1, found 0"),
        ("--seed -1", "seed: expected 0 to 2**32 - 1, found -1"),
        ("--plot missing/a.png", "missing/a.png: No such file or directory"),
        ("--plot .", ".: Is a directory"),
        ("--plot file/a.png", "file/a.png: Not a directory"),
    ],
)
def test_bad_options(folder: Path, arguments: str, expected: str) -> None:
    """An invalid option gives a one-line error and exit code 2, and writes no file."""
    Path("file").touch()
    result = formulations(*arguments.split())
    assert (2, f"Error: {expected}\n") == (result.exit_code, result.output)
    assert [folder / "file"] == list(folder.iterdir())
