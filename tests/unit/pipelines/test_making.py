import multiprocessing
import os
from pathlib import Path

import pytest

from pipelines import working_time
from pipelines.errors import InputRejected
from pipelines.making import Recipe, obtain
from pipelines.progress import Silent
from pipelines.store import Entry, Store, WorkFolder
from stages.base import Context, Produced, Table


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def recipe(tmp_path: Path, seed: int = 0, stage: str = "dummy", kind: str = "dummy") -> tuple[Recipe, list[int]]:
    made: list[int] = []

    def make(work: WorkFolder) -> Produced:
        made.append(seed)
        (work.out / "weights").write_text(f"weights of {seed}")
        (work.scratch / "thrown away").write_text("")
        return Produced(facts={"seed": seed})

    log = tmp_path / "a.log"
    return Recipe(stage, kind, {"seed": seed}, ("p" * 64,), make, log, {"numpy": "2.4.6"}), made


def test_first_call_makes_and_the_second_finds_it(tmp_path: Path, store: Store) -> None:
    (tmp_path / "a.log").write_text("it went well")
    wanted, made = recipe(tmp_path)

    first, second = obtain(store, wanted, Silent()), obtain(store, wanted, Silent())

    assert made == [0]
    assert (first.cached, second.cached) == (False, True)
    assert first.artifact == second.artifact
    assert (second.artifact.path / "weights").read_text() == "weights of 0"
    assert second.artifact.parents == ("p" * 64,)
    assert second.artifact.facts == {"seed": 0}
    assert second.entry.tool_versions == {"numpy": "2.4.6"}
    log = store.log(second.entry)
    assert log is not None
    assert log.read_text() == "it went well"


def test_what_is_done_aside_is_no_cost_of_the_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(working_time, "time", clock)

    def make(work: WorkFolder) -> Produced:
        with working_time.aside():
            clock.now += 100
            with working_time.aside():
                clock.now += 1000
        clock.now += 7
        (work.out / "weights").write_text("")
        return Produced()

    assert obtain(store, Recipe("dummy", "dummy", {}, (), make), Silent()).entry.seconds == 7


def test_stage_kind_and_parts_are_the_key(tmp_path: Path, store: Store) -> None:
    keys = {
        obtain(store, wanted, Silent()).entry.key
        for wanted, _ in (
            recipe(tmp_path),
            recipe(tmp_path, seed=1),
            recipe(tmp_path, stage="other"),
            recipe(tmp_path, kind="other"),
        )
    }

    assert len(keys) == 4


def test_failure_publishes_nothing_and_is_tried_again(tmp_path: Path, store: Store) -> None:
    tries: list[int] = []

    def make(work: WorkFolder) -> Produced:
        tries.append(1)
        (work.out / "half").write_text("")
        if len(tries) == 1:
            raise InputRejected("no")
        return Produced()

    wanted = Recipe("dummy", "dummy", {}, (), make)
    with pytest.raises(InputRejected):
        obtain(store, wanted, Silent())

    assert store.ls() == []
    assert not obtain(store, wanted, Silent()).cached
    assert len(tries) == 2


def test_made_by_another_run_while_waiting_is_not_made_again(tmp_path: Path, store: Store) -> None:
    wanted, made = recipe(tmp_path)

    class Meanwhile(Store):
        """Another run publishes between the first look and the lock."""

        looks = 0

        def get(self, key: str) -> Entry | None:
            self.looks += 1
            if self.looks == 1:
                obtain(store, wanted, Silent())
                return None
            return super().get(key)

    assert obtain(Meanwhile(store.root), wanted, Silent()).cached
    assert made == [0]


def test_what_a_stage_says_of_its_work_is_kept_with_its_result(tmp_path: Path, store: Store) -> None:
    table = Table(title="layers", header=("layer", "cost"), rows=(("conv", "3 dB"),))

    def make(work: WorkFolder) -> Produced:
        (work.out / "weights").write_text("weights")
        return Produced(notes=("one layer stayed float",), tables=(table,))

    wanted = Recipe("dummy", "dummy", {}, (), make)
    obtain(store, wanted, Silent())
    entry = obtain(store, wanted, Silent()).entry

    assert (entry.notes, entry.tables) == (("one layer stayed float",), (table,))


LAYERS = 5


def layered(seed: int, killed_after: int | None = None) -> tuple[Recipe, list[int]]:
    """A step of five layers that keeps each, and dies after so many of them."""
    worked: list[int] = []

    def make(work: WorkFolder) -> Produced:
        kept = Context(work.out, work.scratch, outliving=work.outliving).resume
        for layer in range(LAYERS):
            if layer == killed_after:
                os._exit(9)
            if not (kept / f"{layer}").exists():
                worked.append(layer)
                (kept / f"{layer}").write_text(f"{seed} {layer}")
        (work.out / "weights").write_text("".join((kept / f"{layer}").read_text() for layer in range(LAYERS)))
        return Produced()

    return Recipe("slow", "dummy", {"seed": seed}, (), make), worked


def kill(store: Store, after: int) -> None:
    fork = multiprocessing.get_context("fork")
    killed = fork.Process(target=lambda: obtain(store, layered(0, after)[0], Silent()))
    killed.start()
    killed.join()
    assert killed.exitcode == 9


def test_a_killed_step_goes_on_where_it_was_and_gives_what_an_undisturbed_one_gives(
    tmp_path: Path, store: Store
) -> None:
    kill(store, after=3)
    wanted, worked = layered(0)

    made = obtain(store, wanted, Silent())

    assert worked == [3, 4]
    assert made.artifact.digest == obtain(Store(tmp_path / "other"), layered(0)[0], Silent()).artifact.digest
    assert list((store.root / "resume").iterdir()) == []


def test_what_a_killed_step_left_serves_no_step_of_another_key(store: Store) -> None:
    kill(store, after=3)
    wanted, worked = layered(1)

    obtain(store, wanted, Silent())

    assert worked == [0, 1, 2, 3, 4]
    assert len(list((store.root / "resume").iterdir())) == 1
