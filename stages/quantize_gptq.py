"""Hugging Face folder + calibration text -> a GPTQ checkpoint, with GPTQModel's solver or with AutoGPTQ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from stages._calibration import INPUT
from stages._calibration_text import fast_tokenizer, required_text, windows
from stages._causal_lm import load_lm
from stages._checkpoint import quantized_facts, write_checkpoint
from stages._cuda import unavailable_device, without_cuda
from stages._decoder_layers import layers_of, uncalled
from stages._gptq import PLANAR_BITS, Settings
from stages._gptq_auto import quantized as by_auto_gptq
from stages._gptq_auto import refuse_group_size as refuse_stored
from stages._gptq_walk import refuse_group_size, refuse_stacked, walk
from stages._layer_results import LayerResults
from stages._quantized import PLANAR, refuse_quantized
from stages._saved_tensors import finite
from stages.base import Artifact, Context, Produced, Refused, Stage, name_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


AUTO_GPTQ: dict[str, JsonValue] = {"gptaq": False, "scale_search": 0.0, "device": "cuda"}
"""What AutoGPTQ does whatever it is told."""


class QuantizeGptq(Stage):
    """Quantize the Linear layers of the decoder with GPTQ, or round them to nearest; embedding and head stay."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "gptq"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})

    backend: Literal["gptqmodel", "auto_gptq"] = Field(
        "gptqmodel", description="the library; `auto_gptq` has an environment of its own and needs CUDA"
    )
    bits: Literal[2, 3, 4, 5, 6, 7, 8] = Field(
        4, description="bits of a code; 5 to 7 are packed in planes, which few readers but GPTQModel know"
    )
    group_size: int = Field(64, ge=-1, description="inputs that share a scale, 16 at least; -1 is a whole row")
    symmetric: bool = Field(True, description="no zero point")
    method: Literal["gptq", "rtn"] = Field(
        "gptq", description="`rtn` rounds to nearest on the same grid, without text: what GPTQ is measured against"
    )
    act_order: bool = Field(True, description="columns with the largest activations first")
    damping: float = Field(0.05, gt=0, lt=1, description="added to the Hessian's diagonal, in parts of its mean")
    scale_search: float = Field(
        2.4, ge=0, description="search each group's scale by the error to this power; 0 takes its range"
    )
    gptaq: bool = Field(
        True,
        description="aim at the outputs of the float model's layers on its own hidden states, not on those that "
        "quantized layers hand on; takes a pass of the float model beside",
    )
    windows: int = Field(48, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(512, ge=16, description="tokens a window")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where it is computed")

    @field_validator("group_size")
    @classmethod
    def _fills_groups(cls, given: int) -> int:
        if -1 < given < 16:
            raise ValueError(f"groups of {given}: GPTQ's kernels take 16 and more, or -1 for a whole row")
        return given

    @model_validator(mode="before")
    @classmethod
    def _as_auto_gptq_does(cls, given: Any) -> Any:
        alone = isinstance(given, dict) and given.get("backend") == "auto_gptq"
        return {**AUTO_GPTQ, **given} if alone else given

    @model_validator(mode="after")
    def _does_what_it_is_told(self) -> Self:
        if self.backend == "gptqmodel":
            return self
        if self.method == "rtn":
            raise ValueError("`method: rtn` is of `backend: gptqmodel`")
        if self.bits in PLANAR_BITS:
            raise ValueError(f"`bits: {self.bits}` is of `backend: gptqmodel`")
        for field, only in AUTO_GPTQ.items():
            if getattr(self, field) != only:
                raise ValueError(f"`{field}` is of `backend: gptqmodel`: AutoGPTQ does `{field}: {str(only).lower()}`")
        return self

    @property
    def environment(self) -> str:
        """That of the backend."""
        return type(self).env if self.backend == "gptqmodel" else self.backend

    def unavailable(self) -> str | None:
        """What wants CUDA where there is none; AutoGPTQ quantizes on CUDA alone."""
        if self.backend == "auto_gptq" and (reason := without_cuda()):
            return f"`backend: auto_gptq` quantizes on CUDA alone, and {reason}; `backend: gptqmodel` runs on any CPU"
        return unavailable_device(self.device)

    def needs(self) -> frozenset[str]:
        """The calibration text, for GPTQ."""
        return frozenset({INPUT}) if self.method == "gptq" else frozenset()

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the checkpoint with its tokenizer. A killed run goes on at the layer where it was.

        Raises:
            Refused: quantized already, layers that cannot be walked, a group size that does not divide a layer, no or
            too little calibration text, NaN in a layer, or numbers that float16 does not reach.
        """
        refuse_quantized(model.path)
        if self.backend == "auto_gptq":
            refuse_stored(model.path, self.settings)
        text = required_text(context, name_of(self)) if self.method == "gptq" else None
        rows = windows(text, fast_tokenizer(model.path), self.windows, self.window, name_of(self)) if text else None
        if self.backend == "auto_gptq" and rows is not None:
            tensors = by_auto_gptq(model.path, rows, self.settings, context.scratch)
        else:
            tensors = self._walked(model, rows, context)
        write_checkpoint(model.path, context.out, tensors, self._told())
        found = quantized_facts(context.out, self.method)
        if text and rows is not None:
            found |= {"calibration_tokens": int(rows.size), "calibration_text": text.name}
        return Produced(facts={**model.facts, **found})

    def _walked(self, model: Artifact, rows: NDArray[np.int64] | None, context: Context) -> dict[str, Any]:
        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise Refused("`device: cuda`, and torch finds no CUDA device", "set `device: cpu`")
        loaded = load_lm(model.path, context.threads).to(self.device)
        with torch.inference_mode():
            layers, hidden = layers_of(loaded, rows) if rows is not None else (uncalled(loaded), None)
            refuse_stacked(layers)
            refuse_group_size(layers, self.settings)
            kept = LayerResults(context.resume)
            tensors = walk(layers, hidden, self.settings, kept, context.progress)
        return finite(tensors | _rest(loaded, tensors))

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
            gptaq=self.gptaq and self.method == "gptq",
        )

    def _told(self) -> dict[str, JsonValue]:
        return {
            "quant_method": "gptq",
            "checkpoint_format": PLANAR if self.bits in PLANAR_BITS else "gptq",
            "bits": self.bits,
            "group_size": self.group_size,
            "sym": self.symmetric,
            "desc_act": self.settings.act_order,
            "damp_percent": self.damping,
            "lm_head": False,
            "true_sequential": True,
        }


def _rest(loaded: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """What is not quantized, in float16: embedding, norms, biases, a head of its own."""
    quantized = {name.rpartition(".")[0] for name in tensors}
    tied = {"lm_head.weight"} if loaded.config.tie_word_embeddings else set()
    return {
        name: tensor.half().cpu().contiguous()
        for name, tensor in loaded.state_dict().items()
        if name.rpartition(".")[0] not in quantized and name not in tied
    }
