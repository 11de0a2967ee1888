"""Training a classifier in torch: cross-entropy, AdamW, a cosine of learning rates; the same seed, the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from stages._curve import Curve, no_curve
from stages._examples import Examples
from stages._torch_model import outputs
from stages.base import Frozen, Refused

Rows = NDArray[np.int64]


class Manner(Frozen):
    """How long and how fast."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float


def trained(
    module: Any,
    examples: Examples,
    manner: Manner,
    seed: int,
    moved: Callable[[float, float, str], None],
    curve: Curve = no_curve,
) -> dict[str, JsonValue]:
    """Train in place and leave the module in eval mode; the number of examples, and the last epoch's mean loss.

    `curve` hears of the mean loss of each epoch.
    Weight decay is decoupled and the rate falls to 0 along a cosine, without restarts (Loshchilov & Hutter 2017, 2019).

    Raises:
        Refused: the loss became NaN or infinite.
    """
    import torch

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    steps = manner.epochs * -(-len(examples) // manner.batch)
    optimizer = torch.optim.AdamW(module.parameters(), lr=manner.learning_rate, weight_decay=manner.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train()
    losses: list[float] = []
    for epoch in range(manner.epochs):
        moved(epoch, manner.epochs, f"epoch {epoch + 1} of {manner.epochs}")
        losses = []
        for rows in batches(len(examples), manner.batch, np.random.default_rng((seed, epoch))):
            optimizer.zero_grad()
            value = loss(module, examples, rows)
            value.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(value.detach()))
        _refuse_diverged(losses, epoch, manner)
        curve(epoch + 1, {"train_loss": float(np.mean(losses))})
    module.eval()
    return {"examples": len(examples), "epochs": manner.epochs, "last_loss": float(f"{np.mean(losses):.3g}")}


def loss(module: Any, examples: Examples, rows: Rows) -> Any:
    """Mean cross-entropy of the module's first output against the labels of those rows, a scalar tensor."""
    import torch

    given = torch.from_numpy(np.ascontiguousarray(examples.preprocess(examples.pixels[rows])))
    scores = next(iter(outputs(module(given)).values()))
    return torch.nn.functional.cross_entropy(scores, torch.from_numpy(examples.labels[rows]))


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Every row once, in a drawn order; a last batch of one is left out, of which BatchNorm knows no variance."""
    order = rng.permutation(count)
    parts = (order[start : start + size] for start in range(0, count, size))
    return (part for part in parts if len(part) > 1 or count == 1)


def _refuse_diverged(losses: list[float], epoch: int, manner: Manner) -> None:
    if not np.isfinite(losses).all():
        raise Refused(
            f"training diverged in epoch {epoch + 1}: the loss is no number any more",
            f"lower `learning_rate`, which is {manner.learning_rate:g}",
        )
