"""What the planner expects of a point: size, time between tokens, and what is known of its format's quality."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from pipelines.config import PipelineConfig
from pipelines.errors import UserError
from pipelines.fields.evaluation import Speed
from pipelines.planner import hardware, reading
from pipelines.planner.calibrations import Calibrations, load
from pipelines.planner.formats import Format
from pipelines.planner.hardware import Hardware
from pipelines.planner.shapes import Decoder
from pipelines.planner.sightings import Sighting, engine_of, format_of, predictions
from pipelines.searching.trials import Forecast
from stages._imatrix import KIND as IMATRIX
from stages.base import name_of

PRECISIONS = ("type", "mode", "precision", "outtype")
"""Fields in which stages say what weights are stored in."""
GROUPS = ("group_size", "block_size")


@dataclass(frozen=True)
class Forecaster:
    """Predicts the points of one model on this machine."""

    model: Decoder
    machine: Hardware
    known: Calibrations
    companions: int = 0

    @classmethod
    def of(cls, source: Path, home: Path) -> Forecaster | None:
        """For a fetched model; None where the planner has no formulas for it."""
        try:
            files = sorted(source.glob("*.gguf"))
            model = reading.from_gguf(files[0]) if files else reading.from_folder(source)
        except UserError:
            return None
        return cls(model, hardware.detected(home / "planner"), load(home / "planner")) if isinstance(
            model, Decoder
        ) else None  # fmt: skip

    def forecast(self, config: PipelineConfig) -> Forecast:
        """What is expected of the config's last artifact; nothing of a format that is unknown."""
        form, target = format_of_steps(config)
        if form is None:
            return Forecast()
        speed = config.evaluation.speed or Speed()
        engine = engine_of(target)
        seen = Sighting(
            hardware=self.machine,
            engine=engine,
            format=form,
            model=self.model,
            prompts=speed.prompt_tokens,
            tokens=speed.tokens,
            context=max(speed.prompt_tokens) + speed.tokens,
            companions=self.companions,
        )
        found = predictions(seen, self.known.efficiency(self.machine, engine, form), self.known)
        return Forecast(
            size_bytes=found["size_bytes"],
            tbt_p50_ms=found["tbt_p50_ms"],
            perplexity_change=found.get("perplexity_change"),
            prior=self._prior(form),
        )

    def _prior(self, form: Format) -> str:
        try:
            return self.known.prior(self.model, form).source
        except KeyError:
            return ""


def format_of_steps(config: PipelineConfig) -> tuple[Format | None, str]:
    """The format that the steps end in, as far as their fields say it, and the target that runs it."""
    kind, known, target = "", dict[str, JsonValue](), ""
    for step in config.steps:
        stage, fields = step.stage, step.stage.model_dump(mode="json")
        if type(stage).beside:
            known |= {"imatrix_tokens": 1} if type(stage).produces == IMATRIX else {}
            continue
        kind, target = type(stage).produces, name_of(stage) if hasattr(stage, "open") else target
        said = next((fields[name] for name in PRECISIONS if isinstance(fields.get(name), str)), None)
        known |= {"precision": said} if said is not None else {}
        group = next((fields[name] for name in GROUPS if isinstance(fields.get(name), int)), None)
        known |= {"group_size": group} if group is not None else {}
        known |= {"symmetric": "asym" not in str(said)} if "sym" in str(said) else {}
    return format_of(kind, known, {}), target
