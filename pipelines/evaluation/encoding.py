"""From texts to token files: every runtime is then measured on the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.evaluation.accuracy import Choices
from pipelines.evaluation.questions import Question
from stages.base import Frozen, Refused
from targets.base import TextSession, Tokens


class EncodingRequest(Frozen):
    """What to tokenize: one text, and the questions of each task."""

    text: str
    tasks: dict[str, tuple[Question, ...]] = {}


def encode(session: TextSession, request: Path, out: Path) -> None:
    """Write `text.npy` (tokens,) and `task_<name>.npz` (Choices) into the folder `out`."""
    wanted = EncodingRequest.model_validate_json(request.read_text(encoding="utf-8"))
    np.save(out / "text.npy", session.encode(wanted.text))
    for name, questions in wanted.tasks.items():
        choices(session, questions).save(out / f"task_{name}.npz")


def choices(session: TextSession, questions: tuple[Question, ...]) -> Choices:
    """Question and choice are tokenized together; the choice's tokens are those after the question's own.

    The way of lm-evaluation-harness: a token that spans the border counts to the choice.
    """
    sequences: list[Tokens] = []
    starts, owner, right = [], [], []
    for number, question in enumerate(questions):
        prefix = len(session.encode(question.prompt))
        for position, choice in enumerate(question.choices):
            tokens = session.encode(question.prompt + choice)
            if len(tokens) < 2:
                raise Refused(f"question {number + 1} with its choice {position + 1} is less than two tokens")
            sequences.append(tokens)
            starts.append(min(max(prefix, 1), len(tokens) - 1))  # the first token is not predicted
            owner.append(number)
            right.append(position == question.answer)
    return Choices(
        tokens=np.concatenate(sequences).astype(np.int32),
        ends=np.cumsum([len(tokens) for tokens in sequences]),
        starts=np.array(starts),
        question=np.array(owner),
        answer=np.array(right, dtype=np.bool_),
    )
