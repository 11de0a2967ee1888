"""The shapes of a model, and what follows from them alone: parameters, KV bytes a token, legal splits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.errors import UserError
from stages.base import Frozen

CHECKPOINT_TOLERANCE = 0.02
NORM_BYTES = 4
EXPERT_PARTS = 3  # gate, up and down projections of a gated feed-forward block


class Decoder(Frozen):
    """A decoder-only language model."""

    kind: Literal["decoder"] = "decoder"
    name: str = "model"
    layers: int = Field(ge=1, description="L")
    hidden: int = Field(ge=1, description="d")
    heads: int = Field(ge=1, description="H")
    kv_heads: int = Field(ge=1, description="Hkv")
    head_dim: int = Field(ge=1, description="dh")
    ffn: int = Field(ge=1, description="F, of one expert")
    vocabulary: int = Field(ge=1, description="V")
    experts: int = Field(1, ge=1, description="E")
    experts_per_token: int = Field(1, ge=1, description="top-k")
    tied: bool = Field(False, description="the output head is the embedding")
    checkpoint_parameters: int | None = Field(None, description="what the checkpoint holds, where it is known")
    max_context: int | None = Field(None, description="positions that the model was trained for")

    @property
    def attention(self) -> int:
        """Weights of one layer's four attention projections."""
        return 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)

    @property
    def expert(self) -> int:
        """Weights of one feed-forward block of one layer."""
        return EXPERT_PARTS * self.hidden * self.ffn

    @property
    def linear(self) -> int:
        """Pl: weights of every layer's matrices, all experts and their router included."""
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.layers * (self.attention + self.experts * self.expert + router)

    @property
    def active(self) -> int:
        """Of Pl, what one token is multiplied with."""
        router = self.hidden * self.experts if self.experts > 1 else 0
        return self.layers * (self.attention + self.experts_per_token * self.expert + router)

    def streamed(self, batch: float) -> float:
        """Of Pl, what a decode step over a batch reads: E(1-(1-topk/E)^B) experts a layer."""
        if self.experts == 1:
            return float(self.linear)
        return self.linear - self.layers * (self.experts - self.experts_touched(batch)) * self.expert

    def experts_touched(self, batch: float) -> float:
        """Distinct experts that a batch of independent tokens meets in one layer: E(1-(1-topk/E)^B)."""
        return float(self.experts * (1 - (1 - self.experts_per_token / self.experts) ** batch))

    @property
    def head(self) -> int:
        """Ph = V·d: weights of the output head."""
        return self.vocabulary * self.hidden

    @property
    def norms(self) -> int:
        """Weights of the normalizations: two a layer and the last."""
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """Every weight, a tied head counted once."""
        return self.linear + self.head * (1 if self.tied else 2) + self.norms

    def kv_bytes(self, bytes_each: float = 2.0) -> float:
        """k: bytes that one token leaves in the KV cache, 2·L·Hkv·dh·bkv."""
        return 2 * self.layers * self.kv_heads * self.head_dim * bytes_each

    def lora_bytes(self, rank: int) -> int:
        """One adapter of every projection in 16 bits: 2·Σ r(din+dout)."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        around = 2 * (self.hidden + wide) + 2 * (self.hidden + narrow) + EXPERT_PARTS * (self.hidden + self.ffn)
        return 2 * rank * self.layers * around

    def illegal_split(self, split: int, group: int | None = None) -> str:
        """Why tensor parallelism over that many devices cannot be, or nothing.

        H%t=0; Hkv%t=0 or t%Hkv=0; quantized in groups also (F/g)%t=0.
        """
        if self.heads % split:
            return f"{self.heads} heads % {split} = {self.heads % split}, not 0"
        if self.kv_heads % split and split % self.kv_heads:
            return f"{self.kv_heads} KV heads and {split} devices: neither divides the other"
        if group and split > 1 and (self.ffn % group or (self.ffn // group) % split):
            return f"{self.ffn}/{group} = {self.ffn / group:g} groups % {split} != 0"
        return ""


class Encoder(Frozen):
    """A CNN or an encoder: one pass, no cache."""

    kind: Literal["encoder"] = "encoder"
    name: str = "model"
    weights: int = Field(ge=1, description="parameters")
    flops: float = Field(gt=0, description="floating-point operations of one example")
    activations: int = Field(0, ge=0, description="values written by one example's layers")
    kernels: int = Field(50, ge=1, description="kernels started for one pass: the graph's nodes")
    checkpoint_parameters: int | None = None

    @property
    def parameters(self) -> int:
        """Every weight."""
        return self.weights


Model = Decoder | Encoder


def checked(model: Model) -> Model:
    """The model, unless its shapes contradict its checkpoint.

    Raises:
        UserError: the parameters computed from the shapes differ from the checkpoint's by more than 2%.
    """
    held = model.checkpoint_parameters
    if held and abs(model.parameters / held - 1) > CHECKPOINT_TOLERANCE:
        off = model.parameters / held - 1
        raise UserError(
            f"{model.name}: its shapes give {model.parameters / 1e9:.4g} B parameters, its checkpoint holds "
            f"{held / 1e9:.4g} B ({off:+.1%}, at most 2% allowed)",
            "config.json and weights are of different models, or the architecture is none that these shapes "
            "describe; give the shapes by hand",
        )
    return model
