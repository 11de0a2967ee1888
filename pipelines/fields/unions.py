"""Unions whose members a config tells apart by a key, not by a type's name."""

from __future__ import annotations

from typing import Any

from pydantic import Discriminator

from stages.base import Frozen


def which(*keys: str) -> Discriminator:
    """Tell the members of a union apart by the one key that only they have."""

    def tag(value: Any) -> str | None:
        names = value if isinstance(value, dict) else type(value).model_fields if isinstance(value, Frozen) else ()
        return next((key for key in keys if key in names), None)

    told = ", ".join(f"`{key}`" for key in keys if key != "folder")  # which stands beside `package`
    return Discriminator(tag, custom_error_type="no_source", custom_error_message=f"needs one of {told}")
