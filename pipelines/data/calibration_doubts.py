"""What a report warns of where a stage learnt from data that may not suit: their language, their classes, how few."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import JsonValue

from pipelines.beside import CALIBRATION, TRAINING


def stage_doubts(
    doubts: Mapping[str, str],
    inputs: Collection[str],
    fields: Mapping[str, JsonValue],
    facts: Mapping[str, JsonValue],
) -> tuple[str, ...]:
    """Sentences for a stage that was given those inputs; `doubts` are the data's own, by the name of the input."""
    calibrating, training = (doubts.get(name, "") if name in inputs else "" for name in (CALIBRATION, TRAINING))
    found = calibration_doubts(calibrating, fields, facts) if CALIBRATION in inputs else ()
    looked_at = facts.get("calibration_examples")
    if calibrating and isinstance(looked_at, int):
        found += (f"{calibrating}; {looked_at:,} of them were looked at",)
    return (*found, training) if training else found


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
