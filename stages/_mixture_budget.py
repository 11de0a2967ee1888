"""How large a mixture of types may be, or how much it may lose."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from stages._gguf_header import Header
from stages._mixture import Mixture, Sensitivity, within_perplexity, within_size
from stages.base import Frozen, Refused

_PADDING = 32  # bytes at most behind each tensor (GGUF's alignment)
_ADDED_METADATA = 4096  # bytes that llama.cpp may add to the header
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?%")


class MixtureBudget(Frozen):
    """The size of the whole file, or the rise of perplexity on held-out calibration text; one of the two."""

    size_mb: float | None = Field(None, gt=0, description="most megabytes (1,000,000 bytes) of the file")
    perplexity: float | None = Field(
        None, gt=0, description="most rise of perplexity, as a share or as `3%`, on held-out calibration text"
    )

    @field_validator("perplexity", mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
        return float(match[1]) / 100 if match else value

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.size_mb is None) == (self.perplexity is None):
            raise ValueError("needs either `size_mb` or `perplexity`")
        return self


def chosen(budget: MixtureBudget, sensitivity: Sensitivity, header: Header) -> Mixture:
    """The mixture that the budget buys for a file.

    Raises:
        Refused: no mixture is within it, or the sensitivities are of another model.
    """
    sizes = {tensor.name: tensor for tensor in header.tensors}
    for tensor in sensitivity.tensors:
        if tensor.name not in sizes or sizes[tensor.name].elements != tensor.elements:
            raise Refused(
                f"the sensitivities are of another model: `{tensor.name}` is not the file's",
                "measure them on the model that is quantized",
            )
    if budget.size_mb is None:
        return within_perplexity(sensitivity, budget.perplexity or 0.0)
    measured = {tensor.name for tensor in sensitivity.tensors}
    others = sum(tensor.size for tensor in header.tensors if tensor.name not in measured)
    overhead = header.data_start + _ADDED_METADATA + _PADDING * len(header.tensors)
    return within_size(sensitivity, int(budget.size_mb * 1e6) - others - overhead)
