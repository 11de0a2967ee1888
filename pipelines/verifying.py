"""A bundle checked against its manifest, and its gate replayed on this machine from nothing but its config."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from pipelines import plan
from pipelines.beside import TEACHER
from pipelines.bundle import check_files, read_manifest
from pipelines.comparing import Candidate, Comparison, compare
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.launch import run_folder, workshop
from pipelines.measuring import Subject
from pipelines.pipeline import Pipeline, beside_at_first
from pipelines.progress import Progress
from pipelines.store import Store
from stages.base import Artifact


def check_bundle(bundle: Path) -> int:
    """Compare every file with the manifest; how many there are.

    Raises:
        UserError: a file is missing, changed or new.
    """
    problems = check_files(bundle)
    if problems:
        raise UserError("\n".join(f"{bundle}: {problem}" for problem in problems), "package it again: tapeout run")
    return len(read_manifest(bundle).files)


def replay(bundle: Path, progress: Progress) -> Comparison:
    """Measure the bundled model against its reference, made again or taken from the store, with fresh measurements."""
    loaded = parse(bundle / "config.yaml")
    planned = plan.check(loaded)
    shop = workshop(loaded, run_folder(loaded), progress)
    pipeline = Pipeline(loaded, planned, shop)
    with shop.store.in_use(), tempfile.TemporaryDirectory(prefix="tapeout-verify-") as scratch:
        model = pipeline.fetch()
        data = pipeline.read_data()
        for step in planned.steps[: planned.reference]:
            if not step.beside:
                model = pipeline.advance(step, model, beside_at_first(data))
        fresh = Pipeline(loaded, planned, replace(shop, store=Store(Path(scratch) / "store")))
        draft = pipeline.draft(model, {TEACHER: model, **beside_at_first(data)})
        with fresh.measurer(model, data) as measurer:
            return compare(measurer, _candidate(bundle, pipeline, planned, draft))[0]


def _candidate(bundle: Path, pipeline: Pipeline, planned: plan.Plan, draft: Artifact | None) -> Candidate:
    manifest, last = read_manifest(bundle), planned.steps[-1]
    if last.opener is None:
        raise UserError(f"{bundle}: nothing here opens {last.gives}", last.unmeasured or "tapeout ls targets")
    artifact = Artifact(kind=last.gives, path=bundle.absolute(), digest=manifest.artifact)
    return Candidate(
        subject=Subject(artifact, last.opener),
        stage=last.step.name,
        size_bytes=round(manifest.metrics["size_bytes"].value),
        reference_bytes=pipeline.records[-1].size_bytes,
        deployable=True,
        draft=draft,
    )
