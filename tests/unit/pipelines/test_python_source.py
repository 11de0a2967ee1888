"""A torch module by entry point: its file and its weights side by side."""

import json
from pathlib import Path

import pytest
from loopback import digest, safetensors

from pipelines.errors import SourceError
from pipelines.fields.source import PathSource, PythonSource
from pipelines.progress import Silent
from pipelines.sources import Fetched, fetch

MODULE = "def build():\n    ...\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "model.py").write_text(MODULE)
    (tmp_path / "weights.safetensors").write_bytes(safetensors())
    (tmp_path / "into").mkdir()
    return tmp_path


def test_module_and_weights_lie_side_by_side_and_model_json_names_them(base: Path) -> None:
    source = PythonSource(
        python="net/model.py:build", weights=PathSource(path=Path("weights.safetensors")), licence="MIT"
    )

    found = fetch(source, base / "into", base, Silent())

    facts = {"origin": "net/model.py:build", "sha256": digest(safetensors()), "weights": "weights.safetensors"}
    assert found == Fetched(kind="torch", facts={**facts, "licence": "MIT"})
    assert (base / "into" / "model.py").read_text() == MODULE
    assert json.loads((base / "into" / "model.json").read_text()) == {
        "entry": "model.py:build",
        "weights": "weights.safetensors",
    }


def test_importable_module_needs_no_file_and_no_weights(base: Path) -> None:
    assert fetch(PythonSource(python="package.module:build"), base / "into", base, Silent()).facts == {
        "origin": "package.module:build"
    }
    assert [path.name for path in (base / "into").iterdir()] == ["model.json"]


def test_weights_of_another_digest_are_refused(base: Path) -> None:
    weights = PathSource(path=Path("weights.safetensors"), sha256="0" * 64)
    source = PythonSource(python="net/model.py:build", weights=weights)

    with pytest.raises(SourceError) as caught:
        fetch(source, base / "into", base, Silent())
    assert "sha256" in caught.value.message
    assert list((base / "into").iterdir()) == []
