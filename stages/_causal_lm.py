"""A Hugging Face causal language model in float32 on the CPU, its decoder's layers, and how it is written again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages._quantized import refuse_quantized
from stages.base import Refused

_BESIDE = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "*.jinja", "generation_config.json")
_LICENCES = ("LICENSE*", "README.md")


def load_lm(folder: Path, threads: int) -> Any:
    """The model in eval mode; nothing is fetched and no code of the folder is executed.

    Raises:
        Refused: quantized already, transformers cannot load it, or weights are missing.
    """
    refuse_quantized(folder)
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except (ValueError, OSError, KeyError, SafetensorError) as error:
        what = " ".join(str(error).split())
        raise Refused(f"transformers cannot load the folder: {what}", "use a causal language model it knows") from error
    for name in sorted(info["missing_keys"]):
        raise Refused(f"the weights of `{name}` are missing", "fetch the model again")
    return model.eval()


def load_tokenizer(folder: Path) -> Any:
    """The folder's tokenizer.

    Raises:
        Refused: transformers cannot load it.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        what = " ".join(str(error).split())
        raise Refused(f"transformers cannot load the tokenizer: {what}", "fetch the model again") from error


def save_lm(model: Any, source: Path, out: Path) -> None:
    """Write the weights and the config, and copy everything else that belongs to the model from `source`."""
    model.save_pretrained(out)
    for pattern in (*_BESIDE, *_LICENCES):
        for file in sorted(source.glob(pattern)):
            if file.is_file() and not (out / file.name).exists():
                shutil.copyfile(file, out / file.name)
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes 0600


def layers_of(model: Any) -> Any:
    """The decoder's ModuleList, in order.

    Raises:
        Refused: the model holds no list of as many modules as its config has layers.
    """
    import torch

    count = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return module
    raise Refused(f"{type(model).__name__} holds no list of its {count} layers", "use a decoder that transformers has")


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Leave only these layers, in place; the config has their number, and they are numbered anew for the cache.

    What the config says of each layer is left to `_kept_layers.keep_only`.
    """
    layers = layers_of(model)
    chosen = [layers[index] for index in kept]
    del layers[:]
    layers.extend(chosen)
    for index, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
    model.config.num_hidden_layers = len(chosen)


@contextmanager
def passed_over(layers: Sequence[Any], ways: Mapping[int, Any]) -> Iterator[None]:
    """For the length of the block the layer of each number gives the tensor named, or what it is given where None is.

    Nothing of such a layer is computed.
    """
    for index, value in ways.items():
        layers[index].forward = _handing_on if value is None else _giving(value)
    try:
        yield
    finally:
        for index in ways:
            del layers[index].forward


def _handing_on(hidden_states: Any, *_: Any, **__: Any) -> Any:
    return hidden_states


def _giving(value: Any) -> Any:
    return lambda *_, **__: value
