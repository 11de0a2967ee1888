"""An open session that answers calls whose arguments and results survive JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from pipelines.evaluation.accuracy import Choices, log_likelihoods
from pipelines.evaluation.calls import Moved, answered
from pipelines.evaluation.encoding import encode
from pipelines.evaluation.live_arrays import LiveArrays
from pipelines.evaluation.memory import peak_bytes, reset_peak
from pipelines.evaluation.scores import Scores, score
from stages.base import Artifact, Refused
from targets.base import ArraySession, Session, SpeculatingSession, TextSession

METHODS = frozenset(
    {"encode", "score", "choose", "generate", "load_draft", "speculate", "tie"}
    | {"peak_memory", "forget_peak_memory", "close"}
)


class Live:
    """The calls that evaluation makes of a language model, wherever it lives. Every path is a file or a folder."""

    def __init__(self, session: TextSession, load_s: float, threads: int, moved: Moved) -> None:
        self._session, self._load_s, self._threads, self._moved = session, load_s, threads, moved

    @classmethod
    def opened(cls, open_session: Callable[[], Session], threads: int, moved: Moved) -> Live | LiveArrays:
        """Open the session and time it; what it answers goes by what it takes.

        Raises:
            Refused: it takes neither text nor arrays.
        """
        begin = time.perf_counter()
        session = open_session()
        load_s = time.perf_counter() - begin
        if isinstance(session, TextSession):
            return cls(session, load_s, threads, moved)
        if isinstance(session, ArraySession):
            return LiveArrays(session, load_s, moved)
        raise Refused("this target's sessions take neither text nor arrays, so that nothing of them can be measured")

    def facts(self) -> dict[str, JsonValue]:
        """What is known on opening: vocabulary size and seconds to load."""
        return {"vocabulary_size": self._session.vocabulary_size, "load_s": self._load_s}

    def answer(self, method: str, arguments: dict[str, JsonValue]) -> JsonValue:
        """Call a method by name; numbers, strings and lists go in and out."""
        return answered(self, METHODS, method, arguments)

    def encode(self, request: str, out: str) -> None:
        """Tokenize the texts and questions of a request file into a folder (`pipelines.evaluation.encoding`)."""
        encode(self._session, Path(request), Path(out))

    def score(
        self, tokens: str, first: int, last: int, window: int, top_k: int, reference: str | None, out: str
    ) -> None:
        """Score windows [first, last) of `window` tokens each of a .npy file of tokens; Scores go to `out`."""
        text = np.load(tokens, allow_pickle=False)
        windows = text[first * window : last * window].reshape(last - first, window)
        ids = None if reference is None else Scores.load(Path(reference)).top_ids

        def progress(done: int) -> None:
            self._moved(done, last - first, "windows")

        score(self._session, windows, top_k, self._threads, ids, progress).save(Path(out))

    def choose(self, choices: str, out: str) -> None:
        """Log-likelihoods of the choices of a Choices file; a .npy file goes to `out`."""
        loaded = Choices.load(Path(choices))
        found = log_likelihoods(self._session, loaded, lambda done: self._moved(done, len(loaded.ends), "choices"))
        np.save(out, found)

    def generate(self, prompt: list[int], n: int) -> dict[str, JsonValue]:
        """`n` greedy tokens with their seconds, as `targets.base.Generated`."""
        made = self._session.generate(np.array(prompt, dtype=np.int32), n)
        return {"tokens": list(made.tokens), "seconds": list(made.seconds)}

    def load_draft(self, draft: dict[str, JsonValue], tokens: int) -> None:
        """Open an artifact as the session's draft model, to draft that many tokens a step."""
        self._speculating.load_draft(Artifact.model_validate(draft), tokens)

    def speculate(self, prompt: list[int], n: int) -> dict[str, JsonValue]:
        """`n` greedy tokens with the draft model's help, as `targets.base.Speculated`."""
        made = self._speculating.speculate(np.array(prompt, dtype=np.int32), n)
        return {**asdict(made), "tokens": list(made.tokens)}

    def tie(self, sequence: list[int], prompt: int, one: int, other: int) -> dict[str, JsonValue]:
        """How near two tokens are after a sequence, as `targets.base.Tie`."""
        return asdict(self._speculating.tie(np.array(sequence, dtype=np.int32), prompt, one, other))

    @property
    def _speculating(self) -> SpeculatingSession:
        if not isinstance(self._session, SpeculatingSession):
            raise Refused("this target's sessions take no draft model", "leave `draft` out")
        return self._session

    def peak_memory(self) -> int:
        """Bytes resident at most since the start, or since `forget_peak_memory`."""
        return peak_bytes()

    def forget_peak_memory(self) -> bool:
        """Start a new peak from what is resident now; False where the system cannot."""
        return reset_peak()

    def close(self) -> None:
        """Close the session."""
        self._session.close()
