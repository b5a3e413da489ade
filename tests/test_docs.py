"""The documentation is true: its commands run, its file tree and its tables are complete."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
import torch
from rich.console import Console

from export import bundle
from export.__main__ import main as export
from model.config import TrainConfig
from model.run import load_run
from model.table import load
from model.training import train
from service.__main__ import main as service
from service.artifact.manifest import SUMS, Feature, Manifest
from service.artifact.onnx_scan import MAX_FIELDS, OPERATORS
from service.artifact.storage import FILES, MAX_FILE_BYTES, MAX_SUMS_BYTES, MEGABYTE
from service.artifact.strict_json import MAX_DEPTH
from service.artifact.weights import MAX_HEADER_BYTES
from service.settings import ServiceSettings
from service.web.app import create_app
from tests.conftest import Made
from tests.serving import ROOT, free_port, granian, serving

README = (ROOT / "README.md").read_text()
HTTP = (ROOT / "docs" / "http.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Return the console blocks of a document: each command, and the lines it is said to print."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, *output = part.splitlines()
            found.append((command, [line for line in output if line]))
    return found


def masked(line: str) -> str:
    """Return a line with its numbers and digests blanked: they differ from machine to machine."""
    return " ".join(re.sub(r"[0-9a-f]{64}|\d+(\.\d+)?(e-?\d+)?", "#", line).split())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout that shares only the installed environment."""
    for name in ("model", "export", "service"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "README.md", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (0, 0))  # older than .venv: make must find nothing to install
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


@pytest.mark.e2e
@pytest.mark.skipif(
    not (ROOT / ".venv" / ".train").exists(), reason="the commands need the .venv that make makes"
)
def test_first_screen(checkout: Path) -> None:
    """`make train export serve`, then curl, print what the README shows."""
    (command, printed), (curl, answer) = blocks(README)[:2]
    port = free_port()
    script = f"cd {shlex.quote(str(checkout))} && {command} | tee output"
    outermost = [
        "env",
        "-u",
        "MAKEFLAGS",
        "-u",
        "MAKELEVEL",
    ]  # the tests may themselves be run by make
    with serving([*outermost, "sh", "-c", script], port, {"TWOLAYERNET_PORT": str(port)}):
        asked = subprocess.run(
            shlex.split(curl.replace("8000", str(port))),
            cwd=checkout,
            capture_output=True,
            text=True,
            check=True,
        )
        lines = (checkout / "output").read_text().splitlines()
        shown = [
            masked(line) for line in lines if not line.startswith("epoch ")
        ]  # a slow machine says how it goes
    expected = [masked(line) for line in printed if not line.startswith("INFO")]
    assert expected == shown
    assert [masked(line) for line in answer] == [masked(asked.stdout)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A server of the digits, as docs/http.md has one: the folder that holds artifacts/, and the port."""
    folder, port = tmp_path_factory.mktemp("digits"), free_port()
    config = TrainConfig(hidden_features=16, epochs=2)
    trained = train(
        load.load_table("digits"), config, torch.device("cpu"), folder / "runs", Console(quiet=True)
    )
    published = bundle.build(load_run(trained), folder / "artifacts").path
    with serving(granian(published, port), port):
        yield folder, port


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("command", "printed"), blocks(HTTP), ids=[command[:60] for command, _ in blocks(HTTP)]
)
def test_http_commands(digits: tuple[Path, int], command: str, printed: list[str]) -> None:
    """Every command of docs/http.md is answered as it says, but for the numbers."""
    folder, port = digits
    command = command.replace(":8000", f":{port}")
    asked = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=True
    )  # noqa: S602
    assert [masked(line) for line in printed] == [
        masked(line) for line in asked.stdout.splitlines()
    ]


@pytest.mark.e2e
def test_http_client(digits: tuple[Path, int]) -> None:
    """Triton's client, as docs/http.md shows it, prints two labels; KServe's runs in `make test-clients`."""
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", HTTP, re.DOTALL)
        if "tritonclient" in block
    ]
    code = code.replace(":8000", f":{digits[1]}")
    asked = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert re.fullmatch(r"\[\d \d\]\n", asked.stdout), asked.stderr


def test_other_commands_exist() -> None:
    """Every other command of the README names a target, a command or a file that is there."""
    targets = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    rooms = {"service": service, "export": export}
    for command, _ in blocks(README)[2:]:
        program, *arguments = shlex.split(command)
        if program == "make":
            assert {word for word in arguments if "=" not in word} <= set(targets), command
        elif program == "python":
            _, module, name, *rest = arguments
            assert name in rooms[module].commands, command
            options = [
                option
                for parameter in rooms[module].commands[name].params
                for option in parameter.opts
            ]
            assert {word for word in rest if word.startswith("--")} <= set(options), command
        else:
            assert ("docker", True) == (program, (ROOT / "Dockerfile").exists()), command


def test_file_tree_is_complete() -> None:
    """Every file of the rooms is in the README's tree, and every file of the tree is there."""
    tree = re.search(r"## Where things are\n\n(.*)\Z", README, re.DOTALL)
    assert tree is not None
    stated, room = set(), ""
    for line in tree[1].splitlines():
        name = line.split()[0]
        if line.startswith("    " + name) and not line.startswith("     "):
            room = name if name.endswith("/") else ""
            stated.add(name.rstrip("/"))
        else:
            stated.add(room + name)
    assert [] == [path for path in stated if not (ROOT / path).exists()]
    there = {
        str(path.relative_to(ROOT))
        for room in ("model", "export", "service", "bench")
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".html") and path.name != "__init__.py"
    }
    assert set() == there - stated


def test_every_option_of_check_is_documented() -> None:
    """The options and the exit codes of `service check` and `export verify` stand in docs/operations.md."""
    for command in (service.commands["check"], export.commands["verify"]):
        for parameter in command.params:
            assert isinstance(parameter, click.Argument) or parameter.opts[0] in OPERATIONS
    assert "Exit code 0: it holds; 1: it does not; 2: there is no artifact" in OPERATIONS


def test_every_route_is_documented(flowers: Made) -> None:
    """Each route of the application stands in docs/http.md."""
    for rule in create_app(ServiceSettings(artifact=flowers.artifact)).url_map.iter_rules():
        path = rule.rule.replace("<model>", "M").replace("<version>", "V")
        assert f"`{path}`" in HTTP or f"POST {path}" in HTTP, path


def test_every_file_of_the_artifact_is_documented() -> None:
    """Each file that an artifact must hold stands in docs/artifact.md."""
    text = (ROOT / "docs" / "artifact.md").read_text()
    assert [] == [name for name in (*FILES, SUMS) if f"        {name}" not in text]
    for name, limit in MAX_FILE_BYTES.items():
        assert re.search(rf"^\| `{re.escape(name)}` \| {limit // MEGABYTE} ", text, re.MULTILINE), (
            name
        )


def test_every_operator_and_field_is_documented() -> None:
    """What a model.onnx may hold, and what a manifest must, stands in docs/artifact.md."""
    text = (ROOT / "docs" / "artifact.md").read_text()
    for name in (
        *OPERATORS,
        *(field.name for kind in (Manifest, Feature) for field in fields(kind)),
    ):
        assert f"`{name}`" in text, name
    for fixed in (MAX_DEPTH, MAX_FIELDS, MAX_HEADER_BYTES, MAX_SUMS_BYTES):
        assert f"{fixed:,}" in text, fixed
