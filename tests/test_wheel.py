"""The wheel contains every module and file that the commands need."""

import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from tests.serving import ROOT
from tests.stored import FLOWERS

WHEEL_TEST = """
import sys
sys.path[:0] = sys.argv[1:3]  # -S hides the editable install of the checkout
import cli, export, model, service, tabular
for package in (cli, export, model, service, tabular):
    assert package.__file__.startswith(sys.argv[1]), package
import importlib, pkgutil
for package in (cli, export, model, service, tabular):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from service.settings import ServiceSettings
from service.web.app import create_app
from pathlib import Path
client = create_app(ServiceSettings(artifact=Path(sys.argv[3]))).test_client()
for path in ("/", "/docs"):
    assert client.get(path, headers={"Accept": "text/html"}).status_code == 200
sys.argv = ["twolayernet", "check", sys.argv[3]]
from cli.twolayernet import main
main()
"""


@pytest.mark.slow
def test_wheel_without_the_sources(tmp_path: Path) -> None:
    """Every module imports, the pages render, and the console script runs a command."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "."]
    subprocess.run([*build, str(ROOT)], cwd=tmp_path, check=True)
    (wheel,) = tmp_path.glob("twolayernet-*.whl")
    site = tmp_path / "site"
    install = [*pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True)
    packages = Path(numpy.__file__).parent.parent
    completed = subprocess.run(
        [sys.executable, "-S", "-c", WHEEL_TEST, str(site), str(packages), str(FLOWERS.artifact)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert 0 == completed.returncode, completed.stderr
