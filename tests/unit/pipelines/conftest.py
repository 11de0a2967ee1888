import os
from pathlib import Path

import pytest

from configs import Folder
from pipelines.store import Store


@pytest.fixture(autouse=True)
def no_environments_of_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home of a test's own has its own; TAPEOUT_ENVS would put others in their place."""
    monkeypatch.delenv("TAPEOUT_ENVS", raising=False)


@pytest.fixture
def permissions_hold(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where they do not: root may do everything, unless that right was taken, as `make` does."""
    closed = tmp_path_factory.mktemp("permissions") / "closed"
    closed.touch(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user reads everything, whatever permissions say")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """With a right config and the model that it names."""
    return Folder(tmp_path)
