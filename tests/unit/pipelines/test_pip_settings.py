from pathlib import Path

import pytest

from pipelines.errors import SourceError
from pipelines.fetching import pip_settings
from pipelines.fetching.pip_settings import PipSettings, parse, read_pip_settings


def test_pip_settings_are_merged_in_pips_order() -> None:
    listing = "\n".join(
        (
            "global.index-url='https://a/simple'",
            "global.extra-index-url='https://b\\nhttps://c  https://d'",
            "download.index-url='https://e/simple'",
            "install.index-url='https://f/simple'",
            ":env:.timeout='7'",
            "global.timeout='5'",
            "global.proxy=''",
        )
    )
    assert parse(listing) == {
        "index-url": "https://e/simple",
        "extra-index-url": "https://b\nhttps://c  https://d",
        "timeout": "7",
    }


@pytest.fixture
def only_these(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No settings but those of one file, whatever this machine's are."""
    for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "CERT", "PROXY", "TRUSTED_HOST", "DEFAULT_TIMEOUT"):
        monkeypatch.delenv(f"PIP_{name}", raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    # pip reads no file but this one when it is the null device
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return monkeypatch


def test_settings_come_from_pip_itself(only_these: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only_these.setenv("PIP_INDEX_URL", "https://mirror/simple")
    only_these.setenv("PIP_EXTRA_INDEX_URL", f"https://b {tmp_path}")
    only_these.setenv("PIP_TRUSTED_HOST", "mirror other:8080")
    only_these.setenv("PIP_FIND_LINKS", "/wheels")
    only_these.setenv("PIP_CERT", "/etc/own.pem")
    only_these.setenv("PIP_TIMEOUT", "3")
    assert read_pip_settings() == PipSettings(
        index_urls=("https://mirror/simple", "https://b", tmp_path.as_uri()),
        find_links=("file:///wheels",),
        trusted_hosts=("mirror", "other:8080"),
        cert=Path("/etc/own.pem"),
        timeout=3,
    )


def test_no_index_leaves_find_links_alone(only_these: pytest.MonkeyPatch) -> None:
    only_these.setenv("PIP_NO_INDEX", "1")
    only_these.setenv("PIP_INDEX_URL", "https://mirror/simple")
    assert read_pip_settings() == PipSettings(index_urls=())


def test_without_settings_the_index_is_pips_own_default(only_these: pytest.MonkeyPatch) -> None:
    (index,) = read_pip_settings().index_urls
    assert index.startswith("https://")


def test_broken_pip_settings_are_told(only_these: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("no section\n")
    only_these.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    with pytest.raises(SourceError) as caught:
        read_pip_settings()
    assert caught.value.message.startswith("pip's settings cannot be read: ")


def test_a_missing_pip_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho No module named pip >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(pip_settings.sys, "executable", str(tmp_path / "python"))
    with pytest.raises(SourceError) as caught:
        read_pip_settings()
    assert caught.value.message == "pip's settings cannot be read: No module named pip"
    assert caught.value.hint.endswith(f"{tmp_path}/python -m ensurepip")
