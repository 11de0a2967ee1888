from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import GGUF, Answer, Site, closed_port, site
from pydantic import TypeAdapter, ValidationError
from test_hub import COMMIT, publish

from pipelines.errors import SourceError
from pipelines.tracking.connection import connect, import_mlflow
from pipelines.watching.remote import HubFinder, MlflowFinder
from pipelines.watching.trigger import HfTrigger, MlflowTrigger, Trigger

NEXT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    from huggingface_hub import constants

    with site() as web:
        template = web.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in {"ENDPOINT": web.url, "HUGGINGFACE_CO_URL_TEMPLATE": template}.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", web.url, raising=False)
        yield web


def at(hub: Site, commit: str, content: bytes) -> None:
    """The repository as it is at this commit, which `main` now stands for."""
    publish(hub, **{"model.gguf": content})
    for path, answer in list(hub.answers.items()):
        body = answer.body.replace(COMMIT.encode(), commit.encode())
        headers = {name: value.replace(COMMIT, commit) for name, value in answer.headers.items()}
        hub.answers[path.replace(COMMIT, commit)] = Answer(body, headers=headers)


def hub_finder(tmp_path: Path) -> HubFinder:
    return HubFinder(HfTrigger(hf="some/model", every_s=0.001), tmp_path / "incoming")


def test_a_commit_behind_a_revision_is_a_checkpoint_once(hub: Site, tmp_path: Path) -> None:
    finder = hub_finder(tmp_path)
    at(hub, COMMIT, GGUF)
    (first,) = finder.look()
    time.sleep(0.002)
    assert list(finder.look()) == []

    at(hub, NEXT, GGUF + b"trained on")
    time.sleep(0.002)
    (second,) = finder.look()

    assert (first.name, second.name) == (f"some/model@{COMMIT[:12]}", f"some/model@{NEXT[:12]}")
    assert (first.path.read_bytes(), second.path.read_bytes()) == (GGUF, GGUF + b"trained on")


def test_the_same_bytes_in_another_commit_have_the_same_digest(hub: Site, tmp_path: Path) -> None:
    finder = hub_finder(tmp_path)
    at(hub, COMMIT, GGUF)
    (first,) = finder.look()
    at(hub, NEXT, GGUF)
    time.sleep(0.002)
    (second,) = finder.look()

    assert (second.digest, second.path) == (first.digest, first.path)


def test_a_hub_that_is_away_is_a_reason_and_the_next_look_finds(
    hub: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = hub_finder(tmp_path)
    at(hub, COMMIT, GGUF)
    with monkeypatch.context() as away:
        away.setattr("huggingface_hub.constants.ENDPOINT", closed_port())
        away.setattr("huggingface_hub.hf_api.ENDPOINT", closed_port(), raising=False)
        with pytest.raises(SourceError, match="the hub cannot be reached"):
            list(finder.look())
    time.sleep(0.002)

    assert len(list(finder.look())) == 1


def test_a_commit_that_could_not_be_kept_is_taken_at_the_next_look(hub: Site, tmp_path: Path) -> None:
    finder = hub_finder(tmp_path)
    at(hub, COMMIT, GGUF)
    finder.incoming.write_text("a file where the folder should be")
    with pytest.raises(SourceError, match="hf: some/model: cannot be kept: "):
        list(finder.look())
    finder.incoming.unlink()
    time.sleep(0.002)

    assert len(list(finder.look())) == 1


def test_a_name_that_would_change_the_registrys_query_is_refused() -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        TypeAdapter(Trigger).validate_python({"mlflow": "a' or name like '%"})


@pytest.mark.parametrize("file", ["../other/model.gguf", "data/../../model.gguf", "/etc/passwd", "..\\model.gguf"])
def test_a_file_outside_of_the_version_is_refused(file: str) -> None:
    with pytest.raises(ValidationError, match="is not inside the version"):
        TypeAdapter(Trigger).validate_python({"mlflow": "net", "file": file})


class Registry:
    """A real MLflow registry on SQLite, and versions whose artifact is a file in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = connect(folder).client
        self.client.create_registered_model("net")

    def add(self, content: bytes) -> str:
        number = len(list(self.folder.glob("v*"))) + 1
        place = self.folder / f"v{number}"
        place.mkdir()
        (place / "MLmodel").write_text(f"made at {number}")
        (place / "model.gguf").write_bytes(content)
        return str(self.client.create_model_version("net", place.as_uri()).version)

    def finder(self, **fields: str) -> MlflowFinder:
        trigger = MlflowTrigger(mlflow="net", file="model.gguf", every_s=0.001, **fields)
        return MlflowFinder(trigger, self.folder, self.folder / "incoming")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    import_mlflow()
    return Registry(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_versions_are_checkpoints_in_order_and_bytes_tell_them_apart(registry: Registry) -> None:
    finder = registry.finder()
    registry.add(b"one")
    registry.add(b"two")
    first, second = finder.look()
    registry.add(b"one")
    time.sleep(0.002)
    (again,) = finder.look()

    assert [found.name for found in (first, second, again)] == ["net/1", "net/2", "net/3"]
    assert (first.path.read_bytes(), second.path.read_bytes()) == (b"one", b"two")
    assert again.digest == first.digest != second.digest


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_an_alias_gives_the_version_it_moves_to(registry: Registry) -> None:
    finder = registry.finder(alias="candidate")
    registry.add(b"one")
    with pytest.raises(SourceError, match=r"mlflow: net: cannot be read: .*candidate"):
        list(finder.look())

    registry.client.set_registered_model_alias("net", "candidate", registry.add(b"two"))
    time.sleep(0.002)

    assert [found.name for found in finder.look()] == ["net/2"]
