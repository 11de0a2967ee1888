import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import tarred, zipped

from pipelines.errors import SourceError
from pipelines.fetching.archives import is_archive, unpack

FILES = {"model/config.json": b"{}", "model/sub/weights.bin": b"\0" * 100}


def unpacked(tmp_path: Path, name: str, content: bytes) -> Path:
    (tmp_path / name).write_bytes(content)
    into = tmp_path / "into"
    into.mkdir()
    unpack(tmp_path / name, into)
    return into


def refusal(tmp_path: Path, name: str, content: bytes) -> str:
    with pytest.raises(SourceError) as caught:
        unpacked(tmp_path, name, content)
    assert list((tmp_path / "into").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "into"])
    return caught.value.message


def special(kind: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        member = tarfile.TarInfo("model/null")
        member.type = kind
        members.addfile(member)
    return archive.getvalue()


def zip_with_link(target: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("a.txt", "text")
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        members.writestr(link, target)
    return archive.getvalue()


@pytest.mark.parametrize("name", ["m.zip", "m.tar", "m.tar.gz", "m.tgz", "m.tar.bz2", "m.tar.xz"])
def test_the_single_top_folder_is_stripped(tmp_path: Path, name: str) -> None:
    mode = {"tar": "w", "tgz": "w:gz"}.get(name.rpartition(".")[2], f"w:{name.rpartition('.')[2]}")
    into = unpacked(tmp_path, name, zipped(FILES) if name == "m.zip" else tarred(FILES, mode=mode))
    assert is_archive(name)
    assert sorted(path.relative_to(into).as_posix() for path in into.rglob("*")) == [
        "config.json",
        "sub",
        "sub/weights.bin",
    ]
    assert (into / "sub/weights.bin").read_bytes() == b"\0" * 100


def test_several_entries_at_the_top_stay_where_they_are(tmp_path: Path) -> None:
    into = unpacked(tmp_path, "m.tar", tarred({"a": b"1", "b/c": b"2"}, mode="w"))
    assert (into / "b/c").read_bytes() == b"2"


def test_a_link_inside_the_archive_becomes_a_copy(tmp_path: Path) -> None:
    links = {"model/first": "second", "model/second": "sub/../sub/weights.bin"}
    into = unpacked(tmp_path, "m.tar.gz", tarred(FILES, links))
    assert (into / "first").read_bytes() == b"\0" * 100
    assert not (into / "first").is_symlink()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:/evil", "a\\..\\evil"])
def test_an_entry_outside_the_folder_is_refused_and_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    wanted = f"refused: `{name}` would be written outside its folder"
    assert refusal(tmp_path / "one", "m.tar", tarred({"ok": b"1", name: b"2"}, mode="w")) == f"m.tar: {wanted}"
    assert refusal(tmp_path / "two", "m.zip", zipped({"ok": b"1", name: b"2"})) == f"m.zip: {wanted}"


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "m.tar", tarred({}, {"model/passwd": "../../etc/passwd"}, mode="w"))
    assert message == "m.tar: refused: `model/passwd` is a link that leaves its folder, to `../../etc/passwd`"


def test_an_absolute_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "m.zip", zip_with_link("/etc/passwd"))
    assert message == "m.zip: refused: `link` is a link that leaves its folder, to `/etc/passwd`"


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as members:
        link = tarfile.TarInfo("folder")
        link.type, link.linkname = tarfile.SYMTYPE, "."
        members.addfile(link)
        members.addfile(tarfile.TarInfo("folder/evil"))
    assert refusal(tmp_path, "m.tar", archive.getvalue()).startswith("m.tar: refused: `folder` is a link to `.`")


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "m.tar", tarred({}, {"a": "b", "b": "a"}, mode="w"))
    assert message == "m.tar: refused: `a` is a link to `a`, which is no file of the archive"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    assert refusal(tmp_path, "m.tar", special(kind)) == "m.tar: refused: `model/null` is a device, pipe or socket"


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    name = "m.zip" if pack is zipped else "m.tar.gz"
    message = refusal(tmp_path, name, pack({"zeros": bytes(65 << 20)}))
    assert message.startswith(f"{name}: refused: `zeros` unpacks to more than")


def test_links_count_as_the_file_they_stand_for(tmp_path: Path) -> None:
    links = {f"copy{number}": "zeros" for number in range(70)}
    message = refusal(tmp_path, "m.tar.gz", tarred({"zeros": bytes(1 << 20)}, links))
    assert message.startswith("m.tar.gz: refused: `copy63` unpacks to more than")


def test_a_file_where_a_folder_is_needed_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "m.zip", zipped({"a": b"1", "a/b": b"2"}))
    assert message == "m.zip: refused: `a/b` cannot be written: File exists"


@pytest.mark.parametrize("name", ["m.zip", "m.tar.gz"])
def test_a_truncated_archive_is_told(tmp_path: Path, name: str) -> None:
    files = {"weights": bytes(range(256)) * 400}
    content = zipped(files) if name == "m.zip" else tarred(files)
    message = refusal(tmp_path, name, content[: len(content) // 2])
    assert message.startswith(f"{name}: the archive is truncated or damaged: ")
