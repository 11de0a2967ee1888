from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.errors import StoreError, UserError
from pipelines.making import Recipe, obtain
from pipelines.progress import Silent
from pipelines.stack.ports import free_port
from pipelines.storage.shared import Shared
from pipelines.store import Store, WorkFolder
from stages.base import Produced

if TYPE_CHECKING:
    from moto.server import ThreadedMotoServer


class Machine:
    """A home of its own on the shared folder, and a step that counts how often it ran there."""

    def __init__(self, home: Path, url: str) -> None:
        self.said: list[str] = []
        self.store = Store(home / "store", Shared(url, self.said.append))
        self.runs = 0
        self.log = home / "step.log"
        self.log.write_text("it went well\n")

    def step(self, seed: int = 0) -> bool:
        def make(work: WorkFolder) -> Produced:
            self.runs += 1
            (work.out / "sub").mkdir()
            (work.out / "sub" / "weights").write_text(f"weights of {seed}")
            (work.out / "config.json").write_text("{}")
            return Produced(facts={"seed": seed}, notes=("a note",))

        recipe = Recipe("dummy", "dummy", {"seed": seed}, ("p" * 64,), make, self.log, {"numpy": "2.4.6"})
        made = obtain(self.store, recipe, Silent())
        assert (made.artifact.path / "sub" / "weights").read_text() == f"weights of {seed}"
        assert made.artifact.facts == {"seed": seed}
        assert made.entry.notes == ("a note",)
        log = self.store.log(made.entry)
        assert log is not None
        assert log.read_text() == "it went well\n"
        return made.cached


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
def two(tmp_path: Path, shared: Path) -> tuple[Machine, Machine]:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    return Machine(tmp_path / "one", f"file://{shared}"), Machine(tmp_path / "other", f"file://{shared}")


def only(shared: Path, pattern: str) -> Path:
    (found,) = shared.glob(pattern)
    return found


def test_what_one_machine_made_is_a_hit_on_another(two: tuple[Machine, Machine]) -> None:
    one, other = two

    assert not one.step()
    assert other.step()

    assert (one.runs, other.runs) == (1, 0)
    assert one.store.ls()[0].digest == other.store.ls()[0].digest
    assert not other.store.verify()
    assert one.said + other.said == []


def test_the_key_is_sent_last(two: tuple[Machine, Machine], shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.local import LocalFileSystem

    sent: list[str] = []
    for name, at in (("put_file", 2), ("pipe_file", 1)):
        real = getattr(LocalFileSystem, name)

        def noted(*given: object, real: object = real, at: int = at) -> object:
            sent.append(str(given[at]).removeprefix(f"{shared}/").partition("/")[0])
            return real(*given)  # type: ignore[operator]

        monkeypatch.setattr(LocalFileSystem, name, noted)

    two[0].step()

    assert sent == ["objects", "objects", "objects", "logs", "keys"]


@pytest.mark.parametrize("missing", ["objects/*/*/sub/weights", "objects/*/*.json", "keys/*.json"])
def test_what_was_sent_in_part_is_nobodys_hit_until_it_is_sent_whole(
    two: tuple[Machine, Machine], shared: Path, tmp_path: Path, missing: str
) -> None:
    one, other = two
    one.step()
    only(shared, missing).unlink()

    assert not other.step()
    assert other.runs == 1

    (tmp_path / "third").mkdir()
    assert Machine(tmp_path / "third", f"file://{shared}").step()


@pytest.mark.parametrize(
    ("damaged", "text"),
    [
        ("objects/*/*/sub/weights", "weights of 1"),
        ("objects/*/*/sub/weights", "wei"),
        ("objects/*/*.json", "{"),
        ("keys/*.json", '{"key":'),
    ],
)
def test_damage_is_found_by_digest_and_mended_by_the_next_result(
    two: tuple[Machine, Machine], shared: Path, tmp_path: Path, damaged: str, text: str
) -> None:
    one, other = two
    one.step()
    only(shared, damaged).write_text(text)

    assert not other.step()

    (tmp_path / "third").mkdir()
    third = Machine(tmp_path / "third", f"file://{shared}")
    assert third.step()


def test_a_manifest_that_leads_out_of_the_folder_is_refused(two: tuple[Machine, Machine], shared: Path) -> None:
    one, other = two
    one.step()
    manifest = only(shared, "objects/*/*.json")
    manifest.write_text(manifest.read_text().replace("sub/weights", "../weights"))

    with pytest.raises(StoreError, match=r"names '\.\./weights'"):
        other.step()


def test_a_store_that_goes_away_is_told_once_and_gets_later_what_was_made_meanwhile(
    two: tuple[Machine, Machine], shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    shared.write_text("a file where the folder should be")

    assert not one.step(0)
    assert not one.step(1)
    assert len(one.said) == 1
    assert one.said[0].endswith("going on with the local store alone")
    assert one.said[0].startswith(f"store file://{shared}: ")

    shared.unlink()
    monkeypatch.setattr("pipelines.storage.shared.AWAY_S", 0.0)
    (one.store.root.parent / "later").mkdir()
    later = Machine(one.store.root.parent, f"file://{shared}")
    assert not later.step(2)
    assert [other.step(seed) for seed in (0, 1, 2)] == [True, True, True]
    assert not list((one.store.root / "unsent").glob("*/*"))


def test_an_address_that_nothing_opens_says_so() -> None:
    with pytest.raises(UserError, match=r"store nosuch://somewhere/else: Protocol not known: nosuch"):
        Shared("nosuch://somewhere/else", print)


def test_a_password_in_an_address_is_not_shown() -> None:
    assert Shared("memory://user:secret@place", print).url == "memory://place"


@pytest.fixture(scope="module")
def s3() -> Iterator[ThreadedMotoServer]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: ThreadedMotoServer, monkeypatch: pytest.MonkeyPatch) -> str:
    import fsspec

    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3.get_host_and_port()[1]}")
    fsspec.filesystem("s3", skip_instance_cache=True).makedirs("models", exist_ok=True)
    return "models"


@pytest.mark.slow
def test_two_machines_share_a_bucket(bucket: str, tmp_path: Path) -> None:
    machines = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        machines.append(Machine(tmp_path / name, f"s3://{bucket}/a/prefix"))
        shared_of(machines[-1]).check()

    assert [machine.step() for machine in machines] == [False, True]
    assert [machine.said for machine in machines] == [[], []]


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_refused_by_name(bucket: str) -> None:
    with pytest.raises(StoreError, match="store s3://nobodys: there is no bucket nobodys"):
        Shared("s3://nobodys", print).check()


@pytest.mark.slow
def test_a_server_that_is_away_leaves_the_local_store(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    (tmp_path / "one").mkdir()
    machine = Machine(tmp_path / "one", f"s3://{bucket}")

    shared_of(machine).check()

    assert not machine.step()
    assert machine.step(), "a hit of the local store"
    assert len(machine.said) == 1
    assert "Could not connect to the endpoint URL" in machine.said[0]


def shared_of(machine: Machine) -> Shared:
    shared = machine.store._shared
    assert shared is not None
    return shared
