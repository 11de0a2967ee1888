"""What every file of stages/ and targets/ keeps to, so that a newcomer's file needs no test of its form."""

import ast
import importlib
import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from stages.base import ROOT, Stage, load, name_of, names
from targets.base import Target

NAMES = sorted(names())
TOOLCHAINS = (
    *("torch", "transformers", "llama_cpp", "gguf", "onnx", "onnxruntime", "openvino", "nncf"),
    *("tensorrt_rtx_bindings", "torch_pruning", "peft", "optimum", "tokenizers", "onnxruntime_genai"),
)
ANSWERS = f"""
import sys
from stages.base import load, names
for name in names():
    reason = load(name).model_construct().unavailable()
    assert reason is None or isinstance(reason, str), name
loaded = sorted(set({TOOLCHAINS!r}) & set(sys.modules))
assert not loaded, loaded
"""


def instance(stage: type[Stage]) -> Stage:
    """The stage with its defaults, and the first choice or the least value of each field that has none.

    Of several ways to say what is required the first.
    """
    schema = stage.model_json_schema()
    required = [key for key, field in stage.model_fields.items() if field.default is PydanticUndefined]
    required = required or schema.get("anyOf", [{}])[0].get("required", [])
    return stage.model_validate({key: least(schema["properties"][key]) for key in required})


def least(described: dict[str, Any]) -> Any:
    """The first choice, or the least value, of a field as its JSON schema has it; null beside it is left out."""
    described = described.get("anyOf", [described])[0]
    return described.get("enum", [described.get("minimum")])[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_what_it_is_for_and_holds_one_class(name: str) -> None:
    stage = load(name)

    assert (importlib.import_module(stage.__module__).__doc__ or "").strip()
    assert (stage.__doc__ or "").strip()
    assert name_of(stage) == name
    assert issubclass(stage, Target) == stage.__module__.startswith("targets.")


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_takes_and_makes_and_where_it_runs(name: str) -> None:
    stage = load(name)

    assert stage.consumes
    assert stage.produces
    assert stage.version >= 1
    if stage.env != "dummy":
        assert (ROOT / "envs" / f"{stage.env}.in").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_its_fields_are_described_and_survive_json(name: str) -> None:
    stage = load(name)
    made = instance(stage)

    assert all(field.description for field in stage.model_fields.values())
    assert stage.model_validate(json.loads(made.model_dump_json())) == made


def test_availability_is_answered_without_a_toolchain() -> None:
    subprocess.run([sys.executable, "-c", ANSWERS], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", NAMES)
def test_siblings_import_each_other_only_through_base_and_private_modules(name: str) -> None:
    module = names()[name]
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    project = [found.split(".") for found in imported if found.split(".")[0] in {"stages", "targets", "pipelines"}]

    assert all(parts[0] != "pipelines" for parts in project)
    assert all(parts[1] == "base" or parts[1].startswith("_") for parts in project)
