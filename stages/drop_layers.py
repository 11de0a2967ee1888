"""Hugging Face language model -> the same with fewer layers: those whose loss the calibration text misses least."""

from __future__ import annotations

from math import exp
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, JsonValue, model_validator

from stages._calibration import INPUT
from stages._calibration_text import required_text, windows
from stages._causal_lm import load_lm, load_tokenizer, save_lm
from stages._kept_layers import Places, at_first, keep_only, refuse_not_there, refuse_other_layers
from stages._layer_loss import LayerLoss
from stages._read_back import said_of
from stages.base import Artifact, Context, Produced, Refused, Stage, Table, name_of

By = Literal["perplexity", "kl", "angular", "uniform"]
_BY_HAND = "(given)"
_HEAD = ("layers dropped by", "dropped", "perplexity on the calibration text", "of the whole model's")


class DropLayers(Stage):
    """Drop whole layers; the report compares the choice with dropping by angle and with dropping evenly."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["keep"]}, {"required": ["layers"]}]})
    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "torch"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})
    device_bound: ClassVar[bool] = True  # which of two nearly equal layers goes

    keep: int | None = Field(None, ge=1, description="layers left; which, `by` decides")
    layers: Places | None = Field(None, description="layers left, by their numbers from 0 on, in place of `keep`")
    by: By | None = Field(
        None,
        description="the text's loss without each layer (`perplexity`; null: this), the KL divergence from the whole "
        "model, the angle between what comes into a run of layers and out of it (`angular`), or evenly spaced",
    )
    greedy: bool = Field(True, description="drop one, measure the rest again; else all by the first measurement")
    windows: int = Field(16, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(128, ge=16, description="tokens a window")

    @model_validator(mode="after")
    def _says_which(self) -> DropLayers:
        if self.layers is None and self.keep is None:
            raise ValueError("say how many layers are left, `keep`, or which ones, `layers`")
        if self.layers is not None and not (self.keep is None and self.by is None):
            raise ValueError("`layers` says which layers are left: leave `keep` and `by` out")
        return self

    def needs(self) -> frozenset[str]:
        """The calibration text, which decides, or else tells what a choice by hand loses."""
        return frozenset({INPUT}) if self.layers is None else frozenset()

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the folder with the layers left, and everything else as it was.

        Raises:
            Refused: nothing to drop, a layer that is not there, no or too little calibration text, a model whose layers
                cannot be found, or one that is another when it is read again.
        """
        network = load_lm(model.path, context.threads)
        layers = int(network.config.num_hidden_layers)
        self._refuse_nothing(layers)
        dropped, facts, tables = self._looked(network, model, context)
        kept = [index for index in range(layers) if index not in dropped]
        keep_only(network, kept)
        save_lm(network, model.path, context.out)
        said, parameters = said_of(network), network.num_parameters()
        del network  # of two in memory one is enough
        refuse_other_layers(said, lambda out: said_of(load_lm(out, context.threads)), context.out, kept)
        places = at_first(kept, layers, model.facts)
        told: dict[str, JsonValue] = {"layers": len(kept), "parameters": parameters, "kept_layers": [*places]}
        return Produced(facts={**model.facts, **told, **facts}, tables=tables)

    def _refuse_nothing(self, layers: int) -> None:
        if self.layers is not None:
            refuse_not_there(self.layers, layers)
        elif self.keep is not None and self.keep >= layers:
            raise Refused(f"the model has {layers} layers: nothing to drop with `keep: {self.keep}`", "keep fewer")

    def _looked(
        self, network: Any, model: Artifact, context: Context
    ) -> tuple[frozenset[int], dict[str, JsonValue], tuple[Table, ...]]:
        """The layers to drop, and what the calibration text tells of them; it may be missing where they are given."""
        layers = int(network.config.num_hidden_layers)
        given = None if self.layers is None else frozenset(range(layers)) - frozenset(self.layers)
        if given is not None and INPUT not in context.inputs:
            return given, {}, ()
        text, tokenizer = required_text(context, name_of(self)), load_tokenizer(model.path)
        loss = LayerLoss(network, windows(text, tokenizer, self.windows, self.window, name_of(self)))
        told: tuple[Table, ...] = ()
        chosen, told = self._chosen(loss, context) if given is None else (given, told)
        compared = {"(none)": frozenset[int](), _BY_HAND if given is not None else self._by: chosen}
        compared |= {by: drop for by, drop in _others(loss, len(chosen)).items() if by not in compared}
        losses = {by: loss.nll(drop) for by, drop in compared.items()}
        facts: dict[str, JsonValue] = {"calibration_tokens": loss.tokens}
        return chosen, facts, (_compared(compared, losses), *told)

    @property
    def _by(self) -> By:
        return self.by or "perplexity"

    def _chosen(self, loss: LayerLoss, context: Context) -> tuple[frozenset[int], tuple[Table, ...]]:
        by, count = self._by, loss.count - (self.keep or 0)
        if by == "angular" or by == "uniform":
            return _others(loss, count)[by], ()
        times, each = (count, 1) if self.greedy else (1, count)
        dropped: frozenset[int] = frozenset()
        rounds: list[dict[int, float]] = []
        for number in range(times):

            def moved(index: int, number: int = number) -> None:
                context.progress(number * loss.count + index, times * loss.count, "forward passes without a layer")

            found = loss.removal(dropped, by, moved)
            dropped |= frozenset(sorted(found, key=lambda index: (found[index], index))[:each])
            rounds.append(found)
        return dropped, (_rounds(rounds, by),)


def _others(loss: LayerLoss, count: int) -> dict[str, frozenset[int]]:
    """The choices that need no measurement of their own: by angle, and evenly spaced with both ends kept."""
    start = int(np.argmin(loss.angles(count)))
    kept = {round(index) for index in np.linspace(0, loss.count - 1, loss.count - count)}
    return {
        "angular": frozenset(range(start, start + count)),
        "uniform": frozenset(range(loss.count)) - kept,
    }


def _compared(dropped: dict[str, frozenset[int]], losses: dict[str, float]) -> Table:
    whole = losses["(none)"]
    rows = tuple(
        (by, ", ".join(map(str, sorted(drop))) or "-", f"{exp(losses[by]):.2f}", f"{exp(losses[by] - whole):.2f}x")
        for by, drop in dropped.items()
    )
    return Table(title="Dropped layers", header=_HEAD, rows=rows)


def _rounds(rounds: list[dict[int, float]], by: str) -> Table:
    """A row a layer, a column a round: what the model is without it, as perplexity or as KL divergence."""
    rows = tuple((str(layer), *(_shown(found.get(layer), by) for found in rounds)) for layer in rounds[0])
    head = ("without layer", *(f"round {number}" for number in range(1, len(rounds) + 1)))
    return Table(
        title="Perplexity without a layer" if by == "perplexity" else "KL without a layer", header=head, rows=rows
    )


def _shown(loss: float | None, by: str) -> str:
    if loss is None:
        return "-"
    return f"{exp(loss):.2f}" if by == "perplexity" else f"{loss:.4f}"
