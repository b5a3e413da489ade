"""model.lessons.comparison: the formulations command, from its table to its curves."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from model.__main__ import main
from model.lessons.comparison import FORMS, Trial, reference
from model.lessons.tensor_forms import Manual


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def formulations(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["formulations", *arguments], catch_exceptions=False)


def test_command(folder: Path) -> None:
    """It prints the primer, a log, and a row of 80 columns for each form, and writes a PNG."""
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


class Wrong(Manual):
    """Manual with a gradient that is 1 percent too large."""

    def step(self) -> float:
        """Take a step, and return a wrong gradient."""
        loss = super().step()
        self.gradients = {**self.gradients, "w2": 1.01 * self.gradients["w2"]}
        return loss


def test_wrong_gradient_is_seen() -> None:
    """The error of a trial is relative to the gradient's largest element."""
    setup = reference(Manual, 0)
    for form, expected in ((Manual(setup), 0), (Wrong(setup), 0.01)):
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
    """A bad option ends in one line and exit code 2, and nothing is written."""
    Path("file").touch()
    result = formulations(*arguments.split())
    assert (2, f"Error: {expected}\n") == (result.exit_code, result.output)
    assert [folder / "file"] == list(folder.iterdir())
