"""torch -> torch with fewer channels: torch-pruning, and fine-tuning on the training data where it is asked for."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue

from stages._calibration import INPUT, TRAINING, examples, required
from stages._curve import curve_of
from stages._examples import Examples
from stages._torch_model import called, load, save
from stages._torch_pruning import Cut, cut
from stages._torch_sizes import Attributes, changed, sizes_of
from stages._torch_training import Manner, batches, loss, trained
from stages.base import Artifact, Context, Produced, Refused, Stage

_WIDTHS = ("out_channels", "out_features")


class PruneStructured(Stage):
    """Remove the least important channels, whole ones, so that every runtime has less to compute."""

    consumes: ClassVar[frozenset[str]] = frozenset({"torch"})
    produces: ClassVar[str] = "torch"
    env: ClassVar[str] = "pruning"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT, TRAINING})
    device_bound: ClassVar[bool] = True  # which of two nearly equal channels goes, and all that training does

    ratio: float = Field(0.5, gt=0, lt=1, description="share of the channels that goes")
    importance: Literal["magnitude", "taylor"] = Field(
        "magnitude", description="by the weights alone, or by what the loss on the training data says of them"
    )
    scope: Literal["layer", "global"] = Field(
        "layer", description="`ratio` of each layer, or of all: then the layers are ranked against each other"
    )
    round_to: int = Field(8, ge=1, description="channels left are a multiple of it: kernels work on that many at once")
    exclude: tuple[str, ...] = Field((), description="layers, by name or pattern, that keep their channels")
    taylor_examples: int = Field(512, ge=1, description="with `importance: taylor`: training examples for the loss")
    epochs: int = Field(0, ge=0, description="of fine-tuning on `data: training:` afterwards")
    batch: int = Field(32, ge=2, description="examples a step")
    learning_rate: float = Field(1e-3, gt=0, description="the highest; it falls to 0 along a cosine")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the pruned module: its weights as safetensors, and the sizes of the layers that changed.

        Raises:
            Refused: no examples to trace with or to train on, nothing to cut, or a module that does not stand it.
        """
        import torch

        torch.set_num_threads(context.threads)
        sample, training = self._inputs(context)
        module = load(model.path)
        before, weighed, classes = sizes_of(module), _parameters(module), _shape(module, sample)
        how = Cut(**self.model_dump(include=set(Cut.model_fields)))
        context.progress(0, 1, "ranking channels")
        cut(module, torch.from_numpy(sample), how, lambda: self._gradients(module, training, context.seed))
        sizes = changed(before, sizes_of(module))
        if not sizes:
            raise Refused(
                f"no channel was cut: {self.ratio:g} of every layer, in multiples of {self.round_to}, is none of it "
                "or all",
                "another `ratio`, or a lower `round_to`",
            )
        _refuse_broken(module, sample, classes)
        told: dict[str, JsonValue] = {}
        if self.epochs and training:
            manner = Manner(**self.model_dump(include=set(Manner.model_fields)))
            told = {"fine_tuning": trained(module, training, manner, context.seed, context.progress, curve_of(context))}
        save(module, model.path, context.out, sizes)
        _refuse_other(module, load(context.out), sample)
        kept: dict[str, JsonValue] = {"parameters_before": weighed, "parameters": _parameters(module)}
        return Produced(facts={**model.facts, **kept, "channels": _widths(before, sizes), **told})

    def _inputs(self, context: Context) -> tuple[Any, Examples | None]:
        """Two real inputs to follow through the module, and what to train on."""
        learns = self.epochs > 0 or self.importance == "taylor"
        training = required(context, "prune_structured", TRAINING) if learns else None
        shown = training or examples(context) or required(context, "prune_structured")
        return shown.batch(0, 2), training

    def _gradients(self, module: Any, training: Examples | None, seed: int) -> None:
        """Of the mean loss over some training examples, summed up in the weights."""
        assert training is not None
        rows = np.random.default_rng(seed).permutation(len(training))[: self.taylor_examples]
        module.zero_grad()
        for part in batches(len(rows), self.batch, np.random.default_rng(seed)):
            (loss(module, training, rows[part]) * (len(part) / len(rows))).backward()


def _parameters(module: Any) -> int:
    return sum(weights.numel() for weights in module.parameters())


def _shape(module: Any, sample: Any) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in called(module, sample).items()}


def _widths(before: dict[str, Attributes], sizes: dict[str, Attributes]) -> dict[str, JsonValue]:
    """Channels of each layer that lost some, before and after."""
    found: dict[str, JsonValue] = {}
    for name, changes in sizes.items():
        for key in _WIDTHS:
            if key in changes:
                found[name] = f"{before[name][key]} -> {changes[key]}"
    return found


def _refuse_broken(module: Any, sample: Any, expected: dict[str, tuple[int, ...]]) -> None:
    way_out = "`exclude` the layers whose sizes the module's code counts on"
    try:
        found = _shape(module, sample)
    except (RuntimeError, ValueError, IndexError) as error:
        raise Refused(f"the pruned module does not run: {error}", way_out) from error
    if found != expected:
        raise Refused(f"the pruned module gives {found} in place of {expected}", way_out)


def _refuse_other(module: Any, again: Any, sample: Any) -> None:
    """What was written must be what was made, or the module holds sizes that are no attributes of its layers."""
    made, read = called(module, sample), called(again, sample)
    if any(not np.allclose(made[name], read[name], rtol=1e-4, atol=1e-5) for name in made):
        raise Refused("the pruned module cannot be built again from its sizes", "`exclude` the layers it computes with")
