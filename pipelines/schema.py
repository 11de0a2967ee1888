"""JSON schemas: of a config, with every stage's fields, and of the report of a run."""

from __future__ import annotations

from typing import Any

from pipelines.config import PipelineConfig
from pipelines.records import RunRecord
from stages.base import load, names
from targets.base import Target

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def config_schema() -> Schema:
    """JSON schema (draft 2020-12) of a config file."""
    schema = PipelineConfig.model_json_schema(ref_template="#/$defs/{model}")
    definitions = schema["$defs"]
    limits = {key: value for key, value in definitions.pop("Step")["properties"].items() if key != "stage"}
    stages = {name: _stage(name, definitions) for name in sorted(names())}
    schema["properties"]["steps"]["items"] = _step(stages, limits)
    definitions["Draft"]["properties"]["steps"]["items"] = schema["properties"]["steps"]["items"]
    targets = {name: schema for name, schema in stages.items() if issubclass(load(name), Target)}
    schema["properties"]["reference"] = {**_step(targets, {}), "default": "transformers"}
    schema["properties"]["reference"]["description"] = PipelineConfig.model_fields["reference"].description
    schema["required"] = [name for name in schema["required"] if name != "reference"]
    return {**schema, "$schema": DIALECT, "title": "Tapeout config"}


def report_schema() -> Schema:
    """JSON schema of what `tapeout run --json` prints."""
    schema = RunRecord.model_json_schema(mode="serialization")
    return {**schema, "$schema": DIALECT, "title": "Tapeout report"}


def _stage(name: str, definitions: Schema) -> Schema:
    schema = load(name).model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    return {"anyOf": [schema, {"type": "null"}], "description": schema.get("description", "")}


def _step(stages: Schema, limits: Schema) -> Schema:
    """A step is a stage's name, or a mapping with one stage and the limits of its worker."""
    keyed = {
        "type": "object",
        "properties": {**stages, **limits},
        "additionalProperties": False,
        "oneOf": [{"required": [name]} for name in stages],
    }
    return {"anyOf": [{"enum": list(stages)}, keyed]}
