"""What of a run and its stages becomes which MLflow tag."""

from __future__ import annotations

from pipelines.measures import DeviceFacts
from pipelines.records import DataRecord, RunRecord, StageRecord
from pipelines.tracking.lines import RunStart


def start_tags(run: RunStart) -> dict[str, str]:
    """Where the run came from and where it ran."""
    git = {"git_commit": run.git_commit, "mlflow.source.git.commit": run.git_commit} if run.git_commit else {}
    return {key: text for key, text in git.items() if text} | {
        "config": run.config_path,
        "config_digest": run.config_digest,
        "mlflow.source.name": run.config_path,
        "mlflow.source.type": "JOB",
        **device_tags(run.device),
    }


def device_tags(device: DeviceFacts) -> dict[str, str]:
    """The machine that the numbers were taken on."""
    return {
        "device": device.cpu if not device.gpus else f"{device.gpus[0]} ({device.cpu})",
        "device_identity": device.identity,
        "system": device.system,
    }


def stage_tags(record: StageRecord) -> dict[str, str]:
    """What came out of a stage, out of what, made by which versions of the tools."""
    judged = {f"verdict.{verdict.metric}": verdict.message for verdict in record.verdicts}
    versions = {f"tool.{name}": version for name, version in record.tool_versions.items()}
    named = {
        "artifact_digest": record.artifact or "",
        "parents": " ".join(record.parents),
        "message": record.message,
        "notes": "; ".join(record.notes),
    }
    told = {name: text for name, text in named.items() if text}
    return (
        told
        | judged
        | versions
        | {"stage": record.stage, "cached": str(record.cached).lower(), "verdict": word(record)}
    )


def finish_tags(run: RunRecord) -> dict[str, str]:
    """Whether it passed; if not, which stage it halted at; and what it leaves."""
    last = next((record for record in reversed(run.stages) if record.artifact), None)
    halted = next((record.stage for record in run.stages if record.status != "completed"), None)
    named = {
        "verdict": run.status,
        "halted_stage": halted,
        "message": run.message,
        "artifact_digest": last.artifact if last else None,
        "parents": " ".join(last.parents) if last else None,
        "last_passed": run.last_passed,
        "bundle": str(run.bundle) if run.bundle else None,
        "prefect_run": run.prefect_run,
        "data": _told(run.data) if run.data else None,
    }
    # the tools' versions are on the stages' runs: fifty of them here push all else off the page
    return {name: text for name, text in named.items() if text}


def _told(data: DataRecord) -> str:
    return f"{data.name} ({f'{data.tokens} tokens' if data.tokens else f'{data.documents} examples'})"


def word(record: StageRecord) -> str:
    """The stage's verdict in one word."""
    if record.status != "completed":
        return record.status
    if record.unmeasured:
        return "not measured on this device"
    if not record.verdicts:
        return "not judged"
    return "flagged" if any(verdict.flagged for verdict in record.verdicts) else "passed"
