"""From what pydantic says to what a person reads: file, place, what is wrong, did you mean."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails


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
    return [_one(origin, place, model, error) for error in errors]


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
    message = error["msg"].removeprefix("Value error, ")
    described = owner.model.model_fields.get(field)
    named = f"`{field}`: " if described else ""
    if not described and location:
        inside = _dotted([place, *_clean(location)]) if place else _dotted(_clean(location))
    got = "" if isinstance(error["input"], dict | list) else f" (got {error['input']!r})"
    return mistake(origin, inside, f"{named}{message[:1].lower()}{message[1:]}{got}", _description(described))


class _Owner:
    """The model that a field of an error belongs to, and the way there."""

    def __init__(self, model: type[BaseModel], path: list[str]) -> None:
        self.model, self.path = model, path


def _owner(model: type[BaseModel], location: list[str]) -> _Owner:
    path: list[str] = []
    candidates: list[type[BaseModel]] = [model]
    for part in location:
        field = candidates[0].model_fields.get(part)
        if field is not None:
            path.append(part)
            candidates = _models(field.annotation) or candidates
        elif part.isdigit():
            path.append(f"item {int(part) + 1}")
        else:
            tagged = [found for found in candidates if part in found.model_fields]
            if tagged:
                candidates = tagged
            else:
                path.append(part)
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
