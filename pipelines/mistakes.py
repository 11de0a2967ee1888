"""From what pydantic says to what a person reads: file, place, what is wrong, did you mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pipelines.redaction import REFERENCE

_PHRASES = {
    "needs a whole number": ("int_type", "int_parsing", "int_from_float"),
    "needs a number": ("float_type", "float_parsing"),
    "needs text": ("string_type",),
    "needs true or false": ("bool_type", "bool_parsing"),
    "needs a list": ("tuple_type", "list_type"),
    "needs a mapping": ("model_type", "model_attributes_type", "dict_type"),
}
PHRASE_OF = {error: phrase for phrase, errors in _PHRASES.items() for error in errors}
Found = Iterator[tuple[str, str, str]]
"""Mistakes as they are found: the place in the config, what is wrong there, and the way out or nothing."""


def mistake(origin: str, place: str, what: str, hint: str = "") -> str:
    """One mistake as a whole message."""
    where = f"{origin}: {place}: " if place else f"{origin}: "
    return f"{where}{what}" + (f"\n\nhint: {hint}" if hint else "")


def did_you_mean(word: str, known: Iterable[str], listing: str = "") -> str:
    """`did you mean ...` for a near miss, else the list of what is known."""
    known = sorted(known)
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?" + (f"   ({listing})" if listing else "")
    return f"known: {', '.join(known)}" if len(known) <= 12 else f"see `{listing}`" if listing else ""


def from_pydantic(origin: str, place: str, model: type[BaseModel], errors: list[ErrorDetails]) -> list[str]:
    """Every error of a validation as a message; `place` says where in the config the model stands."""
    meant = {(*error["loc"][:-1], _near(model, error)) for error in errors if error["type"] == "extra_forbidden"}
    told = [error for error in errors if error["type"] != "missing" or error["loc"] not in meant]
    return [_one(origin, place, model, error) for error in told if not _unset(error["input"])]


def _unset(given: Any) -> bool:
    """Whether the value is a variable that is not set, which is a mistake of its own."""
    return isinstance(given, str) and REFERENCE.search(given) is not None


def _near(model: type[BaseModel], error: ErrorDetails) -> str:
    """The field that a misspelt one stands for: that it is missing as well is no second mistake."""
    *place, field = (str(part) for part in error["loc"])
    return next(iter(get_close_matches(field, _owner(model, place).model.model_fields, n=1, cutoff=0.6)), "")


def _one(origin: str, place: str, model: type[BaseModel], error: ErrorDetails) -> str:
    location = [str(part) for part in error["loc"]]
    owner = _owner(model, location[:-1])
    inside = f"{place}, {_dotted(owner.path)}" if place and owner.path else place or _dotted(owner.path)
    field = location[-1] if location else ""
    if error["type"] == "extra_forbidden":
        return mistake(origin, inside, f"no field `{field}`", did_you_mean(field, owner.model.model_fields))
    if error["type"] == "missing":
        info = owner.model.model_fields.get(field)
        return mistake(origin, inside, f"`{field}` is missing", info.description or "" if info else "")
    message = PHRASE_OF.get(error["type"]) or error["msg"].removeprefix("Value error, ")
    described = owner.model.model_fields.get(field)
    named = f"`{field}`: " if described else ""
    if not described and location:
        inside = _dotted([place, *_clean(location)]) if place else _dotted(_clean(location))
    hint = _description(described) if location else f"its fields: {', '.join(model.model_fields) or 'none'}"
    return mistake(origin, inside, f"{named}{message[:1].lower()}{message[1:]}{_got(error['input'])}", hint)


def _got(given: Any) -> str:
    if isinstance(given, dict | list | tuple):
        return ""
    return " (got nothing)" if given is None else f" (got {given!r})"


class _Owner:
    """The model that a field of an error belongs to, and the way there."""

    def __init__(self, model: type[BaseModel], path: list[str]) -> None:
        self.model, self.path = model, path


def _owner(model: type[BaseModel], location: list[str]) -> _Owner:
    path: list[str] = []
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        tagged = [found for found in candidates if part in found.model_fields]
        if len(candidates) > 1 and tagged:
            candidates = tagged[:1]  # pydantic names the member of a union that it tried
        elif tagged:
            path.append(part)
            candidates = _models(candidates[0].model_fields[part].annotation) or candidates
        else:
            path += _clean([part])
    return _Owner(candidates[0], path)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _clean(location: list[str]) -> list[str]:
    return [f"item {int(part) + 1}" if part.isdigit() else part for part in location]


def _dotted(path: list[str]) -> str:
    return " ".join(part if part.startswith("item ") else f"`{part}`" for part in path)


def _description(field: Any) -> str:
    return field.description or "" if field is not None else ""
