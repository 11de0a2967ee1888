"""What a classifier's outputs say: accuracy, and how often it still gives the reference's answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.evaluation.agreement import self_agreement
from pipelines.evaluation.bootstrap import mcnemar, mcnemar_test, wilson
from pipelines.measures import Metric, metric

Outputs = NDArray[np.float32]
"""Shape (examples, classes), the higher the likelier: logits or probabilities."""
Labels = NDArray[np.int64]


def classification_metrics(candidate: Outputs, reference: Outputs | None, labels: Labels) -> dict[str, Metric]:
    """Every metric of a classifier against the reference on the same examples; None: of the reference itself.

    Raises:
        DataError: a label that no output stands for.
    """
    _check(candidate, labels)
    ranks = (1, 5) if candidate.shape[1] > 5 else (1,)
    found = [_accuracy(k, candidate, reference, labels) for k in ranks]
    found.append(self_agreement("top1_agreement") if reference is None else top1_agreement(candidate, reference))
    return {item.name: item for item in found}


def broken(outputs: Outputs) -> int:
    """How many rows hold NaN or infinity."""
    return int((~np.isfinite(outputs)).any(axis=1).sum())


def correct(outputs: Outputs, labels: Labels, k: int = 1) -> NDArray[np.bool_]:
    """Whether each label is among the k highest outputs, shape (examples,).

    Of equal outputs the lower class number comes first, as in argmax: a model that answers every class alike, which
    INT8 can, gains nothing by it.
    """
    mine = np.take_along_axis(outputs, labels[:, None], axis=1)
    before = np.arange(outputs.shape[1]) < labels[:, None]
    rank = ((outputs > mine) | ((outputs == mine) & before)).sum(axis=1)
    found: NDArray[np.bool_] = rank < k
    return found


def top1_agreement(candidate: Outputs, reference: Outputs) -> Metric:
    """Share of examples to which both give the same answer, right or wrong."""
    same = candidate.argmax(axis=1) == reference.argmax(axis=1)
    return metric("top1_agreement", wilson(int(same.sum()), len(same)), len(same), "unchanged answers, Wilson interval")


def _accuracy(k: int, candidate: Outputs, reference: Outputs | None, labels: Labels) -> Metric:
    mine, n = correct(candidate, labels, k), len(labels)
    name, measured = f"accuracy_top{k}", wilson(int(mine.sum()), n)
    if reference is None:
        return metric(name, measured, n, "Wilson interval")
    theirs = correct(reference, labels, k)
    change, base = mcnemar(theirs, mine), float(theirs.mean())
    relative = change.scaled(1 / base) if base else None
    return metric(
        name, measured, n, f"Wilson interval, change by McNemar's pairs: {mcnemar_test(theirs, mine)}", change, relative
    )


def _check(outputs: Outputs, labels: Labels) -> None:
    classes = outputs.shape[1]
    if labels.max() >= classes:
        raise DataError(
            f"an example is of class {labels.max()}, but the model has {classes} outputs: 0 to {classes - 1}",
            "the data and the model must count the same classes",
        )
