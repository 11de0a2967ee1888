"""Checkpoints that a hub or a model registry names: a new commit, a new version."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import SourceError
from pipelines.fetching.addresses import failures
from pipelines.progress import Silent
from pipelines.watching.content import digest_of
from pipelines.watching.finding import Found
from pipelines.watching.pace import Pace
from pipelines.watching.trigger import HfTrigger, MlflowTrigger


@dataclass
class HubFinder:
    """The commit behind a revision, downloaded when it is another than at the last look."""

    trigger: HfTrigger
    incoming: Path
    _given: str = ""
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.trigger.every_s)

    def look(self) -> Iterator[Found]:
        """The repository's files at the revision, if its commit is new."""
        if not self._pace.due():
            return
        from pipelines.fetching import hub

        name = self.trigger.hf
        commit = hub.commit_of(name, self.trigger.revision)
        if commit == self._given:
            return
        try:
            work = _emptied(self.incoming / ".part")
            hub.download_model(name, commit, self.trigger.files, work, Silent())
            found = _kept(work, self.incoming, f"{name}@{commit[:12]}")
        except OSError as error:
            raise SourceError(f"hf: {name}: cannot be kept: {error.strerror}", "it is looked for again") from error
        yield found
        self._given = commit  # once it is remembered


@dataclass
class MlflowFinder:
    """Versions of a registered model: every one, or whichever carries an alias."""

    trigger: MlflowTrigger
    home: Path
    incoming: Path
    _given: set[str] = field(default_factory=set)
    _pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.trigger.every_s)

    def look(self) -> Iterator[Found]:
        """The versions that were not given before, the oldest first."""
        if not self._pace.due():
            return
        from pipelines.tracking.connection import connect, import_mlflow

        import_mlflow()
        gc.enable()  # which the import turned off, for processes that end soon
        from mlflow.exceptions import MlflowException

        try:
            connection = connect(self.home)
            for version, place in _versions(connection.client, self.trigger):
                if version in self._given:
                    continue
                found = self._fetched(version, place, connection.uri)
                yield found
                self._given.add(version)  # once it is remembered
        except MlflowException as error:
            raise self._unread(error) from error
        except failures() as error:
            raise self._unread(error) from error

    def _unread(self, error: Exception) -> SourceError:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        return SourceError(f"mlflow: {self.trigger.mlflow}: cannot be read: {reason}", "it is looked for again")

    def _fetched(self, version: str, place: str, uri: str) -> Found:
        from mlflow.artifacts import download_artifacts

        work = _emptied(self.incoming / ".part")
        inside = f"{place.rstrip('/')}/{self.trigger.file}" if self.trigger.file else place
        got = Path(download_artifacts(artifact_uri=inside, dst_path=str(work), tracking_uri=uri))
        return _kept(got, self.incoming, f"{self.trigger.mlflow}/{version}")


def _versions(client: object, trigger: MlflowTrigger) -> list[tuple[str, str]]:
    """Number and place of each version that the trigger means, in order."""
    name = trigger.mlflow
    if trigger.alias:
        numbers = [str(client.get_model_version_by_alias(name, trigger.alias).version)]  # type: ignore[attr-defined]
    else:
        known = client.search_model_versions(f"name = '{name}'")  # type: ignore[attr-defined]
        numbers = [str(number) for number in sorted(int(version.version) for version in known)]
    return [(number, client.get_model_version_download_uri(name, number)) for number in numbers]  # type: ignore[attr-defined]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _kept(got: Path, incoming: Path, name: str) -> Found:
    """Moved to a folder named by its bytes, which later looks never write to; a lone GGUF file is the checkpoint."""
    files = [path for path in got.rglob("*") if path.is_file()] if got.is_dir() else []
    if len(files) == 1 and files[0].suffix == ".gguf":
        got = files[0]
    digest = digest_of(got, None)
    place = incoming / digest / (got.name if got.is_file() else "model")
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(got, place)
    return Found(name, place.absolute(), digest)
