"""A process that reads a run as JSON lines and writes it to MLflow, which only it and `mlflow_registry` import.

Each line on standard output is what is known so far, and replaces the one before. An error of MLflow ends the
process with a traceback on standard error, which the orchestrator quotes: isolation instead of catching.
"""

from __future__ import annotations

import gc
import getpass
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

from pipelines import mlflow_entries as entries
from pipelines import mlflow_registry as registry
from pipelines.mlflow_patient import patient, patiently
from pipelines.mlflow_process import database
from pipelines.promotion import Promoted
from pipelines.records import DataRecord, RunRecord, StageRecord
from pipelines.redaction import redact, secrets_of
from pipelines.tracking import (
    LINES,
    Closing,
    Comparing,
    Learning,
    Line,
    Opening,
    Progressed,
    RunStart,
    Searched,
    Searching,
    Tracked,
)

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

BATCH = 100
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # by default a server that is away costs minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


def main() -> int:
    """Read a run from standard input, write it to MLflow."""
    answers = _own_stdout()
    lines: SimpleQueue[Line | None] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    opening: Line | None = None
    try:
        import_mlflow()  # 1.7 s: while the orchestrator sets the run up, before it has anything to say
        opening = lines.get()
        if isinstance(opening, Opening):
            follow(opening, iter(lines.get, None), answers)
        elif isinstance(opening, Comparing):
            compare(opening, answers)
        elif isinstance(opening, Searching):
            search(opening, iter(lines.get, None), answers)
    except Exception:
        opening = opening or lines.get()
        if isinstance(opening, Opening):
            _report_of_the_rest(opening.home, iter(lines.get, None))
        raise
    return 0


def follow(opening: Opening, lines: Iterable[Line], answers: IO[str]) -> None:
    """Write one run. Lines that end without a closing one mean that the orchestrator was killed."""
    writer = Writer(opening.run, opening.home)
    writer.answer(answers)
    for line in lines:
        if isinstance(line, Progressed):
            writer.stage(line.record)
        elif isinstance(line, Learning):
            writer.learning(line)
        elif isinstance(line, Closing):
            with TemporaryDirectory() as scratch:
                folder = line.attachments.folder or Path(scratch)
                _report(line.run, folder, opening.home)
                writer.finish(line.run, folder, answers)
            return
    writer.abandon()


def search(opening: Searching, lines: Iterable[Line], answers: IO[str]) -> None:
    """Write one search."""
    from pipelines import mlflow_search

    def answer(tracked: Tracked) -> None:
        print(tracked.model_dump_json(), file=answers, flush=True)

    client, uri = connect(opening.home)
    mlflow_search.follow(opening, lines, client, experiment_of(client, uri, opening.home, opening.name), answer)


def compare(comparing: Comparing, answers: IO[str]) -> None:
    """Write a comparison: a parent run with the page, the chart and the records, and a child with each run's numbers.

    The runs themselves lie in experiments of their own, where MLflow nests nothing of another; a child names its run.
    """
    from pipelines.reporting.comparison_page import chart, page

    client, uri = connect(comparing.home)
    records = list(comparing.records)
    experiment = experiment_of(client, uri, comparing.home, entries.COMPARISONS)
    parent = client.create_run(experiment, run_name=" / ".join(each.name for each in records)[:250]).info.run_id
    for record in records:
        child = entries.comparison_child(record)
        tags = entries.clipped(entries.LONGEST_TAG, child.tags) | {"mlflow.parentRunId": parent}
        run = client.create_run(experiment, run_name=record.name, tags=tags).info.run_id
        for name, value in child.metrics.items():
            client.log_metric(run, name, value)
        client.set_terminated(run, entries.RUN_STATUS[record.status])
    with TemporaryDirectory() as folder:
        Path(folder, "comparison.html").write_text(page(records), encoding="utf-8")
        if png := chart(records):
            Path(folder, "comparison.png").write_bytes(png)
        text = "[" + ",\n".join(record.model_dump_json() for record in records) + "]\n"
        Path(folder, "comparison.json").write_text(text, encoding="utf-8")
        client.log_artifacts(parent, folder)
    client.set_terminated(parent, "FINISHED")
    print(Tracked(mlflow_run=parent, experiment=entries.COMPARISONS).model_dump_json(), file=answers, flush=True)


def _report_of_the_rest(home: Path, lines: Iterable[Line]) -> None:
    """The report is not MLflow's: it is written without it as well."""
    for line in lines:
        if isinstance(line, Closing) and line.attachments.folder:
            _report(line.run, line.attachments.folder, home)


def _report(run: RunRecord, folder: Path, home: Path) -> None:
    from pipelines.reporting.plots import draw
    from pipelines.reporting.report import write

    write(run, folder, draw(run, home / "mlflow" / "plots"))


class Writer:
    """One parent run in MLflow."""

    def __init__(self, start: RunStart, home: Path) -> None:
        self._start = start
        self._secrets = secrets_of(start.config_text)
        client, self._uri = connect(home)
        self._home = home
        self._experiment = experiment_of(client, self._uri, home, start.name)  # at once: it may not be there at all
        self._client = patient(client)
        name = f"{start.name}-{start.started[11:19].replace(':', '') or time.strftime('%H%M%S')}"
        tags = entries.start_tags(start) | {"mlflow.user": _user()}
        self._run_id = self._create(name, tags, entries.started_ms(start))
        champion = registry.champion(self._client, start.name) if start.promotes else None
        self._tracked = Tracked(mlflow_run=self._run_id, experiment=start.name, hint=self._hint(), champion=champion)
        self._client.log_text(self._run_id, start.config_text, "config.yaml")
        self._learning: dict[int, str] = {}

    def answer(self, answers: IO[str], **news: Any) -> None:
        """Say what is known so far."""
        self._tracked = self._tracked.model_copy(update=news)
        with suppress(BrokenPipeError):  # killed before it heard: the run still has to be marked as that
            print(self._tracked.model_dump_json(), file=answers, flush=True)

    def stage(self, record: StageRecord) -> None:
        """A nested run for one stage."""
        tags = entries.stage_tags(record)
        run_id = self._learning.pop(record.index, None) or self._nested(record.index, record.stage)
        self._log(
            run_id,
            entries.stage_params(record),
            ((name, value, 0) for name, value in entries.stage_metrics(record).items()),
            tags,
        )
        self._client.set_terminated(run_id, entries.STAGE_STATUS[record.status])
        if record.log and record.log.is_file():
            self._client.log_text(run_id, redact(entries.tail(record.log), self._secrets), f"logs/{record.log.name}")

    def learning(self, point: Learning) -> None:
        """The nested run of a stage that trains is there while it does, for its curves to be looked at."""
        if point.index not in self._learning:
            self._learning[point.index] = self._nested(point.index, point.stage)
        self._log(self._learning[point.index], {}, ((name, value, point.step) for name, value in point.values.items()))

    def finish(self, run: RunRecord, folder: Path, answers: IO[str]) -> None:
        """The parent's metrics, verdict and files; a model version when every budget passed."""
        self._end_learning()
        tags = entries.finish_tags(run) | {"mlflow.note.content": entries.description(run)}
        self._log(self._run_id, entries.run_params(self._start), entries.series(run), tags)
        if run.data:
            self._client.log_inputs(self._run_id, [_dataset(run.data)])
        self._client.set_terminated(self._run_id, entries.RUN_STATUS[run.status])
        if run.status == "passed" and run.bundle:
            self.answer(answers, model_version=self._registered(run, run.bundle))
            if run.promotion:
                self.answer(answers, not_promoted=self._promote(run, run.promotion))
        elif self._start.promotes and registry.aliases(self._client, run.name):
            registry.note(self._client, run.name, registry.outcome_line(run, None, ""))
        self._client.log_artifacts(self._run_id, str(folder))

    def abandon(self) -> None:
        """The orchestrator is gone."""
        self._end_learning()
        tags = {"verdict": "interrupted", "message": "tapeout was killed"}
        self._log(self._run_id, entries.run_params(self._start), (), tags)
        self._client.set_terminated(self._run_id, "KILLED")

    def _end_learning(self) -> None:
        """A stage of which no record came was killed in its training."""
        for run_id in self._learning.values():
            self._client.set_terminated(run_id, "KILLED")

    def _nested(self, index: int, stage: str) -> str:
        return self._create(f"{index}-{stage}", {"mlflow.parentRunId": self._run_id})

    def _create(self, name: str, tags: Mapping[str, str], started_ms: int | None = None) -> str:
        created = self._client.create_run(
            self._experiment,
            start_time=started_ms,
            run_name=name,
            tags=entries.clipped(entries.LONGEST_TAG, tags),
        )
        return str(created.info.run_id)

    def _log(
        self,
        run_id: str,
        params: Mapping[str, str],
        metrics: Iterable[tuple[str, float, int]],
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """In as few transactions as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        measured = [Metric(name, value, now, step) for name, value, step in metrics]
        chosen = [Param(*item) for item in entries.clipped(entries.LONGEST_PARAM, params).items()]
        told = [RunTag(*item) for item in entries.clipped(entries.LONGEST_TAG, tags).items()]
        for start in range(0, max(len(measured), len(chosen), len(told)), BATCH):
            part = slice(start, start + BATCH)
            self._client.log_batch(run_id, metrics=measured[part], params=chosen[part], tags=told[part])

    def _registered(self, run: RunRecord, bundle: Path) -> str:
        return patiently(lambda: self._register(run, bundle))

    def _register(self, run: RunRecord, bundle: Path) -> str:
        """The version of the run's name that holds this artifact under these budgets, made unless it is there."""
        from mlflow.exceptions import MlflowException

        last = next((stage for stage in reversed(run.stages) if not stage.unmeasured), run.stages[-1])
        budgets = "; ".join(verdict.message for verdict in last.verdicts) or "none"
        tags = {"digest": run.stages[-1].artifact or "", "verdict": run.status, "budgets": budgets[:4000]}
        try:
            self._client.create_registered_model(run.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        for known in self._client.search_model_versions(f"name = '{run.name}'"):
            if tags.items() <= known.tags.items() and self._holds(known.source, bundle):
                return f"{run.name}/{known.version}"
        source = self._source(bundle)
        made = self._client.create_model_version(run.name, source, self._run_id, tags=tags, description=tags["budgets"])
        return f"{run.name}/{made.version}"

    def _promote(self, run: RunRecord, promoted: Promoted) -> str:
        """Move the alias if the comparison says so; why it was not moved all the same, or nothing."""
        version = (self._tracked.model_version or "").rpartition("/")[2]
        against = ""
        if promoted.decision == "promoted":
            against = registry.promote(self._client, self._home, run.name, version, promoted.champion)
        decision = "kept" if against else promoted.decision
        told = {"promotion": f"{decision}: {against or promoted.reason}"[: entries.LONGEST_TAG]}
        for key, text in told.items():
            self._client.set_tag(self._run_id, key, text)
            self._client.set_model_version_tag(run.name, version, key, text)
        about = f"{told['promotion']}\n\n{self._client.get_model_version(run.name, version).tags.get('budgets', '')}"
        self._client.update_model_version(run.name, version, about)
        registry.note(self._client, run.name, registry.outcome_line(run, version, told["promotion"]))
        return against

    def _holds(self, source: str, bundle: Path) -> bool:
        return not self._on_this_machine or source == bundle.absolute().as_uri()

    def _source(self, bundle: Path) -> str:
        """The bundle where it lies; on a server, which refuses paths of other machines, a copy among its artifacts."""
        if self._on_this_machine:
            return bundle.absolute().as_uri()
        self._client.log_artifacts(self._run_id, str(bundle), "bundle")
        return f"{self._client.get_run(self._run_id).info.artifact_uri}/bundle"

    @property
    def _on_this_machine(self) -> bool:
        return not self._uri.startswith(("http://", "https://"))

    def _hint(self) -> str:
        if not self._on_this_machine:
            return f"{self._uri.rstrip('/')}/#/experiments/{self._experiment}/runs/{self._run_id}"
        return f"mlflow ui --backend-store-uri {self._uri}"


def embedded(home: Path) -> str:
    """The tracking URI of the store in Tapeout's home."""
    return f"sqlite:///{database(home)}"


def connect(home: Path) -> tuple[MlflowClient, str]:
    """A client of MLFLOW_TRACKING_URI, or of the embedded store."""
    from mlflow.tracking import MlflowClient

    uri = os.environ.get("MLFLOW_TRACKING_URI") or embedded(home)
    if uri == embedded(home):
        database(home).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri), uri


def experiment_of(client: MlflowClient, uri: str, home: Path, name: str) -> str:
    """The id of the experiment of that name, made unless it is there."""
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    # a server has a place of its own; a database would take `mlruns` of whatever folder this process was started in
    place = None if uri.startswith(("http://", "https://")) else (home / "mlflow" / "artifacts").as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def import_mlflow() -> None:
    """MLflow without what nothing here uses of it."""
    for name, text in DEFAULTS.items():
        os.environ.setdefault(name, text)
    # MLflow runs without pandas (as mlflow-skinny), which saves 0.3 s and 47 MB of an import that nothing here uses.
    sys.modules["pandas"] = None  # type: ignore[assignment]
    gc.disable()  # a fifth of the time of importing; a run is too few events to need it later
    import mlflow.tracking

    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://")):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - 0.6 s that the first connection would take


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in containers
        return ""


def _dataset(data: DataRecord) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    return DatasetInput(Dataset(**entries.dataset(data)), [InputTag("mlflow.data.context", "evaluation")])


def _own_stdout() -> IO[str]:
    """Standard output for the answers alone: MLflow prints to it."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _read(lines: SimpleQueue[Line | None]) -> None:
    """Take lines as they come, to the closing one: a full pipe would hold up the run while MLflow is imported."""
    try:
        for text in sys.stdin.buffer:
            lines.put(line := LINES.validate_json(text))
            if isinstance(line, Closing | Comparing | Searched):
                return
    finally:
        lines.put(None)


if __name__ == "__main__":
    code = main()
    gc.freeze()  # the interpreter looks for garbage once more before it ends: 0.8 s
    sys.exit(code)
