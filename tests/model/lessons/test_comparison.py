"""model.comparison: `python -m model formulations`, from its table to its curves."""

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from model.__main__ import main
from model.lessons import comparison
from model.lessons.comparison import Trial, run
from model.lessons.formulations import FORMS, Manual, reference


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def formulations(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, ["formulations", *arguments], catch_exceptions=False)


def test_command(folder: Path) -> None:
    """The primer, a few lines of a log, a row for each form within 80 columns, and a PNG: nothing else is written."""
    result = formulations("--steps", "25")
    assert 0 == result.exit_code, result.output
    lines = result.output.splitlines()
    expected = "primer: y = w x + b = 5 at x=1, w=2, b=3; y.backward() leaves dx=2, dw=1, db=1, and none at y"
    assert expected == lines[0]
    logged = [line.split(",")[0] for line in lines if line.startswith("step ")]
    assert ["step 10 of 25", "step 20 of 25", "step 25 of 25"] == logged
    header = next(index for index, line in enumerate(lines) if line.startswith("form "))
    rows = lines[header + 1 : header + 1 + len(FORMS)]
    assert max(map(len, rows)) <= 80
    for form, row in zip(FORMS, rows, strict=True):
        pattern = rf"{form.name} +{form.by_hand} +1e-0[36] +(\S+) +(\S+) +\d+ +(oracle|\S+)"
        found = re.fullmatch(pattern, row)
        assert found, row
        assert float(found[2]) < 0.5 * float(found[1])
        assert ("oracle" == found[3]) == form.name.startswith("numpy")
        assert "oracle" == found[3] or 0 < float(found[3]) < 1e-4
    assert "formulations.png: loss curves" == lines[-1]
    assert [folder / "formulations.png"] == list(folder.iterdir())
    assert Path("formulations.png").read_bytes().startswith(b"\x89PNG")


def test_forms_take_turns_on_a_terminal() -> None:
    """There is a bar for each, and they advance together: no form is a turn ahead of the first."""
    screen = io.StringIO()
    trials = run(25, 0, Console(file=screen, force_terminal=True, width=120))
    assert [25] * len(FORMS) == [len(trial.losses) for trial in trials]
    for form in FORMS:
        assert re.search(rf"{form.name} .*25/25.*loss", screen.getvalue())
    assert "step 10" not in screen.getvalue()


class Wrong(Manual):
    """Manual with a gradient that is 1 % too large."""

    def step(self) -> float:
        """Take a step, and report it wrongly."""
        loss = super().step()
        self.gradients = {**self.gradients, "w2": 1.01 * self.gradients["w2"]}
        return loss


def test_wrong_gradient_is_seen() -> None:
    """The error is relative to the gradient's largest element, whatever the loss."""
    setup = reference(Manual, 0)
    right, wrong = Trial(Manual(setup), setup), Trial(Wrong(setup), setup)
    for trial in (right, wrong):
        trial.advance(3)
    assert right.error < 1e-5
    assert pytest.approx(0.01, rel=1e-3) == wrong.error
    assert 3 == len(wrong.losses)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--steps 0", "steps: expected at least 1, found 0"),
        ("--seed -1", "seed: expected 0 to 2**32 - 1, found -1"),
        ("--seed 4294967296", "seed: expected 0 to 2**32 - 1, found 4294967296"),
        ("--plot missing/a.png", "missing/a.png: No such file or directory"),
        ("--plot .", ".: Is a directory"),
        ("--plot file/a.png", "file/a.png: Not a directory"),
        (f"--plot {'a' * 300}", f"{'a' * 300}: File name too long"),
    ],
)
def test_bad_options(folder: Path, arguments: str, expected: str) -> None:
    """One line and exit code 2, before any work; nothing is written."""
    Path("file").touch()
    result = formulations(*arguments.split())
    assert (2, f"Error: {expected}\n") == (result.exit_code, result.output)
    assert [folder / "file"] == list(folder.iterdir())


def test_interruption_leaves_the_old_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle ends in one line and exit code 130; the file that was there is as it was."""
    Path("formulations.png").write_bytes(b"old")

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "run", interrupt)
    result = formulations()
    assert 130 == result.exit_code
    assert result.output.splitlines()[-1].startswith("Error: interrupted; nothing")
    assert b"old" == Path("formulations.png").read_bytes()
