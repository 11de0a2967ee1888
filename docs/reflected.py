"""A model's fields as a Markdown table: name, type, default, description."""

from __future__ import annotations

import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, JsonValue, StringConstraints
from pydantic.fields import FieldInfo

from pipelines.fields.data import DataSource
from pipelines.fields.source import Source
from pipelines.watching.trigger import Trigger
from stages.base import Artifact, Stage

Model = type[BaseModel]
PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", type(None): "null"}
STAGE = "a stage, see `steps`"
DEFAULTS = {"reference": "`transformers`"}  # `pipelines/unsaid.py` fills it in


def table(model: Model, leave_out: Sequence[str] = ()) -> str:
    """The fields of a model, one a row."""
    fields = {name: info for name, info in model.model_fields.items() if name not in leave_out}
    if not fields:
        return "No fields."
    rows = [f"| `{name}` | {_type(info)} | {_default(name, info)} | {_about(info)} |" for name, info in fields.items()]
    return "\n".join(["| field | type | default | |", "|---|---|---|---|", *rows])


def models_in(model: Model, leave_out: Iterable[Model] = ()) -> list[Model]:
    """Every model that a model's fields hold, at any depth, each once, in the order of the fields."""
    seen, found = {model, *leave_out}, [model]
    for one in found:
        for info in one.model_fields.values():
            fresh = [part for part in dict.fromkeys(parts_of(info.annotation)) if part not in seen]
            found += fresh
            seen.update(fresh)
    return found[1:]


def parts_of(annotation: Any) -> list[Model]:
    """The models inside a type: of a union its members, of a tuple its items. Stages are described elsewhere."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [] if issubclass(annotation, Stage | Artifact) else [annotation]
    return [model for part in get_args(annotation) for model in parts_of(part)]


def _type(info: FieldInfo) -> str:
    bounds = [bound for item in info.metadata if (bound := _bound(item))]
    return ", ".join([_named(info.annotation), *bounds]).replace("|", "\\|")


def _named(annotation: Any) -> str:
    """A type in words."""
    if annotation in PLAIN:
        return PLAIN[annotation]
    if annotation == JsonValue:
        return "any JSON value"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" if value != "" else "`''`" for value in arguments)
    if origin is Annotated:
        bounds = [bound for item in arguments[1:] if (bound := _bound(item))]
        return ", ".join([_named(arguments[0]), *bounds])
    if origin in (Union, types.UnionType):
        return " or ".join(_named(part) for part in arguments)
    if origin is tuple:
        pair = arguments[-1] is not Ellipsis
        return " and ".join(map(_named, arguments)) if pair else f"list of {_named(arguments[0])}"
    if origin is dict:
        return f"mapping from name to {_named(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _model(annotation)
    return str(annotation)


def _model(model: Model) -> str:
    """A source is called by the key that tells it apart, as in the config."""
    if issubclass(model, Stage):
        return STAGE
    keyed = model in (*parts_of(Source), *parts_of(DataSource), *parts_of(Trigger))
    return f"`{next(iter(model.model_fields))}:`" if keyed else model.__name__


def _bound(item: Any) -> str:
    if isinstance(item, StringConstraints):
        return f"matching `{item.pattern}`"
    words = {Ge: "at least {.ge}", Gt: "above {.gt}", Le: "at most {.le}", Lt: "below {.lt}"}
    for kind, text in words.items():
        if isinstance(item, kind):
            return text.format(item)
    if isinstance(item, MinLen):
        return "not empty"
    pattern = getattr(item, "pattern", None)
    return f"matching `{pattern}`" if pattern else ""


def _default(name: str, info: FieldInfo) -> str:
    if name in DEFAULTS:
        return DEFAULTS[name]
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its defaults"
    if value is None:
        return "`null`"
    shown = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    return f"`{list(shown)}`" if isinstance(shown, tuple) else f"`{shown!r}`" if shown == "" else f"`{shown}`"


def _about(info: FieldInfo) -> str:
    if info.description:
        return info.description
    documented = [model.__doc__ or "" for model in parts_of(info.annotation)]
    return documented[0].splitlines()[0] if documented else ""
