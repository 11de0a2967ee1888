"""KL divergence of a language model with some of its weights rounded from the model as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Loss:
    """Against the model as it was, a token: KL divergence in nats, and the change of the text's log-likelihood."""

    kl: float
    nll_change: float


class Probe:
    """Windows of tokens, shape (n, length), and what the untouched model says at every `stride`-th token of them.

    Layers in front of a changed one say again what they said: on average that saves half of the layers' work.
    """

    def __init__(self, model: Any, windows: NDArray[np.int64], stride: int = 1) -> None:
        import torch

        self._model, self._windows = model, torch.from_numpy(windows)
        self._places = torch.arange(stride - 1, windows.shape[1] - 1, stride)
        self._said = self._windows[:, self._places + 1, None]
        self._layers = _layers(model)
        with _remembered(self._layers) as self._outputs:
            self._reference = self._log_probabilities()

    def loss(self, first_layer: int = 0) -> Loss:
        """What the model as it now is loses; only layers from `first_layer` on were changed."""
        with _repeated(self._layers, self._outputs, first_layer):
            now = self._log_probabilities()
        change = (self._reference.gather(-1, self._said) - now.gather(-1, self._said)).mean()
        kl = (self._reference.exp() * (self._reference - now)).sum(-1).mean()
        return Loss(float(kl), float(change))

    def _log_probabilities(self) -> Any:
        import torch

        with torch.inference_mode():
            logits = self._model(self._windows, use_cache=False, logits_to_keep=self._places).logits
            return torch.log_softmax(logits.float(), -1)


def layer_of(name: str) -> int:
    """The layer of a tensor by llama.cpp's name; 0 for what comes before them all."""
    part = name.split(".")[1] if name.startswith("blk.") else "0"
    return int(part)


@contextmanager
def replaced(weights: Mapping[Any, Any]) -> Iterator[None]:
    """Parameters with other values for the length of a `with` block."""
    kept = {parameter: parameter.data for parameter in weights}
    try:
        for parameter, values in weights.items():
            parameter.data = values
        yield
    finally:
        for parameter, values in kept.items():
            parameter.data = values


def _layers(model: Any) -> list[Any]:
    """The decoder's layers, in order; none where they cannot be told."""
    import torch

    count = model.config.num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == count]
    return list(lists[0]) if lists else []


@contextmanager
def _remembered(layers: list[Any]) -> Iterator[list[Any]]:
    outputs: list[Any] = []
    hooks = [layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output)) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _repeated(layers: list[Any], outputs: list[Any], until: int) -> Iterator[None]:
    """The layers before `until` give the outputs that they gave, without computing anything."""
    ahead = list(zip(layers[:until], outputs[:until], strict=True))
    for layer, output in ahead:
        layer.forward = lambda *_arguments, _output=output, **_named: _output
    try:
        yield
    finally:
        for layer, _ in ahead:
            del layer.forward
