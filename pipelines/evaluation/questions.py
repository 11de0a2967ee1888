"""Multiple-choice questions as texts."""

from __future__ import annotations

from stages.base import Frozen


class Question(Frozen):
    """One multiple-choice question. What is scored is `prompt + choice`: the space between them leads the choice."""

    prompt: str
    choices: tuple[str, ...]
    answer: int
