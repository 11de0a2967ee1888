"""A checkpoint whose place other bytes take before its run has read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from commanding import Command, home, tapeout
from landings import Landing, landing
from loopback import GGUF, hf_folder, safetensors

from pipelines.config import LoadedConfig
from pipelines.errors import SourceError
from pipelines.making import Recipe, obtain
from pipelines.origin import source_recipe
from pipelines.outcome import Outcome
from pipelines.parsing import parse
from pipelines.progress import Progress, Silent
from pipelines.store import Store, WorkFolder
from pipelines.watching.attempt import attempt
from pipelines.watching.content import digest_of
from pipelines.watching.landed import Landed, Replaced
from pipelines.watching.ledger import Ledger
from pipelines.watching.source import overrides_for
from stages.base import Produced

__all__ = ["home", "landing", "tapeout"]
RETRAINED = GGUF[:-1] + b"\1"


class Fetch:
    """A checkpoint as it was found, and its fetch into a store."""

    def __init__(self, landing: Landing, checkpoint: Path) -> None:
        self.store, self.digest = Store(landing.home / "store"), digest_of(checkpoint, ".done")
        self.kind = "hf" if checkpoint.is_dir() else "gguf"
        its = overrides_for(landing.loaded.config, checkpoint, self.digest)
        self.landed = Landed(parse(landing.loaded.path, its), self.digest)

    def __call__(self) -> Path:
        recipe = self.landed.fetching(self.landed.loaded, self.kind, Silent())
        return obtain(self.store, recipe, Silent()).artifact.path

    def refused(self) -> str:
        with pytest.raises(Replaced) as caught:
            self()
        assert self.store.ls() == []
        return caught.value.message


def test_a_file_that_was_replaced_is_not_run_under_the_old_digest(landing: Landing) -> None:
    file = landing.landing / "latest.gguf"
    file.write_bytes(GGUF)
    fetch = Fetch(landing, file)
    file.write_bytes(RETRAINED)

    assert fetch.refused() == (
        f"{file}: replaced while it was being fetched: it was {fetch.digest[:12]}, now {digest_of(file, None)[:12]}"
    )
    file.write_bytes(GGUF)
    assert (fetch() / "latest.gguf").read_bytes() == GGUF


def retrain(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(safetensors(8))


def test_a_folder_that_was_replaced_is_not_run(landing: Landing) -> None:
    folder = hf_folder(landing.landing / "latest")
    fetch = Fetch(landing, folder)
    retrain(folder)

    assert fetch.refused().startswith(f"{folder}: replaced while it was being fetched: ")


def test_a_folder_that_is_replaced_after_it_was_copied_is_not_run_either(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hf_folder(landing.landing / "latest")
    fetch = Fetch(landing, folder)

    def meanwhile(loaded: LoadedConfig, kind: str, progress: Progress) -> Recipe:
        recipe = source_recipe(loaded, kind, progress)

        def make(work: WorkFolder) -> Produced:
            produced = recipe.make(work)
            retrain(folder)
            return produced

        return replace(recipe, make=make)

    monkeypatch.setattr("pipelines.watching.landed.source_recipe", meanwhile)

    assert fetch.refused().startswith(f"{folder}: replaced while it was being fetched: ")


def test_a_folder_is_the_same_with_and_without_its_marker(landing: Landing) -> None:
    folder = hf_folder(landing.landing / "latest")
    fetch = Fetch(landing, folder)
    (folder / ".done").touch()

    assert (fetch() / "model.safetensors").is_file()


def test_a_checkpoint_that_is_gone_says_so(landing: Landing) -> None:
    file = landing.drop("latest.gguf", "bytes")
    fetch = Fetch(landing, file)
    file.unlink()

    with pytest.raises(SourceError, match=r"latest\.gguf: gone before it was fetched") as caught:
        fetch()
    assert not isinstance(caught.value, Replaced)


def test_another_model_than_the_checkpoint_is_fetched_as_ever(landing: Landing) -> None:
    file = landing.landing / "latest.gguf"
    file.write_bytes(GGUF)
    fetch = Fetch(landing, file)
    (landing.loaded.folder / "model.gguf").write_bytes(RETRAINED)
    recipe = fetch.landed.fetching(landing.loaded, "gguf", Silent())

    assert (obtain(fetch.store, recipe, Silent()).artifact.path / "model.gguf").read_bytes() == RETRAINED


def test_what_was_replaced_is_decided_at_once_and_runs_when_its_bytes_land_again(landing: Landing) -> None:
    watcher = landing.watcher()
    landing.drop("latest.gguf", "bytes")
    watcher.step()
    digest = watcher.ledger.all()[0].digest

    def refuse(its: tuple[str, ...]) -> Outcome:
        raise Replaced("latest.gguf: replaced while it was being fetched")

    with pytest.raises(Replaced):
        attempt(watcher.ledger, digest, refuse)
    landing.drop("latest.gguf", "other bytes")
    watcher.step()
    assert [known.state for known in watcher.ledger.all()] == ["replaced", "announced"]

    landing.decide(2)
    landing.drop("again.gguf", "bytes")
    watcher.step()

    known = watcher.ledger.all()[0]
    assert (known.state, known.attempts) == ("announced", 0)
    assert known.overrides == (f"source={{path: '{landing.landing / 'again.gguf'}', sha256: '{digest}'}}",)


def test_a_run_on_what_was_replaced_ends_with_the_reason(tapeout: Command, home: Path, landing: Landing) -> None:
    file = landing.drop("latest.gguf", "bytes")
    ledger, digest = Ledger(home, "small"), digest_of(file, None)
    ledger.add(digest, file.name, overrides_for(landing.loaded.config, file, digest))
    file.write_bytes(GGUF)

    ended = tapeout("run", landing.loaded.path, "--checkpoint", digest, "--no-mlflow", "--no-prefect")

    assert ended.code == 2
    (known,) = ledger.all()
    assert (known.state, known.attempts) == ("replaced", 1)
    assert known.reason.startswith(f"{file}: replaced while it was being fetched: ")
