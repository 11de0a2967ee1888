"""A small convolutional network for 8x8 digits, with weights drawn from a seed: `train_classifier` trains it.

Takes pixels 0..16 as float32 in NCHW.
"""

from __future__ import annotations

import torch
from torch import nn


def build() -> nn.Module:
    """The network, untrained; the same weights every time."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return nn.Sequential(
            *_block(1, 32),
            *_block(32, 64),
            nn.MaxPool2d(2),
            *_block(64, 128),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(128, 10),
        )


def build_small() -> nn.Module:
    """A student of a fraction of the size, its weights drawn from the run's own seed."""
    return nn.Sequential(
        *_block(1, 16),
        nn.MaxPool2d(2),
        *_block(16, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
