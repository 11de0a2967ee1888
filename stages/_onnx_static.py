"""Static INT8 of a prepared graph: ranges by the best of several methods, and the worst layers returned to float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from stages import _onnx_back_off_told as told
from stages._inputs import Inputs
from stages._onnx_back_off import Backed, BackOff, backed_off
from stages._onnx_calibrate import Calibration, ranges, refuse_beyond_memory
from stages._onnx_file import read
from stages._onnx_graph import Graph
from stages._onnx_judge import Judge, Judged, Split, best, split
from stages._onnx_quantize import static
from stages.base import Context, Frozen, Table


class Manner(Frozen):
    """How to quantize. Of several calibrations the best is taken; `judging` is the share of examples that decide."""

    calibrations: tuple[Calibration, ...]
    per_channel: bool
    symmetric: bool
    reduce_range: bool
    examples: int
    judging: float
    back_off: BackOff | None

    @property
    def judges(self) -> bool:
        """Whether there is anything to decide."""
        return len(self.calibrations) > 1 or self.back_off is not None


@dataclass
class Made:
    """The quantized ModelProto, and what is told of it."""

    model: Any
    facts: dict[str, JsonValue] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def quantized(ready: Path, exclude: Sequence[str], how: Manner, examples: Inputs, context: Context) -> Made:
    """INT8 with QDQ nodes.

    Raises:
        Refused: examples that the model does not take, too few of them, or activations that exceed the memory.
    """
    for calibration in how.calibrations:
        refuse_beyond_memory(ready, calibration, how.examples)
    parts = split(len(examples), how.examples, how.judging if how.judges else 0.0, context.seed)
    if not how.judges:
        found = ranges(ready, examples, parts.calibrating, how.calibrations[0], context)
        return Made(_static(ready, found, how, exclude))
    judge = Judge(ready, examples, parts.judging, how.calibrations[0].batch, context)
    name, found, compared = _chosen(ready, exclude, how, examples, parts, judge, context)
    made = Made(None, {"calibrated_on": len(parts.calibrating), "judged_on": len(parts.judging)})
    if compared:
        made.facts |= {"method_chosen": name, "methods": {each: _facts(judged) for each, judged in compared}}
        made.tables = (_table(compared, name),)
    quantize = partial(_static, ready, found, how)
    if how.back_off is None:
        made.model = quantize(exclude)
        return made
    backed = backed_off(Graph(read(ready.parent)), quantize, exclude, judge, how.back_off, context)
    return _with(made, backed, how.back_off)


def _static(ready: Path, found: Any, how: Manner, exclude: Sequence[str]) -> Any:
    return static(ready, found, [*exclude], how.per_channel, how.symmetric, how.reduce_range)


def _chosen(
    ready: Path,
    exclude: Sequence[str],
    how: Manner,
    examples: Inputs,
    parts: Split,
    judge: Judge,
    context: Context,
) -> tuple[str, Any, list[tuple[str, Judged]]]:
    """The best calibration's name and ranges; how each did, if there was a choice."""
    made = {each.told: ranges(ready, examples, parts.calibrating, each, context) for each in how.calibrations}
    if len(made) == 1:
        return *next(iter(made.items())), []
    compared = [(name, judge(_static(ready, found, how, exclude))) for name, found in made.items()]
    name = best(compared)
    return name, made[name], compared


def _with(made: Made, backed: Backed, how: BackOff) -> Made:
    made.model = backed.model
    made.facts |= {"back_off": told.facts(backed, how)}
    made.notes = (told.note(backed, how),)
    if backed.ranking:
        made.tables = (*made.tables, told.table(backed))
    return made


def _facts(judged: Judged) -> dict[str, JsonValue]:
    return {"agreement": round(judged.agreement, 4), "sqnr_db": round(judged.sqnr_db, 2)}


def _table(compared: list[tuple[str, Judged]], name: str) -> Table:
    rows = []
    for each, judged in compared:
        low, high = judged.interval
        share = f"{judged.agreement:.1%} ({low:.1%}..{high:.1%})"
        rows.append((each, share, f"{judged.sqnr_db:.1f} dB", "chosen" if each == name else ""))
    return Table(
        title=f"Calibration methods, every layer in INT8, on {compared[0][1].examples} calibration examples that "
        "calibrated nothing. The highest SQNR among those within a standard error of the best agreement is chosen",
        header=("method", f"{compared[0][1].told} (95% interval)", "SQNR", ""),
        rows=tuple(rows),
    )
