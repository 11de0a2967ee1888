"""What measured runs say of a machine, an engine and a format, in place of the defaults."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import Field

from pipelines.planner.efficiency import Efficiency, default
from pipelines.planner.formats import Format, Prior, prior
from pipelines.planner.hardware import Hardware
from pipelines.planner.shapes import Decoder
from stages.base import Frozen

NAME = "calibration.json"
ANY_FORMAT = "*"


class Fitted(Frozen):
    """One fit. `format` is `*` for the engine's own, which stands for formats that were not measured."""

    hardware: str
    engine: str
    major: str = Field("", description="the engine's major version")
    format: str
    efficiency: Efficiency


class MeasuredQuality(Frozen):
    """The median of what gates measured of one format on one model."""

    parameters: int
    format: str
    perplexity: float
    gates: int


class Calibrations(Frozen):
    """Everything that was fitted; empty until `tapeout plan --calibrate` has been run."""

    fitted: tuple[Fitted, ...] = ()
    qualities: tuple[MeasuredQuality, ...] = ()
    margins: dict[str, float] = {}

    def efficiency(self, hardware: Hardware, engine: str, form: Format, version: str = "") -> Efficiency:
        """The fit of that format, else of the engine on that machine, else the default.

        Of another major version of the engine nothing is taken; where no version is given, the newest one's fit is.
        """
        there = [item for item in self.fitted if (item.hardware, item.engine) == (hardware.key, engine)]
        newest = max((item.major for item in there), key=_order, default="")
        wanted = major(version) if version else newest
        own = {item.format: item.efficiency for item in there if item.major == wanted}
        return own.get(form.name) or own.get(ANY_FORMAT) or default(hardware, engine, form)

    def prior(self, model: Decoder, form: Format) -> Prior:
        """What three gates measured of the same size and format, else the table's prior."""
        for item in self.qualities:
            if item.format == form.name and abs(item.parameters / model.parameters - 1) < 0.02 and item.gates >= 3:
                return Prior(perplexity=item.perplexity, task=0, source=f"median of {item.gates} gates")
        return prior(form.name, model.parameters)


def major(version: str) -> str:
    """What an engine's behaviour goes with: 2026 of 2026.2.1, 0.18 of 0.18.0 (semver: below 1 a minor one breaks)."""
    first, *rest = version.split(".")
    return f"{first}.{rest[0]}" if first == "0" and rest else first


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def load(folder: Path) -> Calibrations:
    """What was fitted on this machine."""
    file = folder / NAME
    return Calibrations.model_validate(json.loads(file.read_text())) if file.is_file() else Calibrations()


def save(folder: Path, calibrations: Calibrations) -> Path:
    """Keep the calibrations for this home, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / NAME
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text(calibrations.model_dump_json(indent=1), encoding="utf-8")
    beside.replace(file)
    return file
