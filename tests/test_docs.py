"""The documented commands run, and the lists and tables in the documentation are complete."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import click
import pytest

from export.__main__ import main as export
from model.__main__ import main as model
from service.__main__ import main as service
from service.artifact.manifest import SUMS, Feature, Manifest
from service.artifact.onnx_scan import MAX_FIELDS, OPERATORS
from service.artifact.storage import FILES, MAX_FILE_BYTES, MAX_SUMS_BYTES, MEGABYTE
from service.artifact.strict_json import MAX_DEPTH
from service.artifact.weights import MAX_HEADER_BYTES
from service.settings import ServiceSettings
from service.web.app import create_app
from tests.serving import ROOT, free_port, granian, serving
from tests.stored import StoredArtifact

DOCS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
NEEDS_VENV = pytest.mark.skipif(
    not (ROOT / ".venv" / ".train").exists(), reason="the commands need the .venv that make creates"
)


def code_blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Return the commands of the console blocks, each with the lines that it should print."""
    parts = [part for block in code_blocks(text, "console") for part in block.split("$ ")[1:]]
    lines = [part.splitlines() for part in parts]
    return [(command, [line for line in output if line]) for command, *output in lines]


def mask(line: str) -> str:
    """Replace the numbers and digests of a line, which differ between machines, by #."""
    return " ".join(re.sub(r"[0-9a-f]{64}|\d+(\.\d+)?(e-?\d+)?", "#", line).split())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout that shares only the virtual environment."""
    for name in ("model", "export", "service", "tabular", "cli"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "README.md", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
        os.utime(tmp_path / name, (0, 0))  # older than .venv, or make would install again
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path


def environment() -> Mapping[str, str]:
    """Return the environment without make's variables, because make may run these tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}


def run(command: str, folder: Path, port: int) -> str:
    """Run a documented command against the server on a port; return its standard output."""
    command = command.replace("8000", str(port))
    completed = subprocess.run(  # noqa: S602 # a command of our own documentation
        command, shell=True, cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert 0 == completed.returncode, completed.stderr
    return completed.stdout


def outside_make(checkout: Path, command: str) -> list[str]:
    """Return the command line that runs a command in a checkout, without make's variables."""
    script = f"cd {shlex.quote(str(checkout))} && {command}"
    return ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "sh", "-c", script]


@pytest.mark.e2e
@NEEDS_VENV
def test_first_screen(checkout: Path) -> None:
    """`make train export serve` and then curl print the lines that the README shows."""
    (command, output), (curl, reply_lines) = commands(README)[:2]
    port = free_port()
    tee = outside_make(checkout, f"{command} | tee output")
    with serving(tee, port, {"TWOLAYERNET_PORT": str(port)}):
        reply = run(curl, checkout, port)
        lines = (checkout / "output").read_text().splitlines()
    # On a slow machine, training also prints progress.
    actual = [mask(line) for line in lines if not line.startswith("epoch ")]
    assert [mask(line) for line in output if not line.startswith("INFO")] == actual
    assert [mask(line) for line in reply_lines] == [mask(reply)]


@pytest.mark.e2e
@pytest.mark.slow
@NEEDS_VENV
def test_getting_started(checkout: Path) -> None:
    """The commands of docs/getting-started.md work, from creating a table to predictions."""
    text = DOCS["getting-started.md"]
    (program,), (settings,) = code_blocks(text, "python"), code_blocks(text, "toml")
    subprocess.run([sys.executable, "-c", program], cwd=checkout, check=True)
    (checkout / "fit.toml").write_text(settings)
    port = free_port()
    steps = [command for command, _ in commands(text)][2:]
    serve = next(step for step in steps if step.startswith("make serve"))
    before, after = steps[: steps.index(serve)], steps[steps.index(serve) + 1 :]
    for step in before:
        run(step, checkout, port)
    with serving(outside_make(checkout, serve), port, {"TWOLAYERNET_PORT": str(port)}):
        for step in after:
            run(step, checkout, port)
    assert 501 == len((checkout / "predictions.csv").read_text().splitlines())


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """Serve digits for docs/http.md; yield the folder that contains artifacts/, and the port."""
    folder, port = tmp_path_factory.mktemp("digits"), free_port()
    runs, artifacts = f"--runs={folder / 'runs'}", f"--artifacts={folder / 'artifacts'}"
    model(["train", "--epochs=2", "--hidden=16", runs], standalone_mode=False)
    export(["build", runs, artifacts], standalone_mode=False)
    with serving(granian(folder / "artifacts" / "digits", port), port):
        yield folder, port


@pytest.mark.e2e
def test_http_commands(digits: tuple[Path, int]) -> None:
    """Every command of docs/http.md prints the lines on that page, except for the numbers."""
    for command, expected in commands(DOCS["http.md"]):
        lines = run(command, *digits).splitlines()
        assert [mask(line) for line in expected] == [mask(line) for line in lines], command


@pytest.mark.e2e
def test_http_client(digits: tuple[Path, int]) -> None:
    """The example for Triton's client prints two labels (`make test-clients` tests KServe's)."""
    (code,) = [code for code in code_blocks(DOCS["http.md"], "python") if "tritonclient" in code]
    code = code.replace(":8000", f":{digits[1]}")
    command = [sys.executable, "-W", "error", "-c", code]
    completed = subprocess.run(command, capture_output=True, text=True)
    assert re.fullmatch(r"\[\d \d\]\n", completed.stdout), completed.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("document", ["README.md", "embedding.md"])
def test_python_examples(digits: tuple[Path, int], document: str) -> None:
    """The Python examples in the documents run without an error and print output."""
    text = README if document == "README.md" else DOCS[document]
    for code in code_blocks(text, "python"):
        command = [sys.executable, "-c", code]
        path = {**os.environ, "PYTHONPATH": str(ROOT)}
        result = subprocess.run(command, cwd=digits[0], env=path, capture_output=True, text=True)
        assert (0, True) == (result.returncode, bool(result.stdout)), result.stderr


def options_of(group: click.Group, name: str) -> list[str]:
    """Return the option names of a command; make_context() imports the command's module."""
    command = group.make_context(group.name or "", [name, "--help"], resilient_parsing=True)
    context = group.commands[name].make_context(name, [], parent=command, resilient_parsing=True)
    return [
        option
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    ]


@pytest.mark.parametrize("document", ["README.md", *sorted(DOCS)])
def test_commands_exist(document: str) -> None:
    """Every make target, command and option in a console block exists."""
    targets = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    groups = {"model": model, "export": export, "service": service}
    for command, _ in commands(README if document == "README.md" else DOCS[document]):
        program, *words = shlex.split(command)
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, command
        elif program.endswith("python") and words[:1] == ["-m"] and words[1] in groups:
            options = set(options_of(groups[words[1]], words[2]))
            assert {word for word in words if word.startswith("--")} <= options, command


def test_make_targets_are_documented() -> None:
    """CONTRIBUTING.md lists every target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE)) - {"help"}
    assert targets == set(re.findall(r"^\| `make ([a-z-]+)`", CONTRIBUTING, re.MULTILINE))


def test_file_tree_is_complete() -> None:
    """The tree of docs/architecture.md names every source file, and every name in it exists."""
    tree = re.search(r"## Files\n\n```\n(.*?)```", DOCS["architecture.md"], re.DOTALL)
    assert tree is not None
    folders: list[str] = []
    names = set()
    for line in filter(None, tree[1].splitlines()):
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        names.add("".join(folders[:depth]) + name)
        if name.endswith("/"):
            folders[depth:] = [name]
    assert [] == [name for name in sorted(names) if not (ROOT / name).exists()]
    sources = {
        str(path.relative_to(ROOT))
        for package in ("model", "export", "service", "tabular", "cli")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".html") and path.name != "__init__.py"
    }
    assert set() == sources - names


def test_files_named_in_the_docs_exist() -> None:
    """Every path that a document names in backticks, below a folder of the project, exists."""
    pattern = r"`((?:model|export|service|tabular|cli|bench|tests|docs|deploy)/[\w./-]+)`"
    for name, text in {**DOCS, "README.md": README, "CONTRIBUTING.md": CONTRIBUTING}.items():
        missing = [path for path in re.findall(pattern, text) if not (ROOT / path).exists()]
        assert [] == missing, name


def test_every_option_of_check_is_documented() -> None:
    """docs/operations.md lists the options and exit codes of `check` and `verify`."""
    text = " ".join(DOCS["operations.md"].split())
    for group, name in ((service, "check"), (export, "verify")):
        assert [] == [option for option in options_of(group, name) if option not in text]
    assert "Exit code 0: the artifact passed; 1: it failed; 2: it does not exist" in text


def test_every_route_is_documented(flowers: StoredArtifact) -> None:
    """docs/http.md lists each route of the application."""
    text = DOCS["http.md"]
    for rule in create_app(ServiceSettings(artifact=flowers.artifact)).url_map.iter_rules():
        path = rule.rule.replace("<model>", "M").replace("<version>", "V")
        assert f"`{path}`" in text or f"POST {path}" in text, path


def test_the_artifact_is_documented() -> None:
    """docs/artifact.md lists every file, operator, field and limit."""
    text = DOCS["artifact.md"]
    assert [] == [name for name in (*FILES, SUMS) if f"        {name}" not in text]
    for name, limit in MAX_FILE_BYTES.items():
        row = rf"^\| `{re.escape(name)}` \| {limit // MEGABYTE} "
        assert re.search(row, text, re.MULTILINE), name
    names = [field.name for kind in (Manifest, Feature) for field in fields(kind)]
    assert [] == [name for name in (*OPERATORS, *names) if f"`{name}`" not in text]
    for limit in (MAX_DEPTH, MAX_FIELDS, MAX_HEADER_BYTES, MAX_SUMS_BYTES):
        assert f"{limit:,}" in text, limit
