"""The stages and gates that an option asks for."""

from __future__ import annotations

from pydantic import JsonValue

from pipelines.planner.case import Case, Option


def stages_and_gates(case: Case, option: Option) -> dict[str, JsonValue]:
    """The `pipeline:` block of a plan.

    What changes quality is always evaluated, and every plan ends in a benchmark.
    """
    form = option.format
    stages: list[JsonValue] = []
    if form.whole and option.kv_bits < 16:
        stages.append("evaluate")
    if not form.whole:
        fields: dict[str, JsonValue] = {
            "method": form.method or "gguf",
            "bits": form.bits if not form.gguf else form.gguf,
        }
        stages += [{"quantize": fields | ({"group": form.group} if form.group else {})}, "evaluate"]
    gates: dict[str, JsonValue] = {"ppl_rel_max": case.goals.perplexity, "task_drop_max": case.goals.task}
    return {"stages": [*stages, "benchmark", "serve_config"], "gates": gates}
