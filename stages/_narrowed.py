"""A decoder of Llama's shape with some of its channels: cut in memory, and written with the config that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages._causal_lm import save_lm
from stages._channel_use import ChannelUse, Cut
from stages._llama_shape import Shape
from stages.base import Refused


@contextmanager
def narrowed(shape: Shape, cut: Cut, use: ChannelUse) -> Iterator[None]:
    """For the length of the block the model has these channels alone."""
    before = [(place.parameter, place.parameter.data) for place in shape.places]
    scale = _embedding_scale(shape)
    before += [] if scale is None else [(scale, scale.data)]
    try:
        narrow(shape, cut, use)
        yield
    finally:
        for tensor, data in before:
            tensor.data = data


def narrow(shape: Shape, cut: Cut, use: ChannelUse) -> None:
    """Leave these channels in the weights; what the config says is left to `save_narrowed`.

    A norm divides by the root mean square of what is left, so its weights are multiplied by the ratio of that to the
    root mean square of all, as calibration text gives it. Measured: docs/distillation.md.
    """
    for place in shape.places:
        for dimension, width in enumerate(place.widths):
            if (kept := _kept(cut, width, place.layer)) is not None:
                place.parameter.data = place.parameter.data.index_select(dimension, kept)
    if cut.hidden is None:
        return
    for name, (norm, added) in shape.norms.items():
        _multiply(norm, added, use.gain(name, cut.hidden))
    _rescale_embedding(shape, len(cut.hidden))


def _kept(cut: Cut, width: str | None, layer: int | None) -> Any:
    if width == "intermediate" and cut.intermediate is not None and layer is not None:
        return cut.intermediate[layer]
    return cut.hidden if width == "hidden" else None


def _multiply(norm: Any, added: float, factor: float) -> None:
    norm.weight.data = (norm.weight.data + added) * factor - added


def _embedding_scale(shape: Shape) -> Any:
    """What Gemma multiplies its embedding by, the square root of its width, or None."""
    scale = getattr(shape.model.get_input_embeddings(), "embed_scale", None)
    return scale if scale is not None and abs(float(scale) ** 2 / shape.hidden - 1) < 1e-3 else None


def _rescale_embedding(shape: Shape, left: int) -> None:
    """A smaller square root times larger weights; where they are the head's, too, the last norm takes that back."""
    scale = _embedding_scale(shape)
    if scale is None:
        return
    embedding, head = shape.model.get_input_embeddings().weight, shape.model.get_output_embeddings().weight
    factor = (shape.hidden / left) ** 0.5
    scale.data = scale.data / factor
    embedding.data = embedding.data * factor
    if head is embedding:
        _multiply(*shape.norms["model.norm"], 1 / factor)


def config_of(model: Any, hidden: int, intermediate: int) -> Any:
    """The model's config with these widths and the heads as they are.

    transformers takes no Llama whose hidden size is not a multiple of its heads, though it has a `head_dim`. A Mistral
    without a sliding window computes the same where there are no biases, and may have any.

    Raises:
        Refused: transformers takes no such config.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import MistralConfig

    own = model.config
    head = int(model.model.layers[0].self_attn.head_dim)
    said = {**own.to_dict(), "hidden_size": hidden, "intermediate_size": intermediate, "head_dim": head}
    try:
        return type(own)(**said)
    except StrictDataclassError as error:
        if own.model_type == "llama" and not (own.attention_bias or own.mlp_bias):
            left_out = ("model_type", "attention_bias", "mlp_bias", "pretraining_tp")
            return MistralConfig(**{key: of for key, of in said.items() if key not in left_out}, sliding_window=None)
        heads = int(own.num_attention_heads)
        raise Refused(
            f"transformers takes no {type(own).__name__} of this width: {' '.join(str(error).split())}",
            f"a multiple of the {heads} heads: `hidden: {hidden // heads * heads or heads}`",
        ) from error


def save_narrowed(model: Any, config: Any, source: Path, out: Path) -> None:
    """Write the weights under the config, which may be that of another architecture, and what is beside them."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config)
    made.load_state_dict(model.state_dict(), assign=True)
    made.tie_weights()
    made.generation_config = model.generation_config
    save_lm(made, source, out)
