"""What AWQ is told, and what each of its backends gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import JsonValue

from stages.base import Frozen, Refused

BITS = 4


class Settings(Frozen):
    """Of `quantize_awq`, for every backend."""

    group_size: int
    symmetric: bool
    device: str
    threads: int


class Made(Frozen):
    """A quantized checkpoint: its tensors by name, and its `quantization_config`."""

    model_config = {"arbitrary_types_allowed": True, "frozen": True, "extra": "forbid"}

    tensors: dict[str, Any]
    told: dict[str, JsonValue]


def gemm(settings: Settings) -> dict[str, JsonValue]:
    """The `quantization_config` of a checkpoint in AWQ's GEMM format."""
    return {
        "quant_method": "awq",
        "version": "gemm",
        "bits": BITS,
        "group_size": settings.group_size,
        "zero_point": not settings.symmetric,
        "modules_to_not_convert": None,
    }


def refuse_unbounded(model: Any) -> None:
    """Raises:
    Refused: the first parameter that holds NaN or infinity, or numbers that float16 does not reach, by its name.
    """
    for name, tensor in model.named_parameters():
        if not tensor.detach().half().isfinite().all():
            raise Refused(
                f"`{name}` holds NaN, infinity or numbers beyond float16's 65504", "the model is broken there"
            )


def refuse_shapes(model: Any, settings: Settings, clipped_together: int | None = None) -> None:
    """Refuse by its name a Linear layer that the groups, or the outputs that are clipped together, do not divide.

    Weights that are not finite are refused before.
    """
    import torch

    refuse_unbounded(model)
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or module is head:
            continue
        if module.in_features % settings.group_size:
            raise Refused(
                f"`{name}` has {module.in_features} inputs, which groups of {settings.group_size} do not divide",
                "choose another `group_size`",
            )
        if clipped_together and module.out_features % clipped_together:
            raise Refused(
                f"`{name}` has {module.out_features} outputs, no multiple of {clipped_together}",
                "use `quantize_gptq`, or `backend: llmcompressor`",
            )


def first_of_layers(_x: Any, _w_mean: Any, _x_mean: Any, _module: Any, layers: list[Any], *_rest: Any) -> Any:
    """A layer that would be scaled, from the arguments of AutoAWQ's search and of GPTQModel's, which was AutoAWQ's."""
    return layers[0]


@contextmanager
def losses_named(searching: Any, model: Any, scaled: Callable[..., Any]) -> Iterator[None]:
    """Within it, a search for scales that finds no finite loss is refused by the name of a layer that it would scale.

    AutoAWQ, GPTQModel and llm-compressor all search in `_compute_best_scale` of a class, and raise a bare Exception.
    `scaled` gives the layer from that method's arguments.

    Raises:
        Refused: there was no finite loss.
    """
    search = searching._compute_best_scale

    def named(self: Any, *given: Any, **besides: Any) -> Any:
        try:
            return search(self, *given, **besides)
        except Exception as error:
            if type(error) is not Exception:
                raise
            layer = scaled(*given)
            name = next(name for name, module in model.named_modules() if module is layer)
            raise Refused(f"`{name}`: no scale has a finite loss", "the model is broken there, or in front") from error

    searching._compute_best_scale = named
    try:
        yield
    finally:
        searching._compute_best_scale = search
