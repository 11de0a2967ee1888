"""The home folder and its locks."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.home import home, locked, try_lock

Start = Callable[..., BaseProcess]
fork = multiprocessing.get_context("fork")


def hold(path: Path, shared: bool, ready: Connection) -> None:
    with locked(path, shared=shared):
        ready.send(True)
        time.sleep(60)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Start]:
    started = []

    def start(shared: bool = False) -> BaseProcess:
        ours, theirs = fork.Pipe()
        process = fork.Process(target=hold, args=(tmp_path / "lock", shared, theirs))
        process.start()
        started.append(process)
        ours.recv()
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def test_home_is_the_folder_named_by_the_environment_created_on_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPEOUT_HOME", str(tmp_path / "a" / "b"))
    assert home() == tmp_path / "a" / "b"
    assert home().is_dir()


@pytest.mark.parametrize("unset", [True, False])
def test_home_without_a_name_is_in_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TAPEOUT_HOME", "")
    if unset:
        monkeypatch.delenv("TAPEOUT_HOME")
    assert home() == tmp_path / ".tapeout"


def test_home_that_cannot_be_created_says_why_and_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAPEOUT_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UserError) as caught:
        home()
    assert str(caught.value) == (
        f"{tmp_path}/file/home: cannot be Tapeout's home: Not a directory\n\n"
        "hint: point TAPEOUT_HOME at a folder on a local disk that you can write"
    )


def test_home_on_a_file_or_a_kernel_filesystem_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc/tapeout")):
        monkeypatch.setenv("TAPEOUT_HOME", str(place))
        with pytest.raises(UserError, match="cannot be Tapeout's home"):
            home()


def test_lock_excludes_another_process_until_it_is_killed(tmp_path: Path, holder: Start) -> None:
    process = holder()
    with try_lock(tmp_path / "lock") as free:
        assert not free
    process.kill()
    process.join()
    with try_lock(tmp_path / "lock") as free:
        assert free


def test_lock_waits_says_so_once_and_then_holds(tmp_path: Path, holder: Start) -> None:
    process = holder()
    threading.Timer(0.1, process.kill).start()
    said = []
    start = time.monotonic()
    with locked(tmp_path / "lock", waiting=lambda: said.append("waits")):
        assert time.monotonic() - start > 0.05
        with try_lock(tmp_path / "lock") as free:
            assert not free
    assert said == ["waits"]


def test_free_lock_says_nothing(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", waiting=lambda: pytest.fail("it waited")):
        pass


def test_shared_locks_go_together_and_keep_an_exclusive_one_out(tmp_path: Path, holder: Start) -> None:
    holder(shared=True)
    with try_lock(tmp_path / "lock", shared=True) as free:
        assert free
    with try_lock(tmp_path / "lock") as free:
        assert not free


def test_lock_on_a_file_that_its_holder_removed_is_taken_on_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order = []

    def wait() -> None:
        with locked(path, waiting=waiting.set):
            order.append("second")
            assert path.exists()

    waiting = threading.Event()
    with locked(path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(5)
        path.unlink()
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_lock_is_free_after_an_error_in_its_block(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock"):
        raise ZeroDivisionError
    with try_lock(tmp_path / "lock") as free:
        assert free
