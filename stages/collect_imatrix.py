"""Hugging Face folder + calibration text -> the importance matrix that llama.cpp quantizes with."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from stages._activations import watched
from stages._calibration import INPUT
from stages._calibration_text import required_text, windows
from stages._imatrix import FILE, KIND, Imatrix
from stages._language_model import LanguageModel
from stages.base import Artifact, Context, Produced, Stage, name_of


class CollectImatrix(Stage):
    """Sum the squared inputs of every Linear layer over calibration text; `quantize_gguf` steps after it use them."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "gguf"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})
    beside: ClassVar[bool] = True

    windows: int = Field(48, ge=1, description="how many, spread evenly over the calibration text")
    window: int = Field(512, ge=16, description="tokens a window")

    def needs(self) -> frozenset[str]:
        """The calibration text."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write imatrix.gguf.

        Raises:
            Refused: no calibration text or too little of it, a model that llama.cpp does not know, or NaN in a layer.
        """
        import torch

        text = required_text(context, name_of(self))
        subject = LanguageModel.load(model.path, context.threads)
        rows = windows(text, subject.tokenizer, self.windows, self.window, name_of(self))
        with torch.inference_mode(), watched(subject.linears) as seen:
            for number, row in enumerate(torch.from_numpy(rows), 1):
                subject.model(row[None], use_cache=False)
                seen.forget_input()
                context.progress(number, len(rows), "windows")
        Imatrix(seen.arrays(), rows.size, self.window, text.name).save(context.out / FILE)
        return Produced(facts={"tokens": rows.size, "matrices": len(seen.sums), "text": text.name})
