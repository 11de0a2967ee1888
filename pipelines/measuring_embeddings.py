"""The raw measurements of a text encoder, and the tokens that it is measured and calibrated on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from pydantic import JsonValue

from pipelines.beside import CALIBRATION, TRAINING
from pipelines.data.retrieval import RetrievalSets
from pipelines.evaluation.embeddings import Searched
from pipelines.evaluation.tokenizing import Retrieval, TokenizeRequest
from pipelines.measuring import Bench, Subject
from pipelines.measuring_arrays import ArrayMeasurer
from pipelines.records import DataRecord
from pipelines.store import WorkFolder
from stages._tokens import Tokens
from stages.base import Artifact, Produced


class EncoderMeasurer(ArrayMeasurer):
    """Measures encoders on the same tokens, which are those of the subject that is `tokenizing`: the source."""

    def __init__(self, bench: Bench, reference: Subject, texts: RetrievalSets, tokenizing: Subject) -> None:
        settings = bench.config.evaluation.embeddings
        assert settings is not None
        super().__init__(bench, reference, settings.batch)
        self._texts, self._settings, self._tokenizing = texts, settings, tokenizing

    @cached_property
    def inputs(self) -> Artifact:
        """The evaluation texts as tokens."""
        return self._tokens(self._texts.evaluation)

    @cached_property
    def given(self) -> Mapping[str, Artifact]:
        """The calibration and the training texts as tokens, where the config names some."""
        texts = {CALIBRATION: self._texts.calibration, TRAINING: self._texts.training}
        return {name: self._tokens(part) for name, part in texts.items() if part}

    @property
    def data(self) -> DataRecord:
        """The evaluation data as it was used, counted in tokens."""
        return self.bench.data.model_copy(update={"tokens": int(str(self.inputs.facts["tokens"]))})

    @property
    def searched(self) -> Searched:
        """Which rows of the outputs are passages, and which one answers each query."""
        tokens = Tokens.load(self.inputs.path)
        return Searched(tokens.documents, tokens.relevant, self._settings.neighbours)

    @property
    def cut(self) -> str:
        """How many texts were too long, in a sentence; empty where none was."""
        cut, texts = self.inputs.facts["cut"], self.inputs.facts["texts"]
        return f"{cut} of {texts} evaluation texts are cut at {self._settings.length} tokens" if cut else ""

    def _tokens(self, texts: Retrieval) -> Artifact:
        asked = TokenizeRequest(texts=texts, length=self._settings.length)

        def make(work: WorkFolder) -> Produced:
            request = work.scratch / "texts.json"
            request.write_text(asked.model_dump_json(), encoding="utf-8")
            told = self.session(self._tokenizing).call("tokenize", request=str(request), out=str(work.out))
            return Produced(facts=told if isinstance(told, dict) else {})

        parts: dict[str, JsonValue] = {"texts": asked.model_dump(mode="json")}
        return self.obtain("tokens", self._tokenizing, parts, make).artifact
