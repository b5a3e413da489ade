"""Tests of service.web.context: the rules for the versions that an application serves."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.artifact import manifest
from service.observe.metrics import RELOADS, WorkerMetrics
from service.runtime.served_schema import ServedSchema
from service.settings import ServiceSettings
from service.web.context import ServiceContext, load_context


@contextlib.contextmanager
def loaded(
    settings: ServiceSettings, schema: ServedSchema | None = None
) -> Iterator[ServiceContext]:
    """Yield the context of a new worker, and stop its polling at the end."""
    context = load_context(settings, WorkerMetrics(), schema or ServedSchema())
    with contextlib.closing(context.versions):
        yield context


@pytest.mark.parametrize("is_allowed", [False, True])
def test_schema_change(artifact: Path, add_version: Callable[..., Path], is_allowed: bool) -> None:
    """Reordered features are refused, also by a new worker, unless the change is allowed."""
    settings = ServiceSettings(artifact=artifact.parent, allow_schema_change=is_allowed)
    schema = ServedSchema()
    with loaded(settings, schema) as old:
        features = json.loads((artifact / manifest.MANIFEST).read_bytes())["features"]
        problem = f"{add_version(2, features=features[::-1])}: manifest.json: features: expected"
        old.versions.poll()
        with loaded(settings, schema) as new:
            for context in (old, new):
                version = context.versions.current.predictor.manifest.version
                assert (2 if is_allowed else 1) == version
                assert is_allowed == (problem not in (context.versions.state.problem or ""))
        reloads = old.metrics.shared.row(0)[RELOADS : RELOADS + 2].tolist()
        assert ([2, 0] if is_allowed else [1, 1]) == reloads


def test_choice_of_an_artifact(artifact: Path) -> None:
    """Several artifacts make the service not ready until one is left."""
    roses = shutil.copytree(artifact.parent, artifact.parent.parent / "roses")
    with loaded(ServiceSettings(artifacts=artifact.parent.parent)) as context:
        problem = context.versions.state.problem
        assert "expected one artifact, found 'flowers', 'roses'; choose one" in (problem or "")
        shutil.rmtree(roses)
        context.versions.poll()
        assert artifact == context.versions.current.predictor.path


def test_version_in_the_folder_of_another(artifact: Path) -> None:
    """A version in the folder of another version is skipped."""
    shutil.copytree(artifact, artifact.parent / "2")
    with loaded(ServiceSettings(artifact=artifact.parent)) as context:
        assert artifact == context.versions.current.predictor.path
        problem = "manifest.json: expected version 2, the name of the folder, found 1"
        assert f"{artifact.parent / '2'}: {problem}" == context.versions.state.problem
