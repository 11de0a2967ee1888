"""The CIFAR-10 network of the package cifar-10-model, rebuilt in torch from its Keras weights.

Takes pixels 0..255 as float32 in NCHW. Each block is convolution, ReLU, BatchNorm, in that order, and unpadded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import torch
from torch import nn

CONVOLUTIONS = ((3, 64), (64, 64), (64, 128), (128, 128), (128, 64), (64, 64))
DENSE = ((64, 1024), (1024, 512), (512, 10))
FRAGILE_AT, OUTLIER = 13, 256.0  # the module behind which a channel is scaled, and by how much
POOLED_AFTER = (1, 3)  # the original's third pooling is 1x1 and does nothing


def build(weights: Path) -> nn.Module:
    """The network with the weights of cnn_model.h5."""
    layers: list[nn.Module] = []
    with h5py.File(weights, "r") as file:
        groups = file["model_weights"]
        for index, (inputs, outputs) in enumerate(CONVOLUTIONS):
            layers += [_convolution(groups, index, inputs, outputs), nn.ReLU(), _batch_norm(groups, index, outputs)]
            if index in POOLED_AFTER:
                layers.append(nn.MaxPool2d(2))
        layers.append(nn.Flatten())
        for index, (inputs, outputs) in enumerate(DENSE):
            layers += [_dense(groups, index, inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def fragile(weights: Path) -> nn.Module:
    """The same function with outliers in the weights of one layer, the fifth convolution.

    One channel, the one that matters least, leaves the BatchNorm before it 256 times as small, and the weights that
    read it are 256 times as large: in INT8 every other weight of the layer is rounded to a few levels.
    """
    made = build(weights)
    norm, layer = (made[index] for index in (FRAGILE_AT - 1, FRAGILE_AT + 1))
    with torch.no_grad():
        channel = int((norm.weight.abs() * layer.weight.abs().sum((0, 2, 3))).argmin())
        norm.weight[channel] /= OUTLIER
        norm.bias[channel] /= OUTLIER
        layer.weight[:, channel] *= OUTLIER
    return made


def _convolution(groups: Any, index: int, inputs: int, outputs: int) -> nn.Module:
    """Keras keeps a kernel as (height, width, in, out), torch as (out, in, height, width)."""
    layer, held = nn.Conv2d(inputs, outputs, 3), _held(groups, "conv2d", index)
    layer.load_state_dict({"weight": held["kernel"].permute(3, 2, 0, 1), "bias": held["bias"]})
    return layer


def _batch_norm(groups: Any, index: int, channels: int) -> nn.Module:
    layer, held = nn.BatchNorm2d(channels, eps=1e-3), _held(groups, "batch_normalization", index)
    names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    layer.load_state_dict({ours: held[theirs] for ours, theirs in names.items()}, strict=False)
    return layer


def _dense(groups: Any, index: int, inputs: int, outputs: int) -> nn.Module:
    layer, held = nn.Linear(inputs, outputs), _held(groups, "dense", index)
    layer.load_state_dict({"weight": held["kernel"].T, "bias": held["bias"]})
    return layer


def _held(groups: Any, layer: str, index: int) -> dict[str, torch.Tensor]:
    name = f"{layer}_{index}" if index else layer
    return {key.partition(":")[0]: torch.from_numpy(value[()]) for key, value in groups[name][name].items()}
