"""What a watch of a folder finds, remembers and announces."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from landings import Landing, landing

from configs import RIGHT
from pipelines.errors import UserError
from pipelines.fields.source import PathSource
from pipelines.parsing import parse
from pipelines.watching.content import digest_of
from pipelines.watching.finding import FolderFinder
from pipelines.watching.ledger import Ledger
from pipelines.watching.source import overrides_for
from pipelines.watching.trigger import FolderTrigger
from pipelines.watching.watcher import finder_of

__all__ = ["landing"]
MARKED = FolderTrigger(folder=Path("landing"), marker=".done")


def test_a_checkpoint_starts_a_run_once_its_marker_is_there(landing: Landing) -> None:
    watcher = landing.watcher()
    checkpoint = landing.drop("a.gguf", "half", marker="")
    watcher.step()
    assert landing.announced == []

    checkpoint.write_text("whole")
    (landing.landing / "a.gguf.done").touch()
    watcher.step()
    watcher.step()

    assert landing.announced == ["a.gguf"]
    (known,) = Ledger(landing.home, "small").all()
    assert known.overrides == (f"source={{path: '{checkpoint}', sha256: '{known.digest}'}}",)


def test_a_folder_is_whole_with_a_marker_inside_which_is_no_part_of_its_bytes(tmp_path: Path) -> None:
    finder, folder = FolderFinder(MARKED, tmp_path), tmp_path / "landing" / "step-100"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("whole")
    assert list(finder.look()) == []

    (folder / ".done").touch()
    (found,) = finder.look()
    (folder / ".done").unlink()

    assert found.digest == digest_of(folder, None)


def test_without_a_marker_a_checkpoint_is_whole_after_a_quiet_period(tmp_path: Path) -> None:
    trigger = FolderTrigger(folder=tmp_path / "landing", quiet_s=0.3)
    finder, file = FolderFinder(trigger, tmp_path), tmp_path / "landing" / "a.gguf"
    file.parent.mkdir()
    with file.open("w") as writing:
        for _ in range(4):
            writing.write("part")
            writing.flush()
            assert list(finder.look()) == []
            time.sleep(0.1)
    assert list(finder.look()) == []
    time.sleep(0.35)

    assert [found.name for found in finder.look()] == ["a.gguf"]


def test_an_old_file_time_makes_nothing_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_text("half")
    os.utime(file, (1, 1))

    assert list(FolderFinder(FolderTrigger(folder=tmp_path, quiet_s=5), tmp_path).look()) == []


def test_two_that_land_together_run_one_after_the_other_in_order(landing: Landing) -> None:
    watcher = landing.watcher()
    for age, name in ((20, "first.gguf"), (10, "second.gguf")):
        os.utime(landing.drop(name, name, marker=""), (time.time() - age,) * 2)
        (landing.landing / f"{name}.done").touch()

    watcher.step()
    watcher.step()
    assert landing.announced == ["first.gguf"]
    landing.decide(1)
    watcher.step()

    assert landing.announced == ["first.gguf", "second.gguf"]


def test_the_same_bytes_under_a_new_name_start_no_run_not_even_after_a_restart(landing: Landing) -> None:
    landing.drop("a.gguf", "bytes")
    landing.watcher().step()
    landing.decide()
    landing.drop("b.gguf", "bytes")

    landing.watcher().step()

    assert landing.announced == ["a.gguf"]
    assert landing.states() == {"a.gguf": "passed"}
    assert [line.partition(", sha256")[0] for line in landing.said[-2:]] == [
        "a.gguf: the same bytes as a.gguf",
        "b.gguf: the same bytes as a.gguf",
    ]


def test_new_bytes_under_an_old_name_are_a_new_checkpoint(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("latest.gguf", "bytes")
    watcher.step()
    landing.decide()
    landing.drop("latest.gguf", "other bytes")

    watcher.step()

    assert landing.announced == ["latest.gguf", "latest.gguf"]


def test_a_folder_that_disappears_is_said_once_and_watched_again(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.landing.rmdir()
    watcher.step()
    watcher.step()
    landing.landing.mkdir()
    landing.drop("a.gguf", "bytes")
    watcher.step()

    assert landing.said[0] == f"{landing.landing}: cannot be watched: No such file or directory"
    assert landing.said[2] == "small: can be watched again"
    assert landing.announced == ["a.gguf"]


@pytest.mark.slow
def test_a_run_that_was_killed_is_started_again_and_the_third_time_set_aside(tmp_path: Path) -> None:
    landing = Landing(tmp_path, "{folder: landing, marker: .done, retry_after_s: 0}")
    watcher = landing.watcher()
    landing.drop("a.gguf", "bytes")
    watcher.step()
    digest = watcher.ledger.all()[0].digest
    script = (
        "import os, sys; from pathlib import Path; from pipelines.watching.ledger import Ledger\n"
        f"ledger = Ledger(Path({str(landing.home)!r}), 'small')\n"
        f"with ledger.claimed({digest!r}) as known:\n"
        "    ledger.update(known.digest, state='running', attempts=known.attempts + 1); os.kill(os.getpid(), 9)\n"
    )
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
        watcher.step()

    assert landing.announced == ["a.gguf"] * 3
    (known,) = watcher.ledger.all()
    assert (known.state, known.attempts, known.reason) == ("aside", 3, "its run was killed")


def test_a_config_without_a_trigger_cannot_be_watched(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    (tmp_path / "a.yaml").write_text(RIGHT)

    with pytest.raises(UserError, match="there is no `trigger` to watch"):
        finder_of(parse(tmp_path / "a.yaml"), tmp_path)


def test_a_licence_stays_with_the_model_and_a_quote_in_a_name_is_harmless(landing: Landing) -> None:
    source = PathSource(path=Path("model.gguf"), licence="Apache-2.0")
    config = landing.loaded.config.model_copy(update={"source": source})

    (override,) = overrides_for(config, Path("/in/it's.gguf"), "d" * 64)
    loaded = parse(landing.loaded.path, [override])

    assert loaded.config.source == PathSource(path=Path("/in/it's.gguf"), licence="Apache-2.0")


def test_downloads_of_decided_checkpoints_are_removed_but_for_the_latest(landing: Landing) -> None:
    watcher = landing.watcher()
    for number in range(8):
        watcher.ledger.add(f"{number}", f"{number}.gguf", ())
        place = watcher.ledger.folder / "incoming" / f"{number}"
        place.mkdir(parents=True)
        (place / "model.gguf").write_text("bytes")
    for number in range(7):
        landing.decide(number + 1)

    watcher.step()

    assert sorted(place.name for place in (watcher.ledger.folder / "incoming").iterdir()) == [
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
    ]
