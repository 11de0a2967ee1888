from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from samples import run_record

from configs import RIGHT, Folder, changed
from pipelines.schema import config_schema, report_schema
from stages.base import load, names

CONFIG = Draft202012Validator(config_schema())
STEPS = "[import_gguf, gguf, {quantize_gguf: {type: q4_k_m}}]"


def wrong(text: str) -> list[str]:
    return [error.json_path for error in CONFIG.iter_errors(yaml.safe_load(text))]


def test_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(config_schema())
    Draft202012Validator.check_schema(report_schema())


def test_every_stage_is_offered_with_its_fields() -> None:
    keyed = config_schema()["properties"]["steps"]["items"]["anyOf"][1]["properties"]

    assert set(keyed) == {*names(), "timeout_s", "memory_limit_gb"}
    for name in names():
        assert set(keyed[name]["anyOf"][0]["properties"]) == set(load(name).model_fields)


def test_every_field_is_described() -> None:
    def fields(node: Any) -> list[str]:
        if isinstance(node, dict):
            inner = [found for value in node.values() for found in fields(value)]
            properties = node.get("properties", {})
            return [
                name for name, item in properties.items() if "description" not in item and "$ref" not in item
            ] + inner
        return [found for value in node for found in fields(value)] if isinstance(node, list) else []

    assert set(fields(config_schema())) <= {"builtin", "perplexity", "generation", "speed"}  # they say it themselves


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        changed(("{type: q4_k_m}", "{type: q4_k_m}, timeout_s: 60")),
        changed((STEPS, "[import_gguf, {gguf: null}]")),
        changed(more="reference: {transformers: {dtype: bfloat16}}\nversion: 1.0.0\n"),
        changed(more="evaluation: {speed: null, perplexity: {windows: 4}}\n"),
        changed(more="budgets: [{metric: perplexity, max_regression: 2%}, {metric: size_bytes, max: 1.5 GB}]\n"),
        changed(more="budgets: [{metric: top1_agreement, min: 98%}, {metric: tbt_p50_ms, max: 20.5}]\n"),
    ],
)
def test_what_is_right_is_right_by_the_schema(tmp_path: Any, text: str) -> None:
    assert wrong(text) == []
    Folder(tmp_path).plan(text)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (changed(("import_gguf", "import_guf")), "$.steps[0]"),
        (changed(("type: q4_k_m", "typ: q4_k_m")), "$.steps[2]"),
        (changed(("{type: q4_k_m}", "{type: q4_k_m}, timeout: 60")), "$.steps[2]"),
        (changed(("source: {path: model.gguf}\n", "")), "$"),
        (changed(more="reference: quantize_gguf\n"), "$.reference"),
        (changed(more="seed: -1\n"), "$.seed"),
        (changed(more="budgets: [{metric: size_bytes, max: 150 MiB}]\n"), "$.budgets[0].max"),
    ],
)
def test_what_is_wrong_is_wrong_by_the_schema(text: str, path: str) -> None:
    assert wrong(text) == [path]


def test_report_of_a_run_is_right_by_its_schema() -> None:
    report = Draft202012Validator(report_schema())

    for status in ("passed", "halted"):
        report.validate(run_record(status).model_dump(mode="json"))  # type: ignore[arg-type]
