"""A transformers model that is read again after it was written: whether it says of a few tokens what it said before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.base import Refused

_TOKENS = 16  # asked of both models, spread over the vocabulary
_ROUNDING = 1e-4  # of the largest number: the same weights, read twice


def sample(model: Any) -> Any:
    """A few tokens, shape (1, 16), spread over the model's vocabulary."""
    import torch

    return torch.linspace(0, model.config.vocab_size - 1, _TOKENS).long()[None]


def said_of(model: Any) -> Any:
    """A language model's logits of these tokens, shape (1, 16, vocabulary)."""
    import torch

    with torch.inference_mode():
        return model(sample(model), use_cache=False).logits


def refuse_other(said: Any, again: Callable[[Path], Any], out: Path, which: str, way_out: str) -> None:
    """Raise Refused where the model in `out` does not give `said`, what it gave in memory: a tensor of any shape.

    What transformers builds anew out of a config may be another model: flags by every fourth layer's number, say.
    """
    import torch

    try:
        read = again(out)
    except Refused as error:
        raise Refused(f"{which} cannot be read back: {error.message}", way_out) from error
    largest = float(said.abs().nan_to_num().max())
    if not torch.allclose(said, read, rtol=0, atol=_ROUNDING * largest, equal_nan=True):
        raise Refused(
            f"{which} is read back as another one: what it says is up to {float((said - read).abs().max()):.3g} off, "
            f"and its largest number is {largest:.3g}",
            way_out,
        )
