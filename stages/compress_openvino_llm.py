"""OpenVINO language model -> the same with weights of 8 or 4 bits, by NNCF over calibration text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from stages._calibration import INPUT
from stages._calibration_text import required_text, windows
from stages._openvino_compress import nncf
from stages._openvino_llm import KIND, llm_facts, read_llm, refuse_broken_scales, refuse_compressed, write_llm
from stages.base import Artifact, Context, Produced, Refused, Stage, name_of

Mode = Literal["int8_asym", "int8_sym", "int4_asym", "int4_sym"]
_OF_4_BITS = ("awq", "scale_estimation", "gptq", "lora_correction")


class CompressOpenvinoLlm(Stage):
    """Compress weights with NNCF: rounded to nearest, or as AWQ, scale estimation and GPTQ learn from text."""

    consumes: ClassVar[frozenset[str]] = frozenset({KIND})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "openvino_llm"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    mode: Mode = Field("int4_sym", description="bits, and whether a group has a zero point (`asym`)")
    group_size: int = Field(64, ge=-1, description="weights that share a scale at 4 bits; -1 is a whole channel")
    ratio: float = Field(1.0, gt=0, le=1, description="share of the layers at 4 bits; the most sensitive keep 8")
    all_layers: bool = Field(False, description="4 bits for the embedding and the head, too, which else have 8")
    awq: bool = Field(False, description="scale channels by their activations before rounding")
    scale_estimation: bool = Field(False, description="choose each group's scale by the error of the layer's output")
    gptq: bool = Field(False, description="correct the columns not yet rounded for the error of those that are")
    lora_correction: bool = Field(False, description="add low-rank matrices in 8 bits that undo part of the error")
    windows: int = Field(128, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(128, ge=16, description="tokens a window")

    @model_validator(mode="after")
    def _only_at_4_bits(self) -> CompressOpenvinoLlm:
        asked = [name for name in _OF_4_BITS if getattr(self, name)]
        if self.mode.startswith("int8") and (asked or self.ratio < 1):
            raise ValueError(f"{', '.join(asked) or 'ratio'}: at 4 bits only; choose `mode: int4_sym` or `int4_asym`")
        if self.lora_correction and self.gptq:
            raise ValueError("lora_correction and gptq exclude each other in NNCF: choose one")
        return self

    @property
    def learns(self) -> bool:
        """Whether text decides anything."""
        return self.ratio < 1 or any(getattr(self, name) for name in _OF_4_BITS)

    def needs(self) -> frozenset[str]:
        """The calibration text, where text decides anything."""
        return frozenset({INPUT}) if self.learns else frozenset()

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the model with its tokenizer beside it.

        Raises:
            Refused: compressed already, a group size that does not divide a layer, no or too little calibration text,
            or a layer whose scales came out as NaN or infinity.
        """
        source = read_llm(model.path)
        refuse_compressed(llm_facts(source))
        rows = self._rows(model.path, context) if self.learns else None
        context.progress(0, 2, "compressing")
        options = self._options(source, rows)
        try:
            made = nncf().compress_weights(source, mode=nncf().CompressWeightsMode(self.mode), **options)
        except (nncf().InvalidGroupSizeError, nncf().ValidationError, nncf().UnsupportedModelError) as error:
            raise Refused(
                f"NNCF refused: {' '.join(str(error).split())[:400]}",
                "choose another `group_size`, or `mode: int8_asym`",
            ) from error
        refuse_broken_scales(made)
        context.progress(1, 2, "writing")
        write_llm(made, model.path, context.out)
        tokens = {} if rows is None else {"calibration_tokens": int(rows.size)}
        context.progress(2, 2, "written")
        return Produced(facts={**model.facts, **llm_facts(read_llm(context.out)), **tokens})

    def _rows(self, folder: Path, context: Context) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

        def encode(text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": tokenizer.encode(text, add_special_tokens=False).ids}

        return windows(required_text(context, name_of(self)), encode, self.windows, self.window, name_of(self))

    def _options(self, source: Any, rows: Any) -> dict[str, Any]:
        if self.mode.startswith("int8"):
            return {}
        options: dict[str, Any] = {"ratio": self.ratio, "group_size": self.group_size, "all_layers": self.all_layers}
        if rows is None:
            return options
        names = {port.get_any_name() for port in source.inputs}
        fed = nncf().Dataset(list(rows), lambda row: {name: feed(name, row) for name in sorted(names)})
        asked = {name: True for name in _OF_4_BITS if getattr(self, name)}
        sys.stderr.write(f"calibrating on {rows.size:,} tokens\n")
        advanced = _advanced(len(rows), self.group_size)
        return {**options, **asked, "dataset": fed, "subset_size": len(rows), "advanced_parameters": advanced}


def _advanced(count: int, group_size: int) -> Any:
    """Every algorithm looks at all of the windows, which NNCF reduces to the mean of their tokens.

    A group has as many unknowns as inputs, so scale estimation also pays for what the weights themselves lose. GPTQ
    works in blocks of a group: a group that begins within a block takes its range from weights not yet corrected.
    """
    from nncf import quantization

    own = quantization.advanced_parameters
    return own.AdvancedCompressionParameters(
        awq_params=own.AdvancedAWQParameters(subset_size=count),
        scale_estimation_params=own.AdvancedScaleEstimationParameters(
            subset_size=count, scale_steps=10, weight_penalty=0.1
        ),
        gptq_params=own.AdvancedGPTQParameters(
            subset_size=count, **({"block_size": group_size} if group_size > 0 else {})
        ),
        lora_correction_params=own.AdvancedLoraCorrectionParameters(subset_size=count),
    )


def feed(name: str, row: Any) -> Any:
    """What an input of a stateful export is given for one window of tokens at the start of a sequence.

    Raises:
        Refused: an input that no text model of optimum-intel has.
    """
    made = {
        "input_ids": row[None].astype(np.int64),
        "attention_mask": np.ones((1, len(row)), np.int64),
        "position_ids": np.arange(len(row), dtype=np.int64)[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    if name not in made:
        raise Refused(f"the model has an input `{name}` that plain text does not fill", "take a text model")
    return made[name]
