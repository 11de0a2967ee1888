"""The store: publish, find again, detect damage, survive kills, races and a full disk."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import random
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import StoreError, ToolFailed, UserError
from pipelines.storage.digest import digest_of, key_of
from pipelines.storage.work import WorkFolder, remove
from pipelines.store import Entry, Store

KEY = key_of("a step")
fork = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(work: WorkFolder, text: str = "weights", size: int = 0) -> Path:
    (work.out / "tokenizer").mkdir()
    (work.out / "tokenizer" / "vocabulary.json").write_text("{}")
    (work.out / "model.bin").write_text(text.ljust(size))
    (work.path / "log").write_text(f"made {text}\n")
    return work.out


def publish(store: Store, key: str = KEY, text: str = "weights", size: int = 0) -> Entry:
    with store.work() as work:
        out = write(work, text, size)
        return store.publish(key, out, kind="hf", stage="import_gguf", log=work.path / "log")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def change(path: Path, keep_time: bool) -> None:
    status = path.stat()
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# Publish and get


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


# Damage


def test_a_changed_byte_with_a_new_time_is_found_by_get_and_moved_aside(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    entry = publish(store)
    change(store.artifact(entry).path / "model.bin", keep_time=False)
    assert store.get(KEY) is None
    (aside,) = (store.root / "quarantine").iterdir()
    assert caplog.messages == [
        f"artifact {entry.digest[:16]} of import_gguf: model.bin: its contents changed; moved to {aside}; "
        "its step will run again"
    ]
    assert (aside / "files" / "model.bin").exists()
    assert files(store.root / "keys") == []
    assert publish(store).digest == entry.digest
    assert store.get(KEY)


def test_a_changed_byte_with_the_old_time_is_found_by_verify(store: Store) -> None:
    entry = publish(store)
    intact = publish(store, "1" * 64, "other")
    change(store.artifact(entry).path / "model.bin", keep_time=True)
    assert store.get(KEY)
    (damage,) = store.verify()
    assert (damage.digest, damage.message, damage.keys) == (entry.digest, "model.bin: its contents changed", (KEY,))
    assert damage.moved
    assert digest_of(damage.moved / "files") != entry.digest
    assert store.get(KEY) is None
    assert store.get(intact.key)
    assert store.verify() == []


def missing(path: Path) -> None:
    (path / "model.bin").unlink()


def added(path: Path) -> None:
    (path / "cache.tmp").write_text("")


def truncated(path: Path) -> None:
    os.truncate(path / "model.bin", 3)


def linked(path: Path) -> None:
    (path / "model.bin").unlink()
    (path / "model.bin").symlink_to("/dev/zero")


def gone(path: Path) -> None:
    remove(path)


def manifest_gone(path: Path) -> None:
    path.with_name(f"{path.name}.json").unlink()


def manifest_cut(path: Path) -> None:
    os.truncate(path.with_name(f"{path.name}.json"), 10)


def manifest_changed(path: Path) -> None:
    manifest = path.with_name(f"{path.name}.json")
    manifest.write_text(manifest.read_text().replace("model.bin", "other.bin"))


DAMAGES: dict[Callable[[Path], None], str] = {
    missing: "model.bin: missing",
    added: "cache.tmp: does not belong to the artifact",
    truncated: "model.bin: 3 bytes instead of 7",
    linked: "/model.bin: a symlink cannot be part of an artifact",
    gone: "files are missing",
    manifest_gone: "files are missing",
    manifest_cut: "the manifest is damaged",
    manifest_changed: "the manifest is damaged",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_every_damage_is_a_miss_that_says_what_is_wrong_and_can_be_made_good(
    store: Store, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    path = store.artifact(publish(store)).path
    path.chmod(0o755)
    if (path / "model.bin").exists():
        (path / "model.bin").chmod(0o644)
    damage(path)
    assert store.get(KEY) is None
    assert DAMAGES[damage] in caplog.text
    publish(store)
    assert store.get(KEY)
    assert store.verify() == []


def test_publish_over_a_damaged_object_replaces_it(store: Store) -> None:
    entry = publish(store)
    change(store.artifact(entry).path / "model.bin", keep_time=True)
    publish(store, "1" * 64)
    assert digest_of(store.artifact(entry).path) == entry.digest
    assert store.get(KEY)


def test_a_copied_store_is_read_once_and_then_trusted_by_its_new_times(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry = publish(store)
    shutil.copytree(store.root, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = Store(tmp_path / "copy")
    manifest = copy.artifact(entry).path.with_name(f"{entry.digest}.json")
    before = manifest.read_text()
    assert copy.get(KEY)
    assert manifest.read_text() != before
    after = manifest.stat().st_mtime_ns
    assert copy.get(KEY)
    assert manifest.stat().st_mtime_ns == after
    assert caplog.messages == []


def test_an_entry_that_cannot_be_read_is_dropped_and_its_step_runs_again(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store)
    path = store.root / "keys" / f"{KEY}.json"
    path.write_text('{"kind": "from the future"}')
    assert store.get(KEY) is None
    assert "not an entry of this version of Tapeout" in caplog.text
    assert not path.exists()


# Look-up


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


# Several processes


def run_all(target: Callable[..., None], *calls: tuple[Any, ...]) -> None:
    processes = [fork.Process(target=target, args=call) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def make_once(root: Path, made: Path, waited: Path) -> None:
    store = Store(root)
    with store.lock(KEY, waiting=(waited / str(os.getpid())).touch):
        if not store.get(KEY):
            time.sleep(0.1)
            publish(store)
            (made / str(os.getpid())).write_text("")
    assert store.get(KEY)


def test_processes_that_want_the_same_step_make_it_once_and_the_others_wait_and_say_so(
    store: Store, tmp_path: Path
) -> None:
    made, waited = tmp_path / "made", tmp_path / "waited"
    made.mkdir()
    waited.mkdir()
    run_all(make_once, *[(store.root, made, waited)] * 3)
    assert len(files(made)) == 1
    assert len(files(waited)) == 2


def publish_and_get(root: Path, seed: int) -> None:
    store = Store(root)
    choose = random.Random(seed)
    for _ in range(8):
        i = choose.randrange(4)
        publish(store, str(i) * 64, f"weights {i % 2}", 50_000)
        entry = store.get(str(choose.randrange(4)) * 64)
        assert entry is None or digest_of(store.artifact(entry).path) == entry.digest
        store.sweep()


def test_processes_without_a_lock_publish_the_same_artifacts_without_harm(store: Store) -> None:
    run_all(publish_and_get, *[(store.root, seed) for seed in range(3)])
    assert store.verify() == []
    assert list((store.root / "quarantine").iterdir()) == []
    assert {entry.key[0] for entry in store.ls()} == set("0123")
    assert len(list((store.root / "objects").glob("*/*.json"))) == 2


# SIGKILL


def publish_for_ever(root: Path, start: int) -> None:
    store = Store(root)
    for i in itertools.count(start):
        publish(store, str(i % 5) * 64, f"weights {i % 7}", 300_000)
        if i % 3 == 1:
            store.prune(max_bytes=900_000)


def test_a_kill_at_any_moment_leaves_whole_artifacts_or_none(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    begin = time.monotonic()
    publish(store, "9" * 64)
    a_publish = time.monotonic() - begin
    moments = random.Random(20261123)
    left_behind = 0
    for start in range(20):
        process = fork.Process(target=publish_for_ever, args=(store.root, start))
        process.start()
        time.sleep(moments.uniform(0.005, 2 * a_publish))
        process.kill()
        process.join()
        left_behind += bool(Store(store.root).sweep())
        assert list((store.root / "work").iterdir()) == []
        for key in "01234":
            entry = store.get(key * 64)
            assert entry is None or digest_of(store.artifact(entry).path) == entry.digest
        assert store.verify() == []
    assert left_behind
    assert store.ls()
    assert caplog.messages == []
    store.prune()
    assert len(list((store.root / "objects").glob("*/*.json"))) == len({entry.digest for entry in store.ls()})


def test_an_object_whose_publishing_was_killed_before_its_key_is_taken_by_the_next(store: Store) -> None:
    entry = publish(store)
    (store.root / "keys" / f"{KEY}.json").unlink()
    inode = store.artifact(entry).path.stat().st_ino
    publish(store)
    assert store.artifact(entry).path.stat().st_ino == inode


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a tmpfs takes root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=200", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill_bytes(disk: Path, pages_left: int) -> None:
    status = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        file.write(bytes((status.f_bavail - pages_left) * status.f_bsize))


def fill_inodes(disk: Path, left: int) -> None:
    (disk / "filler").mkdir()
    for i in range(os.statvfs(disk).f_favail - left):
        (disk / "filler" / str(i)).touch()


def test_a_step_that_fills_the_disk_says_where_and_the_way_out(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    with pytest.raises(StoreError) as caught, store.work() as work:
        (work.out / "model.bin").write_bytes(bytes(3_000_000))
    assert str(caught.value) == (
        f"no space left on {small_disk} (0 bytes free), where the store is: {small_disk}/store\n\n"
        "hint: free some: `tapeout artifacts prune --older-than 1`, or point TAPEOUT_HOME at a larger disk"
    )
    assert list((store.root / "work").iterdir()) == []


def refusal(store: Store, work: WorkFolder) -> str | None:
    try:
        store.publish(KEY, work.out, kind="hf", stage="import_gguf", log=work.path / "log")
    except StoreError as error:
        return error.message
    return None


@pytest.mark.parametrize("fill", [fill_bytes, fill_inodes])
def test_a_disk_that_fills_up_at_any_moment_of_publishing_leaves_nothing_half(
    small_disk: Path, fill: Callable[[Path, int], None]
) -> None:
    refusals = []
    for left in range(12):
        store = Store(small_disk / f"store{left}")
        with store.work() as work:
            write(work)
            fill(small_disk, left)
            refusals.append(refusal(store, work))
            assert bool(store.get(KEY)) is not bool(refusals[-1])
            if refusals[-1]:
                assert [files(store.root / part) for part in ("objects", "keys", "logs", "quarantine")] == [[]] * 4
        remove(small_disk / "filler")
        publish(store)
        assert store.verify() == []
        remove(store.root)
    assert refusals[-1] is None
    refused = [message for message in refusals if message]
    assert len(refused) > 2
    assert all(message.startswith(f"no space left on {small_disk} (") for message in refused)


def test_a_publishing_whose_entry_cannot_be_written_takes_its_object_back(store: Store) -> None:
    (store.root / "keys").rmdir()
    with pytest.raises(FileNotFoundError):
        publish(store)
    assert [files(store.root / part) for part in ("objects", "work")] == [[], []]


def test_a_full_disk_can_be_pruned_and_used_again(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    publish(store, size=500_000)
    fill_bytes(small_disk, 0)
    fill_inodes(small_disk / "store", 0)
    assert store.sweep() == 0
    assert store.get(KEY)
    assert store.prune(max_bytes=0).bytes_freed > 500_000
    remove(small_disk / "store" / "filler")
    publish(store)
    assert store.get(KEY)


# An ordinary user


def whole_life(root: Path) -> None:
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    logging.disable()
    store = Store(root)
    entry = publish(store)
    try:
        (store.artifact(entry).path / "cache").write_text("")
    except PermissionError:
        pass
    else:
        raise AssertionError("an artifact could be written to")
    model = store.artifact(entry).path / "model.bin"
    change(model, keep_time=False)
    assert store.get(KEY) is None
    publish(store)
    with store.work() as work:
        shutil.copytree(store.artifact(entry).path, work.out / "copy")
        copied = store.publish("1" * 64, work.out, kind="hf", stage="copy")
    assert store.get(copied.key)
    store.prune(max_bytes=0)
    assert files(root) == ["in-use.lock"]


def test_an_ordinary_user_lives_with_read_only_artifacts() -> None:
    root = Path(tempfile.mkdtemp())
    root.chmod(0o777)
    run_all(whole_life, (root / "store",))
    remove(root)
