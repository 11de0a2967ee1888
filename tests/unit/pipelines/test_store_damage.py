"""The store finds every damage, says what it is, and makes it good."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from storing import KEY, change, files, publish

from pipelines.storage.digest import digest_of
from pipelines.storage.work import remove
from pipelines.store import Store


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
