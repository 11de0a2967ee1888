"""A bundle checked against its manifest, and its gate replayed on this machine from nothing but its config."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from pipelines import plan
from pipelines.beside import TEACHER
from pipelines.bundle import check_files, read_manifest
from pipelines.chain import Chain
from pipelines.comparing import Candidate, Comparison, compare
from pipelines.data.reading import read_data
from pipelines.errors import UserError
from pipelines.further_models import draft_chain, make_draft
from pipelines.launch import run_folder, workshop
from pipelines.measurers import measurer_of
from pipelines.measuring import Subject
from pipelines.parsing import parse
from pipelines.progress import Progress
from pipelines.standing import Standing
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
    chain = Chain.of(loaded, planned, shop)
    with shop.store.in_use(), tempfile.TemporaryDirectory(prefix="tapeout-verify-") as scratch:
        model = chain.fetch()
        data = read_data(loaded, shop.store, shop.home / "data", progress)
        now = Standing.at_first(model, data)
        for step in planned.steps[: planned.reference]:
            if not step.beside:
                now = chain.advance(step, now)
        drafting = draft_chain(chain)
        draft = make_draft(drafting, now.given({TEACHER: now.model})) if drafting else None
        fresh = replace(shop, store=Store(Path(scratch) / "store"))
        reference = Subject(now.model, loaded.config.reference)
        with measurer_of(data, loaded.config, fresh, reference) as measurer:
            return compare(measurer, _candidate(bundle, chain, draft))[0]


def _candidate(bundle: Path, chain: Chain, draft: Artifact | None) -> Candidate:
    manifest, last = read_manifest(bundle), chain.plan.steps[-1]
    if last.opener is None:
        raise UserError(f"{bundle}: nothing here opens {last.gives}", last.unmeasured or "tapeout ls targets")
    artifact = Artifact(kind=last.gives, path=bundle.absolute(), digest=manifest.artifact)
    return Candidate(
        subject=Subject(artifact, last.opener),
        stage=last.step.name,
        size_bytes=round(manifest.metrics["size_bytes"].value),
        reference_bytes=chain.history.records[-1].size_bytes,
        deployable=True,
        draft=draft,
    )
