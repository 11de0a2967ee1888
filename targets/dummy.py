"""A bigram model in numpy: the target of unit tests, with quality, size, speed and failures to order."""

from __future__ import annotations

import ctypes
import json
import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.base import Artifact, Context, Produced, Refused
from targets._speculation import drafting, speculate
from targets.base import Arrays, Generated, Logits, Speculated, Target, Tie, Tokens

VOCABULARY = 64
_FILE = "dummy.json"
_FIRST_PRINTABLE = 32


class Dummy(Target):
    """Copy a bigram model with noise added to its weights, or fail in a chosen way."""

    consumes: ClassVar[frozenset[str]] = frozenset({"dummy"})
    produces: ClassVar[str] = "dummy"
    env: ClassVar[str] = "dummy"
    drafts: ClassVar[frozenset[str]] = frozenset({"dummy"})

    noise: float = Field(0.0, ge=0, description="standard deviation of what is added to every weight")
    padding_bytes: int = Field(0, ge=0, description="by which the artifact is larger")
    delay_s: float = Field(0.0, ge=0, description="seconds that every pass over the weights takes longer")
    fail: Literal["", "raise", "segfault", "hang", "oom", "refuse"] = Field("", description="how `run` ends")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the noisy weights.

        Raises:
            Refused: on request, or because the artifact holds no such model.
        """
        _fail(self.fail)
        weights = _read(model.path)
        noise = np.random.default_rng(context.seed).normal(0.0, 1.0, weights.shape) * self.noise
        _write(context.out, weights + noise)
        if self.padding_bytes:
            (context.out / "padding").write_bytes(bytes(self.padding_bytes))
        context.progress(1, 1, "written")
        return Produced(facts={**model.facts, "vocabulary": VOCABULARY, "noise": self.noise})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> DummySession:
        """Load the weights; any number of threads and any context will do.

        Raises:
            Refused: the artifact holds no such model.
        """
        del threads, context_length
        return DummySession(_read(artifact.path), self.delay_s)


def write_model(folder: Path, text: str) -> None:
    """Make a model of a text's bigrams: the artifact that a test starts from."""
    tokens = _encode(text)
    counts = np.full((VOCABULARY, VOCABULARY), 0.5)
    np.add.at(counts, (tokens[:-1], tokens[1:]), 1.0)
    _write(folder, np.log(counts))


def _write(folder: Path, weights: NDArray[np.float64]) -> None:
    rows = [[round(weight, 4) for weight in row] for row in weights.tolist()]
    (folder / _FILE).write_text(json.dumps({"bigrams": rows}))


def _read(folder: Path) -> NDArray[np.float32]:
    file = folder / _FILE
    if not file.is_file():
        raise Refused(f"there is no {_FILE} in the artifact", "make one with targets.dummy.write_model")
    return np.array(json.loads(file.read_text())["bigrams"], dtype=np.float32)


def _encode(text: str) -> Tokens:
    return (np.frombuffer(text.encode(), dtype=np.uint8) % VOCABULARY).astype(np.int32)


def _fail(how: str) -> None:
    if how == "raise":
        raise RuntimeError("the dummy was told to raise")
    if how == "refuse":
        raise Refused("the dummy was told to refuse", "set `fail` to nothing")
    if how == "segfault":
        ctypes.string_at(0)
    if how == "hang":
        time.sleep(24 * 3600)
    if how == "oom":
        np.ones(1 << 50)


class DummySession:
    """A bigram model over bytes modulo 64."""

    def __init__(self, weights: NDArray[np.float32], delay_s: float) -> None:
        self._weights, self._delay_s = weights, delay_s
        self._draft: DummySession | None = None
        self._drafted = 0

    @property
    def vocabulary_size(self) -> int:
        """Width of a row of logits."""
        return VOCABULARY

    def encode(self, text: str) -> Tokens:
        """The text's bytes modulo 64; shape (n,)."""
        return _encode(text)

    def decode(self, tokens: Tokens) -> str:
        """A printable character for each token of shape (n,)."""
        return "".join(chr(_FIRST_PRINTABLE + int(token)) for token in tokens)

    def run(self, inputs: Arrays) -> Arrays:
        """`input_ids` of shape (n,) in, `logits` of shape (n, vocabulary) out."""
        return {"logits": self.logits(inputs["input_ids"].astype(np.int32, copy=False))}

    def logits(self, tokens: Tokens) -> Logits:
        """Logits after each of the tokens, shape (n, vocabulary)."""
        return self._weights[tokens]

    def generate(self, prompt: Tokens, n: int) -> Generated:
        """Exactly `n` greedy tokens after the prompt, timed."""
        tokens = [int(prompt[-1])]
        times = [time.perf_counter()]
        for _ in range(n):
            tokens.append(int(self._weights[tokens[-1]].argmax()))
            time.sleep(self._delay_s)
            times.append(time.perf_counter())
        return Generated(tuple(tokens[1:]), tuple(np.diff(times).tolist()))

    def load_draft(self, draft: Artifact, tokens: int) -> None:
        """Load the weights of a model that takes no time."""
        self._draft, self._drafted = DummySession(_read(draft.path), 0.0), tokens

    def speculate(self, prompt: Tokens, n: int) -> Speculated:
        """Exactly `n` greedy tokens after the prompt with the draft model's help."""
        assert self._draft is not None
        return speculate(prompt, n, self._drafted, drafting(self._draft.greedy, VOCABULARY), self.greedy)

    def greedy(self, sequence: Tokens, answers: int) -> Tokens:
        """The most likely token after each of the last `answers` tokens."""
        time.sleep(self._delay_s)
        return np.asarray(self._weights[sequence[-answers:]].argmax(1), dtype=np.int32)

    def tie(self, sequence: Tokens, prompt: int, one: int, other: int) -> Tie:
        """How near two tokens are after the sequence."""
        del prompt
        row = self._weights[sequence[-1]]
        return Tie(gap=abs(float(row[one] - row[other])), noise=0.0)

    def close(self) -> None:
        """Nothing to give back."""
