"""Small networks that a function builds, and images whose class is their brightest corner."""

import json
from pathlib import Path

import numpy as np

from stages._examples import Examples, Preprocess
from stages.base import Artifact

SIZE, CLASSES = 8, 4
SOURCE = """
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, x):
        return x + self.inner(x)

class Viewed(nn.Module):
    def forward(self, x):
        return x.view(-1, 24, 64)

def built(*layers, width=24, side=1):
    torch.manual_seed(0)
    head = [nn.Flatten(), nn.Linear(width * side * side, 32), nn.ReLU(), nn.Linear(32, 4)]
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), *layers, *head)

def plain(): return built(nn.AdaptiveAvgPool2d(2), side=2)
def residual(): return built(Residual(24), nn.AdaptiveAvgPool2d(2), side=2)
def depthwise(): return built(nn.Conv2d(24, 24, 3, groups=24), nn.Conv2d(24, 40, 1), nn.AdaptiveAvgPool2d(1),
                              nn.Conv2d(40, 24, 1))
def viewed(): return built(Viewed(), side=8)
def narrow(): return nn.Sequential(nn.Conv2d(1, 8, 3), nn.Flatten(), nn.Linear(288, 4))
def given(weights): assert weights.read_text() == "floats"; return plain()
"""


def module(folder: Path, function: str = "plain", weights: str | None = None) -> Artifact:
    """A `torch` artifact."""
    folder.mkdir()
    (folder / "model.py").write_text(SOURCE)
    (folder / "model.json").write_text(json.dumps({"entry": f"model.py:{function}", "weights": weights}))
    return Artifact(kind="torch", path=folder, digest="0")


def examples(folder: Path, count: int = 96) -> Artifact:
    """An `examples` artifact of seeded pixels, of which a quarter is brighter: which, is the class."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 8, (count, SIZE, SIZE, 1)).astype(np.uint8)
    labels = np.arange(count) % CLASSES
    for image, label in zip(pixels, labels, strict=True):
        down, right = 4 * (label // 2), 4 * (label % 2)
        image[down : down + 4, right : right + 4] += 4
    Examples(pixels, labels, Preprocess()).save(folder)
    return Artifact(kind="examples", path=folder, digest="0")
