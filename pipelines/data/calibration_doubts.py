"""What a report warns of where a stage learnt from text that may not suit: its language, and how little there was."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue


def calibration_doubts(
    language: str, fields: Mapping[str, JsonValue], facts: Mapping[str, JsonValue]
) -> tuple[str, ...]:
    """Sentences for a stage that looked at calibration text, each with the number of tokens that it looked at.

    `fields` are the stage's own: `windows` of `window` tokens each. A stage that learnt nothing says no number.
    """
    tokens = facts.get("calibration_tokens", facts.get("tokens"))
    if not isinstance(tokens, int):
        return ()
    found = [f"{language}; {tokens:,} tokens of it were looked at"] if language else []
    windows, window = fields.get("windows"), fields.get("window")
    if isinstance(windows, int) and isinstance(window, int) and tokens < windows * window:
        asked = f"{windows * window:,} were asked for ({windows} windows of {window})"
        found.append(f"the calibration text is short: it has {tokens:,} tokens where {asked}")
    return tuple(found)
