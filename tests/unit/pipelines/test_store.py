"""The store: publish, find again, list, work folders."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from storing import KEY, files, publish, write

from pipelines.errors import StoreError, ToolFailed, UserError
from pipelines.storage.digest import digest_of
from pipelines.storage.work import remove
from pipelines.store import Store


def test_what_was_published_is_found_again_with_all_that_is_known_of_it(store: Store) -> None:
    with store.work() as work:
        expected = digest_of(write(work))
        published = store.publish(
            KEY,
            work.out,
            kind="hf",
            stage="import_gguf",
            parents=("p",),
            facts={"precision": "f16"},
            seconds=1.5,
            inputs={"model": "m"},
            tool_versions={"torch": "2.13.0"},
            log=work.path / "log",
        )
        assert not work.out.exists()
    found = Store(store.root).get(KEY)
    assert found
    assert found.model_copy(update={"used": ""}) == published.model_copy(update={"used": ""})
    assert (found.digest, found.size_bytes, found.seconds) == (expected, 9, 1.5)
    artifact = store.artifact(found)
    assert (artifact.kind, artifact.digest, artifact.parents) == ("hf", expected, ("p",))
    assert artifact.facts == {"precision": "f16"}
    assert digest_of(artifact.path) == expected
    log = store.log(found)
    assert log
    assert log.read_text() == "made weights\n"


def test_unknown_key_is_a_miss(store: Store) -> None:
    assert store.get(KEY) is None


def test_published_files_are_read_only(store: Store) -> None:
    path = store.artifact(publish(store)).path
    for file in [path, *path.rglob("*")]:
        assert stat.S_IMODE(file.stat().st_mode) & 0o222 == 0


def test_a_hard_link_in_the_result_is_replaced_by_a_copy(store: Store, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("weights")
    with store.work() as work:
        (work.out / "model.bin").hardlink_to(tmp_path / "mine")
        entry = store.publish(KEY, work.out, kind="gguf", stage="fetch")
    (tmp_path / "mine").write_text("changed")
    assert (store.artifact(entry).path / "model.bin").read_text() == "weights"


def test_two_keys_may_give_the_same_artifact(store: Store) -> None:
    one, other = publish(store, "1" * 64), publish(store, "2" * 64)
    assert one.digest == other.digest
    assert store.get(one.key)
    assert store.get(other.key)
    assert store.verify() == []


def test_a_result_without_files_is_not_published(store: Store) -> None:
    with store.work() as work, pytest.raises(ToolFailed, match="quantize_gguf: ended without writing a file"):
        store.publish(KEY, work.out, kind="gguf", stage="quantize_gguf")
    assert store.get(KEY) is None


def test_a_result_with_a_symlink_is_not_published(store: Store) -> None:
    with store.work() as work:
        write(work)
        (work.out / "link").symlink_to("/etc/passwd")
        with pytest.raises(StoreError, match="link: a symlink cannot be part of an artifact"):
            store.publish(KEY, work.out, kind="hf", stage="import_gguf")
    assert files(store.root / "objects") == []


def test_ls_lists_the_last_used_first(store: Store) -> None:
    for age, key in enumerate("123"):
        publish(store, key * 64, key)
        os.utime(store.root / "keys" / f"{key * 64}.json", (1000 - age, 1000 - age))
    store.get("2" * 64)
    assert [entry.key[0] for entry in store.ls()] == ["2", "1", "3"]


def test_find_takes_the_start_of_a_digest_or_a_key(store: Store) -> None:
    entry = publish(store, "1" * 64)
    assert store.find("111") == store.find(entry.digest[:8]) == store.find(entry.digest)
    publish(store, "12" * 32)
    assert store.find("1").digest == entry.digest


def test_find_says_when_there_is_none_or_more_than_one(store: Store) -> None:
    publish(store, "a1" * 32, "one")
    publish(store, "a2" * 32, "two")
    with pytest.raises(UserError) as caught:
        store.find("xyz")
    assert str(caught.value) == "no artifact starts with 'xyz'\n\nhint: `tapeout artifacts ls` lists them"
    with pytest.raises(UserError, match=r"'a' is the start of several artifacts:\n  \w{16}  import_gguf\n"):
        store.find("a")
    with pytest.raises(UserError, match="no artifact starts with ''"):
        store.find("")


# Work folders


def test_a_work_folder_is_removed_whatever_happens(store: Store) -> None:
    def step() -> None:
        with store.work() as work:
            (work.out / "deep" / "er").mkdir(parents=True)
            (work.out / "deep" / "er" / "file").write_text("")
            (work.out / "deep" / "er").chmod(0o500)
            (work.out / "deep").chmod(0o000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step()
    assert files(store.root / "work") == []


def test_sweep_removes_what_nobody_owns_and_leaves_a_running_step_alone(store: Store) -> None:
    with store.work() as work:
        (store.root / "work" / "dead" / "out").mkdir(parents=True)
        (store.root / "work" / "dead2.lock").write_text("")
        assert store.sweep() == 2
        assert work.out.is_dir()
        assert store.sweep() == 0
    assert list((store.root / "work").iterdir()) == []


def test_removal_outlasts_a_process_that_still_writes(tmp_path: Path) -> None:
    # with pauses: a writer that never rests can outrun the removal for ever on a busy machine
    script = (
        "import pathlib, sys, time\nfor i in range(300): pathlib.Path(sys.argv[1], str(i)).touch(); time.sleep(0.005)"
    )
    tree = tmp_path / "tree"
    tree.mkdir()
    with subprocess.Popen([sys.executable, "-c", script, str(tree)], stderr=subprocess.DEVNULL) as process:
        while not list(tree.iterdir()):
            time.sleep(0.01)
        remove(tree)
        process.wait(10)
    assert not tree.exists()
