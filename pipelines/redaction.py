"""Keeps the secrets that a config names as `${env:VAR}` out of everything that is written for people."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import TypeVar

from stages.base import Frozen

REFERENCE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
SHORTEST = 6  # a shorter value is no secret, and taking it out would mangle ordinary text

Model = TypeVar("Model", bound=Frozen)


def secrets_of(config_text: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The values of the variables that the config refers to, each with the `${env:VAR}` to write in its place."""
    named = {name: environment.get(name, "") for name in REFERENCE.findall(config_text)}
    return {value: f"${{env:{name}}}" for name, value in named.items() if len(value) >= SHORTEST}


def redact(text: str, secrets: Mapping[str, str]) -> str:
    """The text with every secret's value replaced, longest first."""
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, secrets[value])
    return text


def redacted(model: Model, config_text: str) -> Model:
    """The same model without the secrets that the config names."""
    secrets = secrets_of(config_text)
    if not secrets:
        return model
    escaped = {json.dumps(value, ensure_ascii=False)[1:-1]: name for value, name in secrets.items()}
    return type(model).model_validate_json(redact(model.model_dump_json(), escaped))
