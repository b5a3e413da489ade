"""Tests of service.runtime.check: the checks that `check` adds to those made by loading."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.__main__ import main
from service.artifact import manifest
from service.artifact.manifest import ArtifactError
from service.runtime.check import check_artifact
from service.runtime.predictor import Predictor


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (manifest.CURVES, b"GIF89a", "curves.png: expected a PNG file, found b'GIF89a'"),
        (manifest.WEIGHTS, b"", "weights.safetensors: declares a header of 0 bytes"),
        *(
            (manifest.EXAMPLE, text.encode(), f"example.json: not a valid request: {problem}")
            for text, problem in (
                ("", "Expecting value"),
                ('{"instances": [[1, 2, 3, 4]], "more": 1}', "'more' is not part of the format"),
                ('{"instances": [], "instances": []}', "duplicate key 'instances'"),
                ('{"instances": []}', "instances: expected one or more rows of 4 numbers"),
                ('{"instances": [[1, 2, 3]]}', "instances: expected one or more rows of 4 numbers"),
                ('{"instances": [[true, 2, 3, 4]]}', "instances: [0]: [0]: expected int or flo"),
                ('{"instances": [[1, 2, 3, 1e39]]}', "instances: a number overflows float32"),
                ('{"instances": [[34e37, 34e37, 34e37, -34e37]]}', "the outputs overflow float32"),
            )
        ),
    ],
)
def test_other_files_are_rejected(
    name: str, content: bytes, problem: str, artifact: Path, repack: Callable[[Path], None]
) -> None:
    """Invalid pictures, weights and examples are rejected, although loading accepts them."""
    (artifact / name).write_bytes(content)
    repack(artifact)
    Predictor(artifact)
    with pytest.raises(ArtifactError, match=rf"^{re.escape(problem)}"):
        check_artifact(artifact)


def test_weights_must_be_those_of_the_model(artifact: Path, repack: Callable[[Path], None]) -> None:
    """A single bit that differs between the weights of the two files is an error."""
    content = bytearray((artifact / manifest.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (artifact / manifest.WEIGHTS).write_bytes(content)
    repack(artifact)
    problem = r"^model\.onnx: the bits of shift differ from those in weights\.safetensors$"
    with pytest.raises(ArtifactError, match=problem):
        check_artifact(artifact)


def test_command_reports_the_problem(artifact: Path) -> None:
    """The command prints one line, or one document with --json, and exits with code 1."""
    (artifact / manifest.MODEL).unlink()
    problem = f"{artifact}: not an artifact, model.onnx is missing"
    result = CliRunner().invoke(main, ["check", str(artifact)])
    assert (1, f"Error: {problem}\n", "") == (result.exit_code, result.stderr, result.stdout)
    result = CliRunner().invoke(main, ["check", "--json", str(artifact)])
    expected = {"artifact": str(artifact), "holds": False, "digest": None, "error": problem}
    expected["notice"] = []
    assert (1, "", expected) == (result.exit_code, result.stderr, json.loads(result.stdout))
