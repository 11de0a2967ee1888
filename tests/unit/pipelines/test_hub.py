import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetching import Drawn, failure, fetched, names
from loopback import GGUF, Answer, Site, closed_port, digest, safetensors, site

from pipelines.fields.source import HfSource
from pipelines.sources import Fetched, SourceUnreachable, fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, web: Site) -> Site:
    """A server that speaks as much of the hub's API as its own client asks for."""
    from huggingface_hub import constants

    template = web.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {"ENDPOINT": web.url, "HUGGINGFACE_CO_URL_TEMPLATE": template}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", web.url, raising=False)
    return web


def publish(hub: Site, **files: bytes) -> None:
    siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
    info = {"id": "some/model", "sha": COMMIT, "siblings": siblings, "cardData": {"license": "apache-2.0"}}
    entries = [
        {"type": "file", "path": name, "size": len(content), "oid": digest(content)[:40]}
        for name, content in files.items()
    ]
    json_type = {"Content-Type": "application/json"}
    for revision in ("main", COMMIT):
        hub.answers[f"/api/models/some/model/revision/{revision}"] = Answer(
            json.dumps(info).encode(), headers=json_type
        )
        hub.answers[f"/api/models/some/model/tree/{revision}"] = Answer(json.dumps(entries).encode(), headers=json_type)
        for name, content in files.items():
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest(content)[:40]}"', "Content-Type": "text/plain"}
            hub.answers[f"/some/model/resolve/{revision}/{name}"] = Answer(content, headers=headers)


def test_a_snapshot_is_downloaded_at_its_commit(hub: Site, into: Path) -> None:
    publish(
        hub,
        **{
            "config.json": b"{}",
            "model.safetensors": safetensors(),
            "pytorch_model.bin": b"cos\nsystem\n",
            "model-q4.gguf": GGUF,
            "README.md": b"---",
        },
    )
    assert fetched(HfSource(hf="some/model", revision="main"), into) == Fetched(
        kind="hf", facts={"origin": "hf: some/model", "revision": COMMIT, "licence": "apache-2.0"}
    )
    assert names(into) == ["config.json", "model.safetensors"]
    assert list(into.glob(".*")) == []


def test_a_snapshot_is_counted_in_bytes(hub: Site, into: Path) -> None:
    publish(hub, **{"config.json": b"{}", "model.safetensors": safetensors(1000)})
    drawn = Drawn()
    fetch(HfSource(hf="some/model", revision="main"), into, into, drawn)
    size = 2 + len(safetensors(1000))
    assert drawn.bars == [("fetch some/model", size, size)]


def test_a_gguf_of_a_repository_is_chosen_by_its_name(hub: Site, into: Path) -> None:
    publish(hub, **{"a.gguf": GGUF, "b.gguf": GGUF})
    error = failure(HfSource(hf="some/model", revision="main"), into)
    assert error.message == "hf: some/model: holds 2 GGUF files: a.gguf, b.gguf"
    assert not [line for line in hub.asked if "resolve" in line]
    found = fetched(HfSource(hf="some/model", revision="main", files=("a.gguf",)), into)
    assert (found.kind, found.facts["file"], names(into)) == ("gguf", "a.gguf", ["a.gguf"])


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"X-Error-Code": "RepoNotFound"}, 404, "no such repository, or it is private"),
        ({"X-Error-Code": "RevisionNotFound"}, 404, "no such revision"),
        ({"X-Error-Code": "GatedRepo"}, 403, "access must be asked for"),
        ({}, 403, "the hub answers HTTP 403"),
    ],
)
def test_what_the_hub_refuses_is_told(
    hub: Site, into: Path, headers: dict[str, str], status: int, message: str
) -> None:
    hub.answers["/api/models/some/model/revision/main"] = Answer(b"{}", status, headers)
    error = failure(HfSource(hf="some/model", revision="main"), into)
    assert error.message == f"hf: some/model at main: {message}"
    assert not isinstance(error, SourceUnreachable)


def test_a_hub_that_nobody_serves_can_be_retried(hub: Site, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = closed_port()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", address, raising=False)
    error = failure(HfSource(hf="some/model", revision="main"), into)
    assert isinstance(error, SourceUnreachable)
    assert error.message.startswith("hf: some/model at main: the hub cannot be reached: ")


def test_no_matching_file_is_told(hub: Site, into: Path) -> None:
    publish(hub, **{"README.md": b"---"})
    error = failure(HfSource(hf="some/model", revision="main", files=("*.gguf",)), into)
    assert error.message == "hf: some/model: no file matches *.gguf"


def test_no_thread_is_left_behind_by_the_hubs_client(hub: Site, into: Path) -> None:
    publish(hub, **{"a.gguf": GGUF})
    before = {thread.name for thread in threading.enumerate() if not thread.daemon}
    fetched(HfSource(hf="some/model", revision="main"), into)
    assert {thread.name for thread in threading.enumerate() if not thread.daemon} <= before | {"fsspecIO"}
