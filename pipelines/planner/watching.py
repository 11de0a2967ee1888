"""Predicts what a run is about to measure, so that every run tests the planner."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from pipelines.errors import UserError
from pipelines.fields.evaluation import Evaluation
from pipelines.measures import Report
from pipelines.planner import calibrations, hardware
from pipelines.planner.efficiency import Efficiency
from pipelines.planner.reading import from_folder
from pipelines.planner.shapes import Decoder
from pipelines.planner.sightings import GENAI, Sighting, compared, engine_of, figures, format_of, version_of
from stages.base import Artifact

GRAPH_BYTES = 7550
WEIGHTS = (".safetensors", ".bin", ".gguf", ".onnx", ".data")


def sighting(
    home: Path,
    reference: Artifact,
    candidate: Artifact,
    fields: Mapping[str, JsonValue],
    target: str,
    evaluation: Evaluation,
    report: Report,
    size: int,
    versions: Mapping[str, str],
) -> Sighting | None:
    """The prediction beside the measurement; None for what the planner has no formulas for.

    `fields` are those of the stage that made the candidate, `versions` of the packages that ran it.
    """
    form = format_of(candidate.kind, candidate.facts, fields)
    if evaluation.speed is None or form is None or not (reference.path / "config.json").is_file():
        return None
    try:
        model = from_folder(reference.path)
    except UserError:
        return None  # no decoder: nothing is predicted of it
    speed = evaluation.speed
    machine = hardware.detected(home / "planner")
    known = calibrations.load(home / "planner")
    engine = engine_of(target)
    version = version_of(engine, versions)
    reached = known.efficiency(machine, engine, form, version)
    longest = max(speed.prompt_tokens) + speed.tokens
    seen = Sighting(
        hardware=machine,
        engine=engine,
        engine_version=version,
        format=form,
        model=model,
        prompts=speed.prompt_tokens,
        tokens=speed.tokens,
        context=max(longest, evaluation.perplexity.window if evaluation.perplexity else 0, 512),
        companions=_companions(reference.path) + tables_bytes(candidate.kind, model, form.bits),
        calibrated=reached.calibrated,
        catalogue=hardware.catalogue_version(),
    )
    values = tuple(compared(seen, reached, known, figures(report.metrics, size)))
    return seen.model_copy(update={"values": values, "plan": _digest(seen, reached)})


def _digest(seen: Sighting, reached: Efficiency) -> str:
    """Of all that a prediction comes from: model, machine, format, workload, efficiencies."""
    text = seen.model_dump_json() + reached.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tables_bytes(kind: str, model: Decoder, bits: int) -> int:
    """What ONNX Runtime GenAI's builder writes beside the weights: rotary tables over the longest context, float32; the
    graph; and at 8 bits the embedding in float32, since its head alone is quantized.

    Measured on SmolLM2-135M, onnxruntime-genai 0.18: 7.55 kB of graph a layer; predicted sizes are then off by 0.1%.
    """
    if kind != GENAI:
        return 0
    rotary = 4 * (model.max_context or 0) * model.head_dim
    return rotary + GRAPH_BYTES * model.layers + (4 * model.head if bits == 8 and model.tied else 0)


def _companions(folder: Path) -> int:
    """Bytes of the tokenizer and the configuration, which a folder of weights has beside them."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in WEIGHTS)
    return sum(path.stat().st_size for path in files)
