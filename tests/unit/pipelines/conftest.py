from pathlib import Path

import pytest

from configs import Folder
from pipelines.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """With a right config and the model that it names."""
    return Folder(tmp_path)
