"""What a runtime is made of: a stage that can also open its result as a session to measure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from stages._tokenizer import Tokenized
from stages.base import Artifact, Stage

Tokens = NDArray[np.int32]
Logits = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Generated:
    """A greedy continuation and when each of its tokens came.

    `seconds[0]` is the time to the first token (prefill included), `seconds[i]` the time between token i-1 and token i.
    """

    tokens: tuple[int, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Speculated:
    """A greedy continuation made with a draft model, and how it went.

    `seconds` is the whole of it, both models' work on the prompt included. `steps` counts the passes of the model
    itself, each of which yields the drafted tokens that it accepted and one more.
    """

    tokens: tuple[int, ...]
    seconds: float
    drafted: int
    accepted: int
    steps: int


@dataclass(frozen=True)
class Tie:
    """How near two tokens are: the difference of their logits, token by token, and the most by which any logit there
    changes when several tokens are computed in one pass.
    """

    gap: float
    noise: float


@runtime_checkable
class Session(Protocol):
    """An opened artifact. Closes cleanly."""

    def run(self, inputs: Arrays) -> Arrays:
        """Named arrays in, named arrays out."""
        ...

    def close(self) -> None:
        """Give back the memory."""
        ...


@runtime_checkable
class TextSession(Session, Protocol):
    """An opened language model."""

    @property
    def vocabulary_size(self) -> int:
        """Width of a row of logits."""
        ...

    def encode(self, text: str) -> Tokens:
        """Token ids of the text, without special tokens added; shape (n,)."""
        ...

    def decode(self, tokens: Tokens) -> str:
        """The text of token ids of shape (n,)."""
        ...

    def logits(self, tokens: Tokens) -> Logits:
        """Logits after each of the tokens, shape (n, vocabulary); a view, valid until the next call.

        Token i's row predicts token i+1. The sequence starts at position 0 with an empty cache.
        """
        ...

    def generate(self, prompt: Tokens, n: int) -> Generated:
        """Exactly `n` greedy tokens after the prompt, timed, with no stop at an end-of-text token."""
        ...


@runtime_checkable
class SpeculatingSession(TextSession, Protocol):
    """An opened language model that a smaller one can draft for."""

    def load_draft(self, draft: Artifact, tokens: int) -> None:
        """Open the draft model beside this one, to draft that many tokens a step.

        Raises:
            Refused: it cannot be opened.
        """
        ...

    def speculate(self, prompt: Tokens, n: int) -> Speculated:
        """Exactly `n` greedy tokens after the prompt with the draft model's help, no stop at an end-of-text token."""
        ...

    def tie(self, sequence: Tokens, prompt: int, one: int, other: int) -> Tie:
        """How near two tokens are after a sequence of shape (n,), whose first `prompt` tokens are the prompt."""
        ...


@runtime_checkable
class ArraySession(Session, Protocol):
    """An opened model of arrays: a classifier, an encoder. Its first output is what is measured."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names that `run` takes, in the model's order; the first axis of each is the batch."""
        ...


@runtime_checkable
class EncoderSession(ArraySession, Protocol):
    """An opened text encoder that has its tokenizer with it: texts become tokens once, for every runtime."""

    def tokenize(self, texts: Sequence[str], length: int) -> Tokenized:
        """The texts with the special tokens that the encoder wants, cut at `length` tokens.

        Raises:
            Refused: there is no tokenizer after all, or no positions for that length.
        """
        ...


class Target(Stage):
    """A runtime. `opens` names the artifact kinds that `open` takes; by default what the target makes.

    `drafts` names the kinds that can be the draft model of its sessions: those are then SpeculatingSessions.
    """

    opens: ClassVar[frozenset[str]] = frozenset()
    drafts: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def can_open(cls, kind: str) -> bool:
        """Whether a session over an artifact of this kind can be had from this target."""
        return kind in (cls.opens or {cls.produces})

    def cannot_measure(self) -> str | None:
        """The reason why this machine can make the artifact but not open it, or None. Imports no toolchain."""
        return None

    @abstractmethod
    def open(self, artifact: Artifact, threads: int, context_length: int) -> Session:
        """Load the artifact with that many threads; `context_length` is the most tokens a sequence will have.

        Raises:
            Refused: the artifact cannot be opened by this runtime.
        """
