"""Digests of folders and keys."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest
from pydantic import JsonValue

from pipelines.errors import StoreError
from pipelines.storage.digest import digest_of, key_of, manifest_of


def folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def test_digest_is_sha256_over_sorted_paths_sizes_and_hashes(tmp_path: Path) -> None:
    folder(tmp_path, b="two", a__c="one")
    one, two = hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()
    text = "a/c\0" + f"3\0{one}\nb\0" + f"3\0{two}\n"
    assert digest_of(tmp_path) == hashlib.sha256(text.encode()).hexdigest()


def test_digest_does_not_depend_on_times_permissions_order_or_empty_folders(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", a="1", b="2")
    second = folder(tmp_path / "second", b="2", a="1", empty__x="")
    (second / "empty" / "x").unlink()
    os.utime(second / "a", (1, 1))
    (second / "b").chmod(0o400)
    assert digest_of(first) == digest_of(second)


@pytest.mark.parametrize("other", [{"a": "2"}, {"b": "1"}, {"a": "1", "b": ""}, {"x__a": "1"}, {}])
def test_digest_depends_on_names_contents_and_every_file(tmp_path: Path, other: dict[str, str]) -> None:
    (tmp_path / "other").mkdir()
    assert digest_of(folder(tmp_path / "one", a="1")) != digest_of(folder(tmp_path / "other", **other))


def test_digest_of_a_file_larger_than_a_buffer_is_that_of_all_its_bytes(tmp_path: Path) -> None:
    data = os.urandom(3_000_001)
    (tmp_path / "large").write_bytes(data)
    assert manifest_of(tmp_path).files["large"].sha256 == hashlib.sha256(data).hexdigest()
    assert manifest_of(tmp_path).size_bytes == 3_000_001


@pytest.mark.parametrize("target", ["a", ".", "nowhere"])
def test_digest_refuses_symlinks_to_files_folders_and_nowhere(tmp_path: Path, target: str) -> None:
    folder(tmp_path, a="1", sub__b="2")
    (tmp_path / "sub" / "link").symlink_to(tmp_path / target)
    with pytest.raises(StoreError) as caught:
        digest_of(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/sub/link: a symlink cannot be part of an artifact\n\n"
        "hint: copy the folder with its links followed: cp -rL FOLDER COPY"
    )


def test_digest_refuses_pipes_and_sockets(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="pipe: a pipe, socket or device cannot be part of an artifact"):
        digest_of(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        with pytest.raises(StoreError, match="socket: a pipe, socket or device"):
            digest_of(tmp_path)


def test_digest_refuses_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff", "w"):  # noqa: PTH123
        pass
    with pytest.raises(StoreError, match="the name is not UTF-8"):
        digest_of(tmp_path)


def test_key_does_not_depend_on_the_order_of_fields() -> None:
    assert key_of({"a": 1, "b": [1, "é"]}) == key_of({"b": [1, "é"], "a": 1})


def test_key_is_sha256_of_canonical_json() -> None:
    assert key_of({"b": 1.5, "a": None}) == hashlib.sha256(b'{"a":null,"b":1.5}').hexdigest()


@pytest.mark.parametrize(("one", "other"), [(1, "1"), ([1, 2], [2, 1]), ({"a": 1}, {"a": 2}), (True, 1), (None, "")])
def test_key_tells_values_apart(one: JsonValue, other: JsonValue) -> None:
    assert key_of(one) != key_of(other)


def test_key_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"a": float("nan")})
