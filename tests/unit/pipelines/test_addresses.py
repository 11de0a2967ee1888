import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetching import Drawn, failure, fetched, names
from loopback import GGUF, Answer, Site, closed_port, digest, safetensors, site, tarred, zipped

from pipelines.errors import SourceError
from pipelines.fields.source import UrlSource
from pipelines.sources import Fetched, SourceUnreachable, fetch


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


def test_a_file_comes_from_an_address(web: Site, into: Path) -> None:
    web.answers["/models/my%20m.gguf"] = Answer(GGUF)
    source = UrlSource(url=f"{web.url}/models/my%20m.gguf?token=secret", sha256=digest(GGUF))
    assert fetched(source, into) == Fetched(
        kind="gguf",
        facts={"origin": f"{web.url}/models/my%20m.gguf", "file": "my m.gguf", "sha256": digest(GGUF)},
    )


def test_a_download_is_counted_in_bytes(web: Site, into: Path) -> None:
    web.answers["/m.gguf"], drawn = Answer(GGUF), Drawn()
    fetch(UrlSource(url=f"{web.url}/m.gguf", sha256=digest(GGUF)), into, into, drawn)
    assert drawn.bars == [("fetch m.gguf", len(GGUF), len(GGUF))]


def test_a_download_that_is_no_model_is_told_by_its_address(web: Site, into: Path) -> None:
    web.answers["/m.gguf"] = Answer(b"<html>")
    with pytest.raises(SourceError) as caught:
        fetched(UrlSource(url=f"{web.url}/m.gguf", sha256=digest(b"<html>")), into)
    assert caught.value.message == f"{web.url}/m.gguf/m.gguf: not a GGUF file: it begins with b'<html>'"


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_of_a_folder_is_unpacked(tmp_path: Path, into: Path, suffix: str) -> None:
    files = {"m/config.json": b"{}", "m/model.safetensors": safetensors(), "m/training_args.bin": b"cos\nsystem\n"}
    content = zipped(files) if suffix == ".zip" else tarred(files)
    (tmp_path / f"m{suffix}").write_bytes(content)
    source = UrlSource(url=(tmp_path / f"m{suffix}").as_uri(), sha256=digest(content))
    assert fetched(source, into).kind == "hf"
    assert names(into) == ["config.json", "model.safetensors"]


def test_an_archive_that_leaves_its_folder_is_refused(tmp_path: Path, into: Path) -> None:
    content = tarred({"../evil": b"x"})
    (tmp_path / "m.tar.gz").write_bytes(content)
    error = failure(UrlSource(url=(tmp_path / "m.tar.gz").as_uri(), sha256=digest(content)), into)
    assert error.message == "m.tar.gz: refused: `../evil` would be written outside its folder"


def test_an_address_with_the_wrong_content_is_told_with_both_digests(web: Site, into: Path) -> None:
    web.answers["/m.gguf"] = Answer(GGUF)
    error = failure(UrlSource(url=f"{web.url}/m.gguf", sha256="0" * 64), into)
    assert error.message == f"{web.url}/m.gguf: its sha256 is {digest(GGUF)}, the config says {'0' * 64}"


@pytest.mark.parametrize(
    ("status", "again", "message"),
    [(404, False, "no such file"), (403, False, "HTTP 403"), (503, True, "HTTP 503"), (429, True, "HTTP 429")],
)
def test_the_status_of_an_address_says_whether_to_retry(
    web: Site, into: Path, status: int, again: bool, message: str
) -> None:
    web.answers["/m.gguf"] = Answer(b"", status)
    error = failure(UrlSource(url=f"{web.url}/m.gguf", sha256="0" * 64), into)
    assert error.message == f"{web.url}/m.gguf: {message}"
    assert isinstance(error, SourceUnreachable) is again


def test_a_transfer_that_breaks_off_can_be_retried(web: Site, into: Path) -> None:
    web.answers["/m.gguf"] = Answer(GGUF[:20], length=len(GGUF))
    assert isinstance(failure(UrlSource(url=f"{web.url}/m.gguf", sha256=digest(GGUF)), into), SourceUnreachable)


def test_an_address_that_nobody_serves_can_be_retried(into: Path) -> None:
    address = closed_port()
    error = failure(UrlSource(url=f"{address}/m.gguf", sha256="0" * 64), into)
    assert isinstance(error, SourceUnreachable)
    assert error.message.startswith(f"{address}/m.gguf: Cannot connect to host")


def test_a_missing_driver_is_named(into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)  # as if it were not installed
    error = failure(UrlSource(url="s3://bucket/m.gguf", sha256="0" * 64), into)
    assert str(error) == (
        "s3://bucket/m.gguf: cannot open `s3:` addresses: Install s3fs to access S3"
        "\n\nhint: install its driver beside Tapeout: pip install s3fs"
    )


@pytest.mark.parametrize("url", ["m.gguf", "https://host/", "simplecache::https://host/m.gguf"])
def test_what_is_no_address_of_a_file_is_told(into: Path, url: str) -> None:
    error = failure(UrlSource(url=url, sha256="0" * 64), into)
    assert error.message == f"{url}: not an address of a file"


def test_an_unknown_scheme_is_told(into: Path) -> None:
    error = failure(UrlSource(url="carrier-pigeon://host/m.gguf", sha256="0" * 64), into)
    assert error.message.startswith("carrier-pigeon://host/m.gguf: cannot open `carrier-pigeon:` addresses: ")
