"""A file at an address that changes, on a real server that is away for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from loopback import GGUF, Answer, Site, closed_port, site
from test_shared_store import bucket, s3

from pipelines.errors import SourceError
from pipelines.stack.ports import free_port
from pipelines.watching.address import UrlFinder
from pipelines.watching.finding import Found
from pipelines.watching.trigger import UrlTrigger

__all__ = ["bucket", "s3"]
AUTUMN, WINTER = "Sun, 29 Nov 2026 03:00:00 GMT", "Tue, 01 Dec 2026 03:00:00 GMT"
RETRAINED = GGUF[:-1] + b"\1"


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


def finder(url: str, tmp_path: Path) -> UrlFinder:
    return UrlFinder(UrlTrigger(url=url, every_s=0.001), tmp_path / "incoming")


def look(finder: UrlFinder) -> list[Found]:
    time.sleep(0.002)
    return list(finder.look())


def trouble(finder: UrlFinder) -> str:
    with pytest.raises(SourceError) as caught:
        look(finder)
    return caught.value.message


def test_a_url_gives_a_new_file_when_its_state_is_new(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_text("first")
    watched = finder(file.as_uri(), tmp_path)

    (first,) = look(watched)
    assert look(watched) == []
    file.write_text("the second")
    (second,) = look(watched)

    assert (first.path.read_text(), second.path.read_text()) == ("first", "the second")


def test_a_url_that_is_away_is_a_reason(tmp_path: Path) -> None:
    assert "cannot be read: " in trouble(finder((tmp_path / "none").as_uri(), tmp_path))


@pytest.mark.parametrize(("header", "old", "new"), [("ETag", '"1"', '"2"'), ("Last-Modified", AUTUMN, WINTER)])
def test_a_retrained_model_of_equal_size_is_seen_by_either_header(
    web: Site, tmp_path: Path, header: str, old: str, new: str
) -> None:
    watched = finder(f"{web.url}/m.gguf", tmp_path)
    web.answers["/m.gguf"] = Answer(GGUF, headers={header: old})
    (first,) = look(watched)
    assert look(watched) == []

    web.answers["/m.gguf"] = Answer(RETRAINED, headers={header: new})
    (second,) = look(watched)

    assert (first.path.read_bytes(), second.path.read_bytes()) == (GGUF, RETRAINED)


def test_a_new_time_under_the_same_tag_is_the_same_file(web: Site, tmp_path: Path) -> None:
    watched = finder(f"{web.url}/m.gguf", tmp_path)
    web.answers["/m.gguf"] = Answer(GGUF, headers={"ETag": "1", "Last-Modified": AUTUMN})
    assert len(look(watched)) == 1

    web.answers["/m.gguf"] = Answer(GGUF, headers={"ETag": "1", "Last-Modified": WINTER})

    assert look(watched) == []


def test_the_file_is_named_by_its_path_and_a_secret_in_the_address_is_told_nobody(web: Site, tmp_path: Path) -> None:
    watched = finder(f"{web.url}/my%20m.gguf?token=secret", tmp_path)
    assert trouble(watched) == f"{web.url}/my%20m.gguf: cannot be read: HTTP 404"

    web.answers["/my%20m.gguf"] = Answer(GGUF)

    assert [found.path.name for found in look(watched)] == ["my m.gguf"]


@pytest.mark.parametrize("status", [500, 403, 429])
def test_a_server_that_errs_is_a_reason_and_the_next_look_finds(web: Site, tmp_path: Path, status: int) -> None:
    watched = finder(f"{web.url}/m.gguf", tmp_path)
    web.answers["/m.gguf"] = Answer(b"", status)
    assert trouble(watched) == f"{web.url}/m.gguf: cannot be read: HTTP {status}"

    web.answers["/m.gguf"] = Answer(GGUF)

    assert len(look(watched)) == 1


def test_a_transfer_that_breaks_off_gives_nothing(web: Site, tmp_path: Path) -> None:
    watched = finder(f"{web.url}/m.gguf", tmp_path)
    web.answers["/m.gguf"] = Answer(GGUF[:20], length=len(GGUF))
    assert "cannot be read: " in trouble(watched)

    web.answers["/m.gguf"] = Answer(GGUF)

    assert [found.path.read_bytes() for found in look(watched)] == [GGUF]


def test_what_could_not_be_remembered_is_given_again(web: Site, tmp_path: Path) -> None:
    watched = finder(f"{web.url}/m.gguf", tmp_path)
    web.answers["/m.gguf"] = Answer(GGUF)
    for _ in watched.look():
        break  # as where the ledger's disk is full

    assert len(look(watched)) == 1


def test_an_address_that_nobody_serves_is_a_reason_and_the_next_look_finds(tmp_path: Path) -> None:
    address = closed_port()
    watched = finder(f"{address}/m.gguf", tmp_path)
    assert trouble(watched).startswith(f"{address}/m.gguf: cannot be read: Cannot connect to host")

    with site(urlsplit(address).port or 0) as web:
        web.answers["/m.gguf"] = Answer(GGUF)
        assert len(look(watched)) == 1


def test_an_address_that_nothing_opens_is_a_reason(tmp_path: Path) -> None:
    assert trouble(finder("nosuch://somewhere/m.gguf", tmp_path)) == (
        "nosuch://somewhere/m.gguf: cannot be read: Protocol not known: nosuch"
    )


@pytest.mark.slow
def test_an_object_in_a_bucket_is_seen_again_when_it_is_replaced(bucket: str, tmp_path: Path) -> None:
    import fsspec

    files = fsspec.filesystem("s3", skip_instance_cache=True)
    watched = finder(f"s3://{bucket}/m.gguf", tmp_path)
    assert "cannot be read: " in trouble(watched)
    files.pipe_file(f"{bucket}/m.gguf", GGUF)
    (first,) = look(watched)
    assert look(watched) == []

    files.pipe_file(f"{bucket}/m.gguf", RETRAINED)
    (second,) = look(watched)

    assert (first.path.read_bytes(), second.path.read_bytes()) == (GGUF, RETRAINED)


@pytest.mark.slow
def test_a_bucket_whose_server_is_away_is_a_reason(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")

    assert "cannot be read: Could not connect to the endpoint URL" in trouble(finder(f"s3://{bucket}/m", tmp_path))
