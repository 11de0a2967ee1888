"""The store among several processes: races, kills at any moment, users who are not root."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from storing import KEY, change, files, publish

from pipelines.storage.digest import digest_of
from pipelines.storage.work import remove
from pipelines.store import Store

fork = multiprocessing.get_context("fork")


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


def publish_for_ever(root: Path, start: int, begun: Event) -> None:
    store = Store(root)
    begun.set()
    for i in itertools.count(start):
        publish(store, str(i % 5) * 64, f"weights {i % 7}", 300_000)
        if i % 3 == 1:
            store.prune(max_bytes=900_000)


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_whole_artifacts_or_none(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    begin = time.monotonic()
    publish(store, "9" * 64)
    a_publish = time.monotonic() - begin
    moments = random.Random(20261123)
    left_behind = 0
    for start in range(20):
        begun = fork.Event()
        process = fork.Process(target=publish_for_ever, args=(store.root, start, begun))
        process.start()
        assert begun.wait(30)
        time.sleep(moments.uniform(0, 2 * a_publish))
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
    remove(root)


def test_an_ordinary_user_lives_with_read_only_artifacts() -> None:
    root = Path(tempfile.mkdtemp())
    root.chmod(0o777)
    run_all(whole_life, (root / "store",))
    root.rmdir()
