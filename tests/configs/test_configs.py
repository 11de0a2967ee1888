"""What every file under configs/ keeps to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipelines import plan
from pipelines.checking.metrics import quality_budgets
from pipelines.config import LoadedConfig
from pipelines.fields.data import HfData, PackageData, PathData
from pipelines.fields.source import HfSource, PackageFolder, PackageSource, PythonSource, UrlSource
from pipelines.parsing import parse
from pipelines.schema import config_schema
from stages.base import ROOT

CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SCHEMA = Draft202012Validator(config_schema())
LINES = 45
pytestmark = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT / "configs")))


def texts(loaded: LoadedConfig) -> Iterator[Any]:
    config = loaded.config
    yield from (config.data.evaluation, config.data.calibration)
    yield from (task.data for task in config.evaluation.tasks.values())


def test_it_parses_and_plans(path: Path) -> None:
    loaded = parse(path)
    planned = plan.check(loaded)

    assert planned.gated
    assert loaded.config.budgets
    assert quality_budgets(loaded.config)


def test_it_is_right_by_the_schema_that_editors_use(path: Path) -> None:
    assert [error.message for error in SCHEMA.iter_errors(yaml.safe_load(path.read_text()))] == []


def test_it_opens_with_its_purpose_and_the_command_that_launches_it(path: Path) -> None:
    purpose, launch, *_ = path.read_text(encoding="utf-8").splitlines()

    assert purpose.startswith("# ")
    assert purpose.endswith(".")
    assert len(purpose.split()) > 5
    verb = "run" if "\nsearch:" not in path.read_text(encoding="utf-8") else "search"
    assert launch.partition("   ")[0] == f"# tapeout {verb} {path.relative_to(ROOT)}"


def test_it_fits_a_screen(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES


def test_it_stands_under_its_model_and_names_a_target(path: Path) -> None:
    model, *_, file = path.relative_to(ROOT / "configs").parts
    config = parse(path).config

    assert config.name.startswith(model)
    targets = {step.name for step in config.steps} | {Path(file).stem.partition("_")[0]}
    assert any(part.startswith(tuple(targets)) for part in path.relative_to(ROOT / "configs" / model).parts)


def test_what_it_fetches_is_pinned(path: Path) -> None:
    loaded = parse(path)
    source = loaded.config.source
    if isinstance(source, PythonSource):
        assert source.weights or any(type(step.stage).trains for step in loaded.config.steps)
        source = source.weights

    if source is not None:
        assert isinstance(source, PackageSource | PackageFolder | HfSource | UrlSource), (
            "a path of one machine is on no other"
        )
        assert len(source.revision) == 40 if isinstance(source, HfSource) else source.sha256
    for data in texts(loaded):
        assert not isinstance(data, PathData)
        if isinstance(data, HfData | PackageData):
            assert data.sha256


def test_its_name_is_its_own(path: Path) -> None:
    name = parse(path).config.name

    assert [other for other in CONFIGS if parse(other).config.name == name] == [path]
