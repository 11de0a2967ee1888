"""The pipeline config that carries a plan out: what `tapeout validate` accepts and `tapeout run` runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UserError
from pipelines.planner.answer import Plan
from pipelines.planner.formats import Format
from pipelines.planner.reading import KNOWN

SIZE_MARGIN = 1.02
LONGEST_PROMPT, MOST_TOKENS = 2048, 64
DATA = {"evaluation": {"builtin": "python-docs", "split": "evaluation"}}
CALIBRATION = {"builtin": "python-docs", "split": "calibration"}


def write(plan: Plan, given: str, path: Path) -> Path:
    """Write the config of a plan for the model that the command line named.

    Raises:
        UserError: the model is shapes alone, or no stage here makes the chosen format.
    """
    if plan.workload is None:
        said = f"a plan for an encoder or a CNN has no config yet: its data and labels are not known ({plan.stop})"
        raise UserError(said, "configs/cifar10-cnn and configs/digits show one")
    if plan.chosen is None or plan.verdict == "INFEASIBLE":
        raise UserError(f"an infeasible plan has no config: {plan.stop}", f"nearest: {plan.nearest}")
    source, kind = _source(given, path)
    form = plan.chosen.option.format
    tree = {
        "name": _name(f"{plan.model}-{form.name}"),
        "source": source,
        "steps": _steps(form, kind),
        "data": {**DATA, **({"calibration": CALIBRATION} if form.calibration else {})},
        "evaluation": {"speed": _speed(plan)},
        "budgets": _budgets(plan),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_heading(plan, path) + yaml.safe_dump(tree, sort_keys=False, width=110), encoding="utf-8")
    return path


def _heading(plan: Plan, path: Path) -> str:
    chosen = plan.chosen.option if plan.chosen else ""
    return f"# {plan.model} on {plan.hardware}, as planned: {chosen}, predictions as budgets.\n# tapeout run {path}\n"


def _name(text: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in text.lower())
    return kept.strip("-._") or "planned"


def _source(given: str, path: Path) -> tuple[dict[str, Any], str]:
    """The `source:` of what was named, and its artifact kind."""
    model = Path(given).expanduser()
    if "=" in given and not model.exists():
        raise UserError(f"a plan by shapes alone has no model to run: {given}", "name its folder, file or hub id")
    if model.exists():
        folder = model.parent if model.name == "config.json" else model
        near = Path(os.path.relpath(folder.resolve(), path.parent.resolve()))
        return {"path": str(near)}, "gguf" if folder.suffix == ".gguf" else "hf"
    from pipelines.planner.yaml_files import load

    known = load(KNOWN).get(given)
    if known is not None and "source" not in known:
        raise UserError(f"`{given}` is known by its shapes alone", "name its folder, file or hub id")
    if known is not None:
        return dict(known["source"]), "gguf" if str(known["source"].get("file", "")).endswith(".gguf") else "hf"
    return {"hf": given, "revision": "main"}, "hf"


def _steps(form: Format, kind: str) -> list[Any]:
    """The stages that make the format out of the source."""
    if form.gguf:
        steps: list[Any] = ["import_gguf"] if kind == "gguf" else []
        steps.append({"gguf": {"outtype": "f16"}})
        return steps if form.gguf == "f16" else [*steps, {"quantize_gguf": {"type": form.gguf}}]
    return [_quantizer(form)]


def _quantizer(form: Format) -> dict[str, Any]:
    """The stage of a GPU server's format, if there is one, with those of its fields that the plan decides."""
    from stages.base import load, names

    stage = f"quantize_{form.method}" if form.method else ""
    if stage not in names():
        raise UserError(
            f"no stage here makes {form.name}" + (f" ({form.method})" if form.method else ": serve the model as it is"),
            "--serving DIR writes the engine's settings; `tapeout ls stages` lists what can be made",
        )
    decided = {"bits": form.bits, "group_size": form.group}
    fields = load(stage).model_fields
    return {stage: {key: value for key, value in decided.items() if key in fields and value is not None}}


def _speed(plan: Plan) -> dict[str, Any]:
    assert plan.workload is not None
    prompt, output = plan.workload.prompt, plan.workload.output
    return {"prompt_tokens": [min(prompt, LONGEST_PROMPT)], "tokens": max(4, min(output, MOST_TOKENS))}


def _budgets(plan: Plan) -> list[dict[str, Any]]:
    """The quality budget, and the size that was predicted."""
    size = next(band.value for band in plan.predictions if band.name == "size")
    quality = {"metric": "perplexity", "max_regression": f"{plan.goals.perplexity * 100:g}%"}
    megabytes = (size + 35 * 50_000) * SIZE_MARGIN / 1e6  # the tokenizer's tables lie in the file, too
    return [quality, {"metric": "size_bytes", "max": f"{megabytes:.0f} MB"}]
