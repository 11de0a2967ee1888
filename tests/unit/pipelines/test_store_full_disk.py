"""The store on a disk that fills up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from storing import KEY, files, publish, write

from pipelines.errors import StoreError
from pipelines.storage.work import WorkFolder, remove
from pipelines.store import Store


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
