"""Hugging Face folder + calibration text -> a GPTQ checkpoint, with GPTQModel's solver."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from stages._calibration import INPUT
from stages._calibration_text import required_text, windows
from stages._checkpoint import quantized_facts, write_checkpoint
from stages._decoder_layers import layers_of, opened
from stages._gptq import Settings
from stages._gptq_walk import refuse_group_size, walk
from stages._layer_results import LayerResults
from stages._quantized import refuse_quantized
from stages.base import Artifact, Context, Produced, Refused, Stage, name_of


class QuantizeGptq(Stage):
    """Quantize the Linear layers of the decoder with GPTQ, or round them to nearest; embedding and head stay."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "gptq"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    bits: Literal[2, 3, 4, 8] = Field(4, description="bits of a code")
    group_size: int = Field(64, ge=-1, description="inputs that share a scale; -1 is a whole row")
    symmetric: bool = Field(True, description="no zero point")
    method: Literal["gptq", "rtn"] = Field(
        "gptq", description="`rtn` rounds to nearest on the same grid, without text: what GPTQ is measured against"
    )
    act_order: bool = Field(True, description="columns with the largest activations first")
    damping: float = Field(0.05, gt=0, lt=1, description="added to the Hessian's diagonal, in parts of its mean")
    scale_search: float = Field(
        2.4, ge=0, description="search each group's scale by the error to this power; 0 takes its range"
    )
    windows: int = Field(48, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(512, ge=16, description="tokens a window")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")

    def needs(self) -> frozenset[str]:
        """The calibration text, for GPTQ."""
        return frozenset({INPUT}) if self.method == "gptq" else frozenset()

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the checkpoint with its tokenizer. A killed run goes on at the layer where it was.

        Raises:
            Refused: quantized already, a group size that does not divide a layer, no or too little calibration text,
            or NaN in a layer.
        """
        import torch

        refuse_quantized(model.path)
        if self.device == "cuda" and not torch.cuda.is_available():
            raise Refused("`device: cuda`, and torch finds no CUDA device", "set `device: cpu`")
        loaded, tokenizer = opened(model.path, context.threads, self.device)
        learns = self.method == "gptq"
        text = required_text(context, name_of(self)) if learns else None
        rows = windows(text, tokenizer, self.windows, self.window, name_of(self)) if text else None
        with torch.inference_mode():
            layers, hidden = layers_of(loaded, rows if rows is not None else _one_window(loaded))
            refuse_group_size(layers, self.settings)
            kept = LayerResults(context.resume)
            tensors = walk(layers, hidden if learns else None, self.settings, kept, context.progress)
        self._write(model, loaded, tensors, context)
        found = quantized_facts(context.out, self.method)
        if text and rows is not None:
            found |= {"calibration_tokens": int(rows.size), "calibration_text": text.name}
        return Produced(facts={**model.facts, **found})

    @property
    def settings(self) -> Settings:
        """What the solver is told."""
        return Settings(
            bits=self.bits,
            group_size=self.group_size,
            symmetric=self.symmetric,
            act_order=self.act_order and self.method == "gptq",
            damping=self.damping,
            scale_search=self.scale_search if self.method == "gptq" else 0.0,
        )

    def _write(self, model: Artifact, loaded: Any, tensors: dict[str, Any], context: Context) -> None:
        quantized = {name.rpartition(".")[0] for name in tensors}
        tied = {"lm_head.weight"} if loaded.config.tie_word_embeddings else set()
        for name, tensor in loaded.state_dict().items():
            if name.rpartition(".")[0] not in quantized and name not in tied:
                tensors[name] = tensor.half().cpu().contiguous()
        write_checkpoint(model.path, context.out, tensors, self._told())

    def _told(self) -> dict[str, JsonValue]:
        return {
            "quant_method": "gptq",
            "checkpoint_format": "gptq",
            "bits": self.bits,
            "group_size": self.group_size,
            "sym": self.symmetric,
            "desc_act": self.settings.act_order,
            "damp_percent": self.damping,
            "lm_head": False,
            "true_sequential": True,
        }


def _one_window(loaded: Any) -> Any:
    import numpy as np

    del loaded
    return np.zeros((1, 16), dtype=np.int64)
