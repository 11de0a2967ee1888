"""Hugging Face folder + calibration text -> an AWQ checkpoint, with the library that `backend` names."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from stages._awq import Settings
from stages._awq_autoawq import quantized as by_autoawq
from stages._awq_gptqmodel import quantized as by_gptqmodel
from stages._awq_llmcompressor import quantized as by_llmcompressor
from stages._calibration import INPUT
from stages._calibration_text import fast_tokenizer, required_text, windows
from stages._checkpoint import quantized_facts, write_checkpoint
from stages._cuda import unavailable_device
from stages._quantized import refuse_quantized
from stages.base import Artifact, Context, Produced, Stage, name_of

BACKENDS = {"gptqmodel": by_gptqmodel, "autoawq": by_autoawq, "llmcompressor": by_llmcompressor}


class QuantizeAwq(Stage):
    """Scale channels by their activations, clip, round to 4 bits: the decoder's Linear layers; the rest stays."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "gptq"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    backend: Literal["gptqmodel", "autoawq", "llmcompressor"] = Field(
        "gptqmodel", description="the library; each has an environment of its own"
    )
    group_size: int = Field(64, ge=16, description="inputs that share a scale")
    symmetric: bool = Field(True, description="no zero point")
    windows: int = Field(32, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(512, ge=16, description="tokens a window")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")

    @model_validator(mode="after")
    def _packs_what_the_backend_can(self) -> Self:
        if self.backend == "autoawq" and self.symmetric:
            raise ValueError(
                "`backend: autoawq` packs no symmetric groups: set `symmetric: false`, or take another backend"
            )
        return self

    @property
    def environment(self) -> str:
        """That of the backend."""
        return type(self).env if self.backend == "gptqmodel" else self.backend

    def unavailable(self) -> str | None:
        """CUDA is asked for where there is none."""
        return unavailable_device(self.device)

    def needs(self) -> frozenset[str]:
        """The calibration text."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the checkpoint with its tokenizer.

        Raises:
            Refused: quantized already, a group size that does not divide a layer, a layer that the backend cannot
            clip, or no or too little calibration text.
        """
        refuse_quantized(model.path)
        text = required_text(context, name_of(self))
        rows = windows(text, fast_tokenizer(model.path), self.windows, self.window, name_of(self))
        settings = Settings(
            group_size=self.group_size, symmetric=self.symmetric, device=self.device, threads=context.threads
        )
        made = BACKENDS[self.backend](model.path, rows, settings, context.scratch)
        write_checkpoint(model.path, context.out, made.tensors, made.told)
        found: dict[str, JsonValue] = {"calibration_tokens": int(rows.size), "calibration_text": text.name}
        return Produced(facts={**model.facts, **quantized_facts(context.out, "awq"), **found})
