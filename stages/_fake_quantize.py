"""Fake quantization: a module that computes with the values that INT8 would leave it, and learns as if it did not.

Rounded is `(clamp(round(x / s) + z, low, high) - z) * s`; backwards the rounding counts as the identity, inside the
range, and as 0 outside (Jacob et al. 2018, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342). Both are torch's
own operators. torchao's modules for it cover Linear and embeddings alone; its way for convolutions leads through an
exported graph, from which no weights find back into the module that they came from.

Imports torch: import this inside a function.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch.nn.utils import parametrize

from stages.base import Refused

_LAYERS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)
_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, torch.nn.SyncBatchNorm)
_LEAST = 1e-12  # of a range
_NARROWED = 0.02  # of the way to a batch's own range, where that is narrower


class FakeWeight(torch.nn.Module):  # type: ignore[misc]  # torch is not where mypy runs
    """Signed around 0, a scale for each output channel: as `quantize_onnx` does with `per_channel`.

    A BatchNorm that is folded into the layer later scales a channel's weights and its steps alike: nothing changes.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self._levels = levels

    def forward(self, weight: Any) -> Any:
        """Of shape (output channels, ...), the same."""
        scale = weight.detach().flatten(1).abs().amax(1).clamp_min(_LEAST) / self._levels
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -self._levels, self._levels)


class FakeInput(torch.nn.Module):  # type: ignore[misc]
    """A hook: what a layer is given, one scale for all of it, in 256 steps over the range seen, 0 among them.

    While training the range is widened at once and narrowed slowly: calibration by minmax will see extremes, too.
    """

    def __init__(self, symmetric: bool) -> None:
        super().__init__()
        self._symmetric, self.calibrating = symmetric, True
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, _layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """The layer's arguments, the first of them rounded; while calibrating as they are, and looked at."""
        first = given[0]
        if self.calibrating or self.training:
            self._follow(*torch.aminmax(first.detach()))
        return given if self.calibrating else (self._rounded(first), *given[1:])

    def _follow(self, low: Any, high: Any) -> None:
        share = 0 if self.calibrating else _NARROWED
        self.low.copy_(torch.minimum(low, self.low + share * (low - self.low)).clamp_max(0))
        self.high.copy_(torch.maximum(high, self.high + share * (high - self.high)).clamp_min(0))

    def _rounded(self, value: Any) -> Any:
        if self._symmetric:
            scale = torch.maximum(-self.low, self.high).clamp_min(_LEAST) / 127
            zero = torch.zeros_like(scale, dtype=torch.int32)
            return torch.fake_quantize_per_tensor_affine(value, scale, zero, -127, 127)
        scale = (self.high - self.low).clamp_min(_LEAST) / 255
        zero = (-self.low / scale).round().to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(value, scale, zero, 0, 255)


class FakeQuantized(torch.nn.Module):  # type: ignore[misc]
    """A module whose Conv and Linear layers are given rounded weights and inputs, until `restored`.

    The first ranges are those that the unrounded module computes from `batches`. BatchNorms compute with the statistics
    they have, as they will when they are folded.

    Raises:
        Refused: there is no such layer, or none of an excluded name.
    """

    def __init__(
        self,
        module: Any,
        batches: Sequence[Any],
        exclude: Sequence[str] = (),
        levels: int = 127,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.module = module
        self.layers = _chosen(module, exclude)
        self.inputs = torch.nn.ModuleList(FakeInput(symmetric) for _ in self.layers)
        layers = [module.get_submodule(name) for name in self.layers]
        self._hooks = [layer.register_forward_pre_hook(each) for layer, each in zip(layers, self.inputs, strict=True)]
        self._calibrate(batches)
        for layer in layers:
            parametrize.register_parametrization(layer, "weight", FakeWeight(levels))

    def forward(self, *given: Any) -> Any:
        """What the module answers."""
        return self.module(*given)

    def train(self, mode: bool = True) -> FakeQuantized:
        """All but the BatchNorms."""
        super().train(mode)
        for each in self.module.modules():
            if isinstance(each, _NORMS):
                each.eval()
        return self

    def restored(self) -> Any:
        """The module with the weights that it learnt, unrounded, and no trace of this."""
        for hook in self._hooks:
            hook.remove()
        for name in self.layers:
            parametrize.remove_parametrizations(self.module.get_submodule(name), "weight", leave_parametrized=False)
        return self.module.eval()

    def _calibrate(self, batches: Sequence[Any]) -> None:
        self.eval()
        with torch.no_grad():
            for images in batches:
                self(images)
        for each in self.inputs:
            each.calibrating = False


def _chosen(module: Any, exclude: Sequence[str]) -> list[str]:
    layers = [name for name, each in module.named_modules() if isinstance(each, _LAYERS)]
    for pattern in exclude:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise Refused(f"`exclude`: no Conv or Linear layer is called `{pattern}`", f"there are {', '.join(layers)}")
    chosen = [name for name in layers if not any(fnmatchcase(name, pattern) for pattern in exclude)]
    if not chosen:
        raise Refused("the module has no Conv or Linear layer to quantize", "quantize another module")
    return chosen
