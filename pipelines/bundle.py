"""The deployable folder: the model, what is known of it, the config that makes it again, and how to serve it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import yaml

from pipelines.errors import TapeoutError, UserError
from pipelines.manifest import MANIFEST, BundledFile, Manifest, check_files, describe, read_manifest, sha256
from pipelines.records import RunRecord
from pipelines.redaction import redacted
from pipelines.reporting import report
from pipelines.serving import companions, links_of, serve_script
from stages._tokenizer import FILE as TOKENIZER
from stages.base import Artifact

__all__ = ["check_files", "package", "read_manifest", "serve_command"]

SCRIPT, PREDICT = "serve.sh", "predict.py"
HEADER = """# The config that made this bundle. From this folder: tapeout run config.yaml
# Relative paths start at this folder.
"""


def package(record: RunRecord, artifact: Artifact, dist: Path, config_text: str, version: str | None = None) -> Path:
    """Write `dist/<name>-<version>/` whole or not at all, and return it.

    `version` is by default the artifact's digest, shortened. A bundle of the same model is brought up to date, one
    that says the same is left as it is.

    Raises:
        TapeoutError: the run did not pass, or `artifact` is not its result.
        UserError: another model, or something changed by hand, lies in the bundle's place.
    """
    _insist_on_pass(record, artifact)
    record = redacted(record, record.config_text)
    version = version or artifact.digest[:12]
    bundle = dist / f"{record.name}-{version}"
    dist.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(dist, bundle.name)
    known = _known(bundle, artifact)
    work = dist / f".{bundle.name}.{os.getpid()}"
    try:
        config = HEADER + _moved(config_text, Path(record.config_path).parent, bundle)
        manifest = _fill(work, record, artifact, version, config, bundle if known else None)
        if known and _says_the_same(known, manifest):
            return bundle
        _publish(work, bundle)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return bundle


def serve_command(bundle: Path) -> str | None:
    """The command that serves a bundle, or runs it; None where nothing here does that with its kind."""
    if (bundle / SCRIPT).is_file():
        return str(bundle / SCRIPT)
    given = "TEXT" if (bundle / TOKENIZER).is_file() else "IMAGE"
    return f"python {bundle / PREDICT} {given}..." if (bundle / PREDICT).is_file() else None


def _insist_on_pass(record: RunRecord, artifact: Artifact) -> None:
    failed = [verdict.message for stage in record.stages for verdict in stage.verdicts if not verdict.passed]
    if record.status != "passed" or failed:
        reason = failed[0] if failed else f"the run {record.status}"
        raise TapeoutError(f"{record.name} is not packaged: {reason}", "only a run within every budget is packaged")
    if not record.stages or record.stages[-1].artifact != artifact.digest:
        raise TapeoutError(f"{record.name} is not packaged: {artifact.digest[:12]} is not the run's last artifact")


def _known(bundle: Path, artifact: Artifact) -> Manifest | None:
    if not bundle.exists():
        return None
    way_out = f"move {bundle} away, or set `version` in the config"
    if not (bundle / MANIFEST).is_file():
        raise UserError(f"{bundle} exists and is no bundle", way_out)
    known = read_manifest(bundle)
    if known.artifact != artifact.digest:
        raise UserError(f"{bundle} holds another model: {known.artifact[:12]}, not {artifact.digest[:12]}", way_out)
    if changed := _changed_since(bundle, known):
        raise UserError(f"{bundle} was changed since it was packaged: {', '.join(changed)}", way_out)
    return known


def _changed_since(bundle: Path, known: Manifest) -> list[str]:
    """By size and time alone, which costs nothing for a model of many gigabytes; `tapeout verify` hashes them."""
    packaged = (bundle / MANIFEST).stat().st_mtime_ns
    found = {str(path.relative_to(bundle)): path.stat() for path in bundle.rglob("*") if path.is_file()}
    found.pop(MANIFEST)
    same = {
        name
        for name, file in known.files.items()
        if name in found and found[name].st_size == file.size_bytes and found[name].st_mtime_ns <= packaged
    }
    return sorted((found.keys() | known.files.keys()) - same)


def _fill(
    work: Path, record: RunRecord, artifact: Artifact, version: str, config: str, earlier: Path | None
) -> Manifest:
    """Everything into the work folder, the manifest last."""
    work.mkdir()
    files = _linked(earlier, artifact.path, work) if earlier else _copied(artifact.path, work)
    texts = {"config.yaml": config, "report.md": report.markdown(record)}
    if script := serve_script(artifact):
        texts[SCRIPT] = script
    texts |= companions(artifact, record)
    links = links_of(artifact, record)
    if taken := files.keys() & {*texts, *links, MANIFEST}:
        raise TapeoutError(f"the model has a file of its own named {', '.join(sorted(taken))}, which a bundle needs")
    for name, text in texts.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text, encoding="utf-8")
        files[name] = _file(work / name)
    for name, place in links.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).symlink_to(place)
        files[name] = _file(work / name)
    if script:
        (work / SCRIPT).chmod(0o755)
    manifest = describe(record, artifact, version, dict(sorted(files.items())))
    (work / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return manifest


def _copied(model: Path, work: Path) -> dict[str, BundledFile]:
    """Ordinary files of the user's own: a hard link would let an edit of the bundle damage the store."""
    files = {}
    for source in sorted(path for path in model.rglob("*") if path.is_file()):
        name = str(source.relative_to(model))
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, work / name)
        files[name] = _file(work / name)
    return files


def _linked(earlier: Path, model: Path, work: Path) -> dict[str, BundledFile]:
    """The same model's files out of the earlier bundle, which the new one replaces."""
    described = read_manifest(earlier).files
    names = [str(path.relative_to(model)) for path in sorted(model.rglob("*")) if path.is_file()]
    for name in names:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(earlier / name, work / name)
    return {name: described[name] for name in names}


def _file(path: Path) -> BundledFile:
    return BundledFile(size_bytes=path.stat().st_size, sha256=sha256(path))


def _says_the_same(known: Manifest, manifest: Manifest) -> bool:
    """The date, and the report that names it, are all that differs."""
    same = known.model_copy(update={"created": manifest.created, "files": known.files | _report_of(manifest)})
    return same == manifest


def _report_of(manifest: Manifest) -> dict[str, BundledFile]:
    return {name: file for name, file in manifest.files.items() if name == "report.md"}


def _publish(work: Path, bundle: Path) -> None:
    replaced = work.with_name(f"{work.name}.old")
    if bundle.exists():
        bundle.rename(replaced)
    work.rename(bundle)
    shutil.rmtree(replaced, ignore_errors=True)


def _clear_leftovers(dist: Path, name: str) -> None:
    """What a killed run left beside the bundle."""
    for path in dist.iterdir():
        match = re.fullmatch(rf"\.{re.escape(name)}\.(\d+)(\.old)?", path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _moved(config_text: str, folder: Path, bundle: Path) -> str:
    """The config with its relative paths made to start at the bundle."""
    for path in sorted(_relative_paths(yaml.safe_load(config_text)), key=len, reverse=True):
        moved, key = os.path.relpath(folder / path, bundle), r"\b(?:path|python):\s*[\"']?"
        config_text = re.sub(rf"({key}){re.escape(path)}(?=[\"'\s,:}}]|$)", rf"\g<1>{moved}", config_text)
    return config_text


def _relative_paths(tree: object) -> set[str]:
    if isinstance(tree, list):
        return set().union(*map(_relative_paths, tree))
    if not isinstance(tree, dict):
        return set()
    python = str(tree.get("python", "")).partition(":")[0]
    named = [tree.get("path"), python if python.endswith(".py") else None]
    own = {path for path in named if isinstance(path, str) and not Path(path).is_absolute() and "${" not in path}
    return own.union(*map(_relative_paths, tree.values()))
