"""Hugging Face folder + calibration text -> the same function in floats, which loses less by rounding: AWQ's scales."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from stages._awq import Settings
from stages._awq_llmcompressor import scaled
from stages._calibration import INPUT
from stages._calibration_text import fast_tokenizer, required_text, windows
from stages._causal_lm import save_lm
from stages._cuda import unavailable_device
from stages._quantized import refuse_quantized
from stages.base import Artifact, Context, Produced, Stage, name_of


class ScaleChannels(Stage):
    """Scale channels by their activations (AWQ, arXiv 2306.00978), and round nothing: any quantizer may follow.

    A norm, or the layer in front, takes the inverse of what the weights are multiplied by. llm-compressor searches the
    scales for groups of 4 bits.
    """

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "llmcompressor"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    group_size: int = Field(64, ge=16, description="inputs that will share a scale in what follows")
    symmetric: bool = Field(True, description="what follows has no zero points")
    windows: int = Field(16, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(512, ge=16, description="tokens a window")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")

    def unavailable(self) -> str | None:
        """CUDA is asked for where there is none."""
        return unavailable_device(self.device)

    def needs(self) -> frozenset[str]:
        """The calibration text."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the folder in float32.

        Raises:
            Refused: quantized already, a group size that does not divide a layer, or no or too little calibration text.
        """
        refuse_quantized(model.path)
        text = required_text(context, name_of(self))
        rows = windows(text, fast_tokenizer(model.path), self.windows, self.window, name_of(self))
        settings = Settings(
            group_size=self.group_size, symmetric=self.symmetric, device=self.device, threads=context.threads
        )
        made = scaled(model.path, rows, settings, context.scratch)
        save_lm(made.to("cpu"), model.path, context.out)
        found: dict[str, JsonValue] = {"calibration_tokens": int(rows.size), "calibration_text": text.name}
        return Produced(facts={**model.facts, **found})
