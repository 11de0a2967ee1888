"""What a pruning drops, keeps and frees."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipelines.errors import StoreError
from pipelines.storage.digest import key_of
from pipelines.store import Entry, Store

DAY = 86_400
fork = multiprocessing.get_context("fork")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, name: str, text: str = "", days: float = 0.0, size: int = 1000) -> Entry:
    """An artifact of `size` bytes, last used so many days ago."""
    key = key_of(name)
    with store.work() as work:
        (work.out / "weights").write_text((text or name).ljust(size))
        (work.path / "log").write_text("ran")
        entry = store.publish(key, work.out, kind="hf", stage="fetch", log=work.path / "log")
    used = time.time() - days * DAY
    os.utime(store.root / "keys" / f"{key}.json", (used, used))
    return entry


def names(store: Store) -> set[str]:
    return {entry.key for entry in store.ls()}


def test_prune_drops_what_was_not_used_for_long_with_its_object_and_log(store: Store) -> None:
    old, new = put(store, "old", days=40), put(store, "new", days=5)
    pruned = store.prune(older_than_days=30)
    assert [entry.key for entry in pruned.entries] == [old.key]
    assert pruned.objects == (old.digest,)
    assert pruned.bytes_freed > 1000
    assert names(store) == {new.key}
    assert not store.artifact(old).path.exists()
    assert [path.stem for path in (store.root / "logs").iterdir()] == [new.key]
    assert store.get(new.key)


def test_a_hit_counts_as_use(store: Store) -> None:
    entry = put(store, "old", days=40)
    store.get(entry.key)
    assert store.prune(older_than_days=30).entries == ()


@pytest.mark.parametrize("by", ["key", "digest"])
def test_prune_keeps_what_it_is_told_to_keep(store: Store, by: str) -> None:
    kept, _ = put(store, "kept", days=50), put(store, "old", days=40)
    store.prune(older_than_days=30, max_bytes=0, keep={getattr(kept, by)})
    assert names(store) == {kept.key}


def test_prune_to_a_size_drops_the_least_recently_used_first(store: Store) -> None:
    entries = [put(store, f"{days} days", days=days) for days in range(5)]
    pruned = store.prune(max_bytes=2500)
    assert [entry.key for entry in pruned.entries] == [entry.key for entry in entries[:1:-1]]
    assert names(store) == {entry.key for entry in entries[:2]}


def test_prune_counts_an_artifact_of_two_keys_once_and_drops_both_or_none(store: Store) -> None:
    one, other = put(store, "one", "same", days=9), put(store, "other", "same", days=1)
    third = put(store, "third", days=5)
    assert one.digest == other.digest
    assert store.prune(max_bytes=2000).entries == ()
    assert [entry.key for entry in store.prune(max_bytes=1000).entries] == [third.key]
    store.prune(older_than_days=5)
    assert names(store) == {other.key}
    assert store.get(other.key)


def test_dry_run_says_the_same_and_removes_nothing_even_beside_a_run(store: Store) -> None:
    put(store, "old", days=40)
    with store.in_use():
        dry = store.prune(older_than_days=30, dry_run=True)
    assert len(store.ls()) == 1
    assert store.prune(older_than_days=30) == dry.model_copy(update={"dry_run": False})


def test_prune_collects_objects_without_a_key_quarantine_temporary_files_and_locks(store: Store) -> None:
    orphan, damaged = put(store, "orphan"), put(store, "damaged")
    (store.root / "keys" / f"{orphan.key}.json").unlink()
    weights = store.artifact(damaged).path / "weights"
    weights.chmod(0o600)
    weights.write_text("short")
    assert store.get(damaged.key) is None
    (store.root / "work" / "killed" / "out").mkdir(parents=True)
    pruned = store.prune()
    assert pruned.objects == (orphan.digest,)
    left = [path.relative_to(store.root) for path in store.root.rglob("*") if path.is_file()]
    assert [str(path) for path in left] == ["in-use.lock"]


def test_prune_drops_what_killed_runs_left_to_go_on_from_when_it_is_old(store: Store) -> None:
    for name, days in (("old", 40), ("new", 5)):
        left = store.root / "resume" / name / "layers" / "0"
        left.parent.mkdir(parents=True)
        left.write_text("half a model")
        for path in (left, left.parent, left.parent.parent):
            os.utime(path, (time.time() - days * DAY,) * 2)

    assert store.prune(older_than_days=30).bytes_freed == len("half a model")
    assert [path.name for path in (store.root / "resume").iterdir()] == ["new"]
    assert store.prune().bytes_freed == 0


def test_prune_refuses_while_a_run_uses_the_store(store: Store) -> None:
    put(store, "old", days=40)
    with store.in_use(), pytest.raises(StoreError) as caught:
        store.prune(older_than_days=30)
    assert str(caught.value) == (
        f"{store.root}: a run is using the store\n\n"
        "hint: wait until it ends, or stop it, and prune again; a dry run is possible now"
    )
    with store.work(), pytest.raises(StoreError, match="a run is using the store"):
        store.prune(older_than_days=30)
    assert store.prune(older_than_days=30).entries


def run_for_ever(store: Store, ready: Connection) -> None:
    with store.in_use():
        ready.send(True)
        time.sleep(60)


def test_prune_goes_on_once_a_run_was_killed(store: Store) -> None:
    ours, theirs = fork.Pipe()
    process = fork.Process(target=run_for_ever, args=(store, theirs))
    process.start()
    ours.recv()
    with pytest.raises(StoreError):
        store.prune()
    process.kill()
    process.join()
    store.prune()
