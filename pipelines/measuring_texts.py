"""The raw measurements of a language model: tokens, scores, choices, continuations, timed pairs."""

from __future__ import annotations

import json
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.draft_timing import time_draft
from pipelines.errors import DataError
from pipelines.evaluation.accuracy import Choices, correct
from pipelines.evaluation.drafting import DraftSamples
from pipelines.evaluation.encoding import EncodingRequest
from pipelines.evaluation.latency import SpeedSamples
from pipelines.evaluation.scores import Scores
from pipelines.fields.evaluation import Perplexity
from pipelines.making import Made
from pipelines.measuring import Bench, Measurer, Subject
from pipelines.records import DataRecord
from pipelines.runner import LiveSession
from pipelines.store import WorkFolder
from pipelines.timing import time_pairs
from stages.base import Artifact, Produced, name_of

CONTEXT_MARGIN = 8
"""Tokens of context beyond the longest sequence."""


class TextMeasurer(Measurer):
    """Measures language models on the same texts, by the reference's tokens."""

    def __init__(self, bench: Bench, reference: Subject, texts: EncodingRequest) -> None:
        super().__init__(bench, reference)
        self._texts = texts

    @cached_property
    def tokens(self) -> Artifact:
        """The evaluation text and the tasks' questions as token files, by the reference's own tokenizer."""

        def make(work: WorkFolder) -> Produced:
            request = work.scratch / "texts.json"
            request.write_text(self._texts.model_dump_json(), encoding="utf-8")
            self.session(self.reference).call("encode", request=str(request), out=str(work.out))
            sequences = [Choices.load(file).longest for file in work.out.glob("task_*.npz")]
            return Produced(facts={"tokens": len(np.load(work.out / "text.npy")), "longest": max([0, *sequences])})

        return self.obtain("tokens", self.reference, {"data": self.bench.data.digest}, make).artifact

    @property
    def data(self) -> DataRecord:
        """The evaluation data as it was used, counted in tokens."""
        return self.bench.data.model_copy(update={"tokens": self.token_count})

    @property
    def token_count(self) -> int:
        """Tokens of the evaluation text."""
        return int(str(self.tokens.facts["tokens"]))

    @property
    def text(self) -> NDArray[np.int32]:
        """The evaluation text as tokens, shape (tokens,)."""
        text: NDArray[np.int32] = np.load(self.tokens.path / "text.npy", allow_pickle=False)
        return text

    def windows(self, settings: Perplexity) -> int:
        """How many windows may be drawn at most.

        Raises:
            DataError: the text does not fill two windows.
        """
        count = self.token_count
        if count < 2 * settings.window:
            raise DataError(
                f"evaluation text: {count:,} tokens are less than two windows of {settings.window}",
                "give a longer text, or a smaller `evaluation.perplexity.window`",
            )
        return min(count // settings.window, settings.max_windows)

    def scored(self, subject: Subject, settings: Perplexity, first: int, last: int) -> Made:
        """Scores of windows [first, last), as the file `scores.npz`."""
        theirs = None if subject == self.reference else self.scored(self.reference, settings, first, last)
        windows: dict[str, JsonValue] = {"first": first, "last": last, "window": settings.window}
        windows["top_k"] = settings.top_k

        def make(work: WorkFolder) -> Produced:
            files = {"tokens": str(self.tokens.path / "text.npy"), "out": str(work.out / "scores.npz")}
            reference = None if theirs is None else str(theirs.artifact.path / "scores.npz")
            self.session(subject).call("score", reference=reference, **files, **windows)
            return Produced()

        parts = {**windows, "tokens": self.tokens.digest, "reference": theirs.artifact.digest if theirs else None}
        return self.obtain("scores", subject, parts, make)

    def answers(self, subject: Subject, task: str) -> NDArray[np.bool_]:
        """Whether each question of the task was answered rightly, shape (questions,)."""
        questions = self.tokens.path / f"task_{task}.npz"

        def make(work: WorkFolder) -> Produced:
            self.session(subject).call("choose", choices=str(questions), out=str(work.out / "log_likelihoods.npy"))
            return Produced()

        made = self.obtain("choices", subject, {"tokens": self.tokens.digest, "task": task}, make)
        likelihoods = np.load(made.artifact.path / "log_likelihoods.npy", allow_pickle=False)
        return correct(Choices.load(questions), likelihoods)

    def continuations(self, subject: Subject) -> list[list[int]]:
        """Greedy continuations of prompts spread evenly over the evaluation text."""
        settings = self.bench.config.evaluation.generation
        assert settings is not None
        text = self.text
        if len(text) < settings.prompt_tokens + settings.prompts:
            raise DataError(
                f"evaluation text: {len(text):,} tokens are too few for {settings.prompts} prompts of "
                f"{settings.prompt_tokens}",
                "give a longer text, or fewer or shorter prompts in `evaluation.generation`",
            )
        prompts = spread(text, settings.prompts, settings.prompt_tokens).tolist()

        def make(work: WorkFolder) -> Produced:
            with self.bench.progress.bar(f"{name_of(subject.target)}: generate", settings.prompts, "prompts") as bar:
                made = []
                for number, prompt in enumerate(prompts):
                    made.append(generated(self.session(subject), prompt, settings.tokens)["tokens"])
                    bar.update(number + 1)
            (work.out / "continuations.json").write_text(json.dumps(made))
            return Produced()

        parts: dict[str, JsonValue] = {"tokens": self.tokens.digest, "generation": settings.model_dump(mode="json")}
        made = self.obtain("continuations", subject, parts, make)
        found: list[list[int]] = json.loads((made.artifact.path / "continuations.json").read_text())
        return found

    def timed(self, candidate: Subject) -> SpeedSamples:
        """Reference and candidate timed in alternating blocks."""
        settings = self.bench.config.evaluation.speed
        assert settings is not None

        def make(work: WorkFolder) -> Produced:
            sessions = self.session(self.reference), self.session(candidate)
            samples = time_pairs(sessions, self.text, settings, self.bench.threads, self.bench.progress)
            (work.out / "samples.json").write_text(samples.model_dump_json())
            return Produced()

        parts: dict[str, JsonValue] = {
            "tokens": self.tokens.digest,
            "reference": self.identity(self.reference),
            "speed": settings.model_dump(mode="json"),
            "threads": self.bench.threads,
            "context": self.context_length,  # peak memory grows with it
        }
        made = self.obtain("speed", candidate, parts, make)
        return SpeedSamples.model_validate_json((made.artifact.path / "samples.json").read_text())

    def drafted(self, candidate: Subject, draft: Artifact) -> DraftSamples:
        """The candidate without and with a draft model, timed in alternating generations."""
        settings, speed = self.bench.config.draft, self.bench.config.evaluation.speed
        assert settings is not None
        assert speed is not None
        text = self.text
        if len(text) < settings.prompt_tokens + settings.prompts:
            raise DataError(
                f"evaluation text: {len(text):,} tokens are too few for {settings.prompts} prompts of "
                f"{settings.prompt_tokens}",
                "give a longer text, or fewer or shorter prompts in `draft`",
            )
        prompts = spread(text, settings.prompts, settings.prompt_tokens)

        def make(work: WorkFolder) -> Produced:
            samples = time_draft(self.session(candidate), draft, settings, prompts, speed, self.bench.progress)
            (work.out / "samples.json").write_text(samples.model_dump_json())
            return Produced()

        parts: dict[str, JsonValue] = {
            **self.draft_identity(draft),
            "tokens": self.tokens.digest,
            "speed": speed.model_dump(mode="json"),
            "threads": self.bench.threads,
            "context": self.context_length,
        }
        made = self.obtain("draft", candidate, parts, make)
        return DraftSamples.model_validate_json((made.artifact.path / "samples.json").read_text())

    @property
    def context_length(self) -> int:
        """The most tokens of any sequence: those that the config asks for, and a task's questions once tokenized."""
        settings = self.bench.config.evaluation
        lengths = [int(str(self.tokens.facts["longest"]))] if "tokens" in vars(self) else []
        lengths += [settings.perplexity.window] if settings.perplexity else []
        if settings.generation:
            lengths.append(settings.generation.prompt_tokens + settings.generation.tokens)
        if draft := self.bench.config.draft:
            lengths.append(draft.prompt_tokens + draft.generated)
        if settings.speed:
            lengths.append(max(settings.speed.prompt_tokens) + settings.speed.tokens)
        return max([512, *lengths]) + CONTEXT_MARGIN


def spread(text: NDArray[np.int32], count: int, length: int) -> NDArray[np.int32]:
    """Prompts of that length at even distances over the text, shape (count, length)."""
    stride = (len(text) - length) // count
    return np.stack([text[number * stride :][:length] for number in range(count)])


def generated(session: LiveSession, prompt: list[int], n: int) -> dict[str, list[int]]:
    """One greedy generation of a live session, as JSON."""
    made = session.call("generate", prompt=list(prompt), n=n)
    assert isinstance(made, dict)
    return made  # type: ignore[return-value]


def loaded(made: list[Made]) -> Scores:
    """The scores of consecutive windows as one."""
    return Scores.join([Scores.load(part.artifact.path / "scores.npz") for part in made])
