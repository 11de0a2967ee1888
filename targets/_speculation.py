"""Greedy speculative decoding: a draft model proposes tokens, the model checks them all in one pass.

Leviathan, Kalman, Matias: Fast Inference from Transformers via Speculative Decoding, 2023,
https://arxiv.org/abs/2211.17192, at temperature 0: a proposal stands as far as the model itself would have said it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from targets.base import Speculated, Tokens

Greedy = Callable[[Tokens, int], Tokens]
"""The most likely token after each of the last so many tokens of a sequence of shape (n,)."""
Propose = Callable[[Tokens, int], Tokens]
"""At most so many tokens that may follow a sequence of shape (n,)."""


def speculate(prompt: Tokens, n: int, most: int, propose: Propose, verify: Greedy) -> Speculated:
    """Exactly `n` greedy tokens of `verify` after the prompt, at most `most` of them proposed at a time.

    Each step yields what was rightly proposed and one token more, so that no step is in vain.
    """
    begin, end = time.perf_counter(), len(prompt) + n
    # the prompt in a pass of its own, as without a draft: in a larger one its keys and values may be rounded otherwise
    sequence = np.concatenate([prompt, verify(prompt, 1)])
    drafted, accepted, steps = 0, 0, 1
    while len(sequence) < end:
        proposal = propose(sequence, min(most, end - len(sequence) - 1))
        said = verify(np.concatenate([sequence, proposal]), len(proposal) + 1)
        right = common(proposal, said)
        sequence = np.concatenate([sequence, said[: right + 1]])
        drafted, accepted, steps = drafted + len(proposal), accepted + right, steps + 1
    made = tuple(sequence[len(prompt) :].tolist())
    return Speculated(made, time.perf_counter() - begin, drafted, accepted, steps)


def drafting(greedy: Greedy, shared: int) -> Propose:
    """A draft model's own greedy continuation. Token ids below `shared` are in both vocabularies.

    Vocabularies are padded to different widths: a filler that only one model knows ends the proposal.
    """

    def propose(sequence: Tokens, most: int) -> Tokens:
        longer = sequence
        while len(longer) - len(sequence) < most and longer.max() < shared:
            longer = np.concatenate([longer, greedy(longer, 1)])
        proposal = longer[len(sequence) :]
        return proposal[proposal < shared]

    return propose


def common(one: Tokens, other: Tokens) -> int:
    """How many tokens two sequences begin with that are the same."""
    shorter = min(len(one), len(other))
    different = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(different[0]) if len(different) else shorter
