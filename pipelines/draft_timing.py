"""Time a live session without and with a draft model, and see to it that both say the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipelines.config import Draft
from pipelines.errors import ToolFailed
from pipelines.evaluation.drafting import DraftSamples, Turn, pair_of, sample_draft
from pipelines.fields.evaluation import Speed
from pipelines.progress import Progress
from pipelines.runner import LiveSession
from stages.base import Artifact
from targets.base import Generated, Speculated, Tie

Prompts = NDArray[np.int32]
"""Shape (prompts, tokens)."""


def time_draft(
    session: LiveSession, model: Artifact, draft: Draft, prompts: Prompts, settings: Speed, progress: Progress
) -> DraftSamples:
    """Samples of the session without and with the draft model, which it loads on the way.

    Raises:
        ToolFailed: the output with the draft model is not the session's own.
    """
    alone, drafted = _alone(session, prompts, draft.generated), _drafted(session, prompts, draft.generated)
    session.call("forget_peak_memory")
    alone(0)
    before = session.call("peak_memory")
    session.call("load_draft", draft=model.model_dump(mode="json"), tokens=draft.tokens)
    session.call("forget_peak_memory")
    limits = (settings.pairs, settings.max_pairs, settings.precision, settings.time_limit_s)
    with progress.bar("speed with a draft", settings.max_pairs, "pairs") as bar:
        turns, stopped = sample_draft(alone, drafted, len(prompts), limits, lambda done: bar.update(done))
    return DraftSamples.model_validate(
        {
            "tokens": draft.tokens,
            "prompt_tokens": draft.prompt_tokens,
            "generated": draft.generated,
            "pairs": [pair_of(*pair) for pair in turns],
            "stopped": stopped,
            "peak_memory_bytes": [before, session.call("peak_memory")],
            "notes": _ties(session, turns, prompts),
        }
    )


def _alone(session: LiveSession, prompts: Prompts, n: int) -> Callable[[int], Generated]:
    def generate(number: int) -> Generated:
        made = session.call("generate", prompt=prompts[number].tolist(), n=n)
        assert isinstance(made, dict)
        return Generated(tuple(made["tokens"]), tuple(made["seconds"]))  # type: ignore[arg-type]

    return generate


def _drafted(session: LiveSession, prompts: Prompts, n: int) -> Callable[[int], Speculated]:
    def speculate(number: int) -> Speculated:
        made = session.call("speculate", prompt=prompts[number].tolist(), n=n)
        assert isinstance(made, dict)
        return Speculated(**{**made, "tokens": tuple(made["tokens"])})  # type: ignore[arg-type]

    return speculate


def _ties(session: LiveSession, turns: list[tuple[Turn, Turn]], prompts: Prompts) -> list[str]:
    """A note for each prompt whose output left the model's own at a tie.

    Raises:
        ToolFailed: where it was none.
    """
    found = {}
    for own, other in turns:
        parted = pair_of(own, other).parted
        if parted is not None and (own.prompt, parted) not in found:
            found[own.prompt, parted] = _tied(session, own, other, parted, prompts[own.prompt])
    return list(found.values())


def _tied(session: LiveSession, own: Turn, other: Turn, parted: int, prompt: NDArray[np.int32]) -> str:
    """Where rounding decides which of two tokens is likelier, both are the model's own."""
    ours, theirs = own.tokens[parted], other.tokens[parted]
    sequence = [*prompt.tolist(), *own.tokens[:parted]]
    near = session.call("tie", sequence=sequence, prompt=len(prompt), one=ours, other=theirs)
    assert isinstance(near, dict)
    tie = Tie(**near)  # type: ignore[arg-type]
    what = f"token {parted + 1} after prompt {own.prompt + 1} is {theirs} with the draft model and {ours} without it"
    told = (
        f"{what}; their logits are {tie.gap:.2g} apart, and passes over several tokens change logits by {tie.noise:.2g}"
    )
    if tie.gap > 2 * tie.noise:
        raise ToolFailed(
            told, "the runtime's speculative decoding does not give the model's own output: use no `draft`"
        )
    return f"{told}: a tie, so that either is the model's own"
