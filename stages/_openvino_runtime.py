"""OpenVINO as it is used here: no statistics sent home, and a failure that says which operator of which node."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.base import Refused

# what the plugin itself would choose on this kind of CPU can be bf16, so a precision is always asked for
Settings = Mapping[str, str | int | bool]
_NO_RULE = re.compile(r"No conversion rule found for operations: (.+)")
_FAILED = re.compile(r"Conversion is failed for: (.+)")
_WHERE = re.compile(
    r"^(Exception from \S+|Check '.*' failed at \S+|FrontEnd API failed with \w+|While validating .*|Summary|"
    r"Model wasn't fully converted\..*|-- .* with a message|-- Conversion is failed for: .*|\[ONNX Frontend\] .*):?$"
)


def toolkit() -> Any:
    """The package openvino.

    It and NNCF report their use to their vendor over the network unless `openvino_telemetry` cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def version() -> str:
    """OpenVINO's version, without its build."""
    return str(toolkit().__version__).partition("-")[0]


def compiled(model: Any, device: str, settings: Settings) -> Any:
    """The model as the device runs it.

    Raises:
        Refused: this machine has no such device, or the device lacks an operator.
    """
    core = toolkit().Core()
    refuse_missing(device, tuple(core.available_devices))
    try:
        return core.compile_model(model, device, dict(settings))
    except RuntimeError as error:
        raise Refused(
            f"OpenVINO {version()} cannot compile the model for {device}: {gist(str(error))}",
            "another `device`, or leave the operator it names out of the model",
        ) from error


def refuse_missing(device: str, available: tuple[str, ...]) -> None:
    """Refuse a device that OpenVINO does not list; AUTO picks one of those it does, GPU stands for GPU.0 as well."""
    kinds = {each.partition(".")[0] for each in available}
    if device == "AUTO" or device in kinds:
        return
    raise Refused(
        f"OpenVINO finds no {device} on this machine, only {', '.join(sorted(available)) or 'no device at all'}",
        "`device: CPU` or `device: AUTO`; GPU and NPU need their drivers installed",
    )


def property_of(compiled_model: Any, name: str) -> str | None:
    """A property as text, or None where the device has no such one: AUTO tells hardly any."""
    try:
        return _text(compiled_model.get_property(name))
    except RuntimeError:
        return None


def device_property(core: Any, device: str, name: str) -> str | None:
    """What a device does unless it is told otherwise, or None where it does not say."""
    try:
        return _text(core.get_property(device, name))
    except RuntimeError:
        return None


def _text(value: Any) -> str:
    return str(value.get_type_name() if hasattr(value, "get_type_name") else value)


def not_converted(file: Path, said: str, nodes: Mapping[str, str]) -> Refused:
    """Why a model could not be read. `nodes` has the name of a node for each operator of the model."""
    missing = [each for line in _NO_RULE.findall(said) for each in line.split(", ")]
    if missing:
        return _missing(file, missing, nodes)
    failed = _FAILED.search(said)
    at = f" at {_with_node(failed[1].partition(', ')[0], nodes)}" if failed else ""
    return Refused(
        f"OpenVINO {version()} cannot read {file.name}{at}: {gist(said)}",
        "export the model again; `python -m onnx.checker` on the file may say more",
    )


def _missing(file: Path, operators: list[str], nodes: Mapping[str, str]) -> Refused:
    named = ", ".join(_with_node(each, nodes) for each in operators)
    since = [(name, _since(name)) for name in map(_name, operators)]
    newer = [f"{name} came with opset {opset}" for name, opset in since if opset > 1]
    way = "; ".join(newer) + ": export with an older one, or " if newer else ""
    return Refused(
        f"OpenVINO {version()} lacks operators of {file.name}: {named}",
        f"{way}replace the operator in the model, or take the target `onnxruntime`",
    )


def _with_node(operator: str, nodes: Mapping[str, str]) -> str:
    node = nodes.get(_name(operator))
    return f"{operator}, node `{node}`" if node else operator


def _name(operator: str) -> str:
    """`com.acme.Foo` and `Optional-20` as ONNX writes them in a node."""
    return operator.partition("-")[0].rpartition(".")[2]


def _since(operator: str) -> int:
    """The first opset that has the standard operator; 0 where none has it."""
    import onnx

    versions = [
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.name, schema.domain) == (operator, "")
    ]
    return min(versions, default=0)


def gist(said: str) -> str:
    """What OpenVINO says without the places in its source."""
    lines = [line.strip() for line in said.splitlines()]
    told = " ".join(line for line in lines if line and not _WHERE.match(line))
    return " ".join((told or said).split())[:400]
