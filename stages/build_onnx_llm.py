"""Hugging Face folder -> a language model for ONNX Runtime GenAI, by its own builder."""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from stages._onnx_llm import BLOCK_SIZES, KIND, SETTINGS, genai_settings, refuse_odd_blocks
from stages._safetensors_header import stored
from stages._text_kept import kept_facts
from stages.base import Artifact, Context, Produced, Refused, Stage

_BUILDERS = {"float32": "fp32", "float16": "fp16", "int8": "int8", "int4": "int4"}
_QUANTIZED_ALREADY = frozenset({"gptq", "awq"})

_HEAD_IS_ROUNDED = "the checkpoint has its head in floats; it is rounded to 4 bits here: `keep_8_bits: head` loses less"
_COLUMNS_MOVED = (
    "the checkpoint has its columns in another order (`desc_act`): ONNX Runtime's CPU kernel de-quantizes such layers "
    "at every token, which takes many times as long; quantize with `act_order: false`"
)


class BuildOnnxLlm(Stage):
    """Build with onnxruntime-genai: floats, weights of 8 or 4 bits, or a GPTQ or AWQ checkpoint as it is."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "onnx_llm"

    precision: Literal["float32", "float16", "int8", "int4"] = Field("float32", description="what weights are held in")
    method: Literal["rtn", "k_quant"] = Field(
        "rtn", description="with int8 and int4: round to nearest, or search each block's scale as k-quants do"
    )
    block_size: Literal[16, 32, 64, 128, 256] = Field(64, description="with int8 and int4: weights that share a scale")
    symmetric: bool = Field(True, description="with int8 and int4: no zero point; k-quants have one in any case")
    keep_8_bits: Literal["nothing", "head", "sensitive"] = Field(
        "nothing",
        description="with int4: what has 8 bits: the head, and an embedding tied to it; or these and the layers "
        "llama.cpp's mixtures favour",
    )
    accuracy_level: Literal[1, 4] = Field(
        4, description="with int8 and int4: 4 rounds activations to INT8 while it multiplies, 1 keeps float32"
    )

    @model_validator(mode="after")
    def _only_at_4_bits(self) -> BuildOnnxLlm:
        if self.keep_8_bits != "nothing" and self.precision != "int4":
            raise ValueError("keep_8_bits: with `precision: int4` only")
        return self

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.onnx, its weights, genai_config.json and the tokenizer.

        Raises:
            Refused: an architecture that the builder lacks, a checkpoint quantized in another way or to other bits, a
            block size whose zero points cannot be packed, or a tokenizer, chat template or special token lost on the
            way.
        """
        config = json.loads((model.path / "config.json").read_text(encoding="utf-8"))
        self._refuse_quantized(config)
        if self._packs_zero_points and not config.get("quantization_config"):
            refuse_odd_blocks(stored(model.path), self.block_size)
        from onnxruntime_genai.models.builder import create_model, parse_extra_options

        name, scratch = _BUILDERS[self.precision], str(context.scratch)
        context.progress(0, 2, "building")
        try:
            asked = [f"{key}={value}" for key, value in self._options().items()]
            options = parse_extra_options("", str(model.path), str(context.out), name, "cpu", scratch, asked)
            create_model("", str(model.path), str(context.out), name, "cpu", scratch, **options)
        except (NotImplementedError, ValueError, KeyError) as error:
            raise Refused(
                f"onnxruntime-genai's builder refused the model: {' '.join(str(error).split())[:400]}",
                "use a model and a precision that it knows",
            ) from error
        context.progress(1, 2, "checking")
        facts = kept_facts(model.path, context.out, model.facts)
        trained = genai_settings(context.out)["context_length"]
        context.progress(2, 2, SETTINGS)
        facts |= {"precision": self.precision, "context_length": trained, **self._how(config)}
        return Produced(facts=facts, notes=self._notes(config))

    def _options(self) -> dict[str, str]:
        if not self._quantizes:
            return {}
        options = {"algo_config": self.method, "block_size": str(self.block_size)}
        options |= {"is_symmetric": str(self.symmetric).lower(), "accuracy_level": str(self.accuracy_level)}
        mixed = {"head": "last_matmul:int8", "sensitive": "last_matmul:int8,mixed_layers:int8"}
        if self.keep_8_bits != "nothing":
            options["matmul_mixed_precision"] = mixed[self.keep_8_bits]
        return options

    @property
    def _quantizes(self) -> bool:
        return self.precision in ("int8", "int4")

    @property
    def _packs_zero_points(self) -> bool:
        return self.precision == "int4" and not (self.symmetric and self.method == "rtn")

    def _notes(self, config: dict[str, Any]) -> tuple[str, ...]:
        given = config.get("quantization_config") or {}
        notes = []
        if given and not given.get("lm_head") and self.keep_8_bits == "nothing":
            notes.append(_HEAD_IS_ROUNDED)
        if given.get("desc_act"):
            notes.append(_COLUMNS_MOVED)
        return tuple(notes)

    def _how(self, config: dict[str, Any]) -> dict[str, JsonValue]:
        if given := config.get("quantization_config"):
            return {"method": given["quant_method"], "block_size": given["group_size"]}
        return {"method": self.method, "block_size": self.block_size} if self._quantizes else {}

    def _refuse_quantized(self, config: dict[str, Any]) -> None:
        quantization = config.get("quantization_config")
        if not quantization:
            return
        method, bits = quantization.get("quant_method"), quantization.get("bits")
        if method not in _QUANTIZED_ALREADY:
            raise Refused(
                f"the checkpoint is quantized already, with {method}", "give a float, a GPTQ or an AWQ checkpoint"
            )
        if self.precision != f"int{bits}":
            raise Refused(
                f"the checkpoint is quantized already, with {method} to {bits} bits; `precision` is {self.precision}",
                f"`precision: int{bits}` takes its weights as they are",
            )
        _refuse_layout(quantization)


def _refuse_layout(quantization: dict[str, Any]) -> None:
    """Raises:
    Refused: groups that MatMulNBits cannot have, or a layout that the builder would read as another one.
    """
    method, size = quantization.get("quant_method"), quantization.get("group_size")
    if size not in BLOCK_SIZES:
        raise Refused(
            f"the checkpoint is quantized in groups of {size}, and ONNX Runtime has none such",
            f"quantize with `group_size: {' or '.join(map(str, BLOCK_SIZES))}`",
        )
    key, read = ("checkpoint_format", "gptq") if method == "gptq" else ("version", "gemm")
    if (form := str(quantization.get(key) or read).lower()) != read:
        raise Refused(
            f"the checkpoint's `{key}` is {form}, and onnxruntime-genai's builder reads it as {read}",
            f"give a checkpoint in the format {read}: `quantize_{method}` writes it",
        )
