"""How an open session is asked: by a method's name, with arguments and results that survive JSON."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import JsonValue

Moved = Callable[[float, float, str], None]
"""Takes what is done, of how much, in which unit."""


def answered(live: object, methods: frozenset[str], method: str, arguments: dict[str, JsonValue]) -> JsonValue:
    """The result of one of the methods that may be called.

    Raises:
        ValueError: it is not one of them.
    """
    if method not in methods:
        raise ValueError(f"no such call: {method}")
    result: JsonValue = getattr(live, method)(**arguments)
    return result
