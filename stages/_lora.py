"""LoRA: a decoder's matrices stand still, low-rank ones beside them learn, and are added to them in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field, JsonValue

from stages._causal_lm import layers_of
from stages.base import Frozen, Refused


class Lora(Frozen):
    """`W + alpha / rank * B A`, with A drawn and B at 0, so that training starts at W (Hu et al. 2021, 2106.09685)."""

    rank: int = Field(16, ge=1, description="rows of A, columns of B")
    alpha: float = Field(32, gt=0, description="what is added to a matrix is times `alpha / rank`")
    targets: tuple[str, ...] = Field((), description="`q_proj`, `down_proj`: of every layer; none: all Linear ones")
    dropout: float = Field(0, ge=0, lt=1, description="share of an adapter's inputs that a step leaves out")


@dataclass(frozen=True)
class Adapters:
    """Put into a model by peft, in place; its own weights are frozen from then on."""

    wrapped: Any
    lora: Lora
    matrices: int

    @classmethod
    def into(cls, model: Any, lora: Lora, seed: int) -> Adapters:
        """Adapters with A drawn from the seed.

        Raises:
            Refused: the decoder has no layers of that name.
        """
        import torch
        from peft import LoraConfig, LoraModel

        torch.manual_seed(seed)
        names = _matrices(model, lora.targets)
        config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=names)
        return cls(LoraModel(model, config, "default"), lora, len(names))

    def merge(self) -> Any:
        """The model as it was built, the adapters added to its matrices and gone."""
        return self.wrapped.merge_and_unload(safe_merge=True)

    def facts(self) -> dict[str, JsonValue]:
        """What was trained, before it is merged."""
        trained = sum(weights.numel() for weights in self.wrapped.parameters() if weights.requires_grad)
        return {"rank": self.lora.rank, "alpha": self.lora.alpha, "matrices": self.matrices, "trained": trained}


def _matrices(model: Any, targets: tuple[str, ...]) -> list[str]:
    """Full names of the decoder layers' Linear modules. The head is none of them: often it is the embedding, too."""
    import torch

    inside = {id(module) for module in layers_of(model).modules() if isinstance(module, torch.nn.Linear)}
    found = [name for name, module in model.named_modules() if id(module) in inside]
    there = {name.rpartition(".")[2] for name in found}
    if unknown := sorted(set(targets) - there):
        raise Refused(f"`lora.targets`: the decoder has no `{unknown[0]}`", f"it has {', '.join(sorted(there))}")
    return [name for name in found if not targets or name.rpartition(".")[2] in targets]
