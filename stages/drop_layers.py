"""Hugging Face language model -> the same with fewer layers: those whose loss the calibration text misses least."""

from __future__ import annotations

from math import exp
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, JsonValue

from stages._calibration import INPUT
from stages._calibration_text import required_text, windows
from stages._causal_lm import keep_layers, load_lm, load_tokenizer, save_lm
from stages._layer_loss import LayerLoss
from stages.base import Artifact, Context, Produced, Refused, Stage, Table, name_of

By = Literal["perplexity", "kl", "angular", "uniform"]
_HEAD = ("layers dropped by", "dropped", "perplexity on the calibration text", "of the whole model's")


class DropLayers(Stage):
    """Drop whole layers; the report compares the choice with dropping by angle and with dropping evenly."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "torch"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})
    device_bound: ClassVar[bool] = True  # which of two nearly equal layers goes

    keep: int = Field(ge=1, description="layers left")
    by: By = Field(
        "perplexity",
        description="the text's loss without each layer (`perplexity`), the KL divergence from the whole model, the "
        "angle between what comes into a run of layers and out of it (`angular`), or evenly spaced",
    )
    greedy: bool = Field(True, description="drop one, measure the rest again; else all by the first measurement")
    windows: int = Field(16, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(128, ge=16, description="tokens a window")

    def needs(self) -> frozenset[str]:
        """The calibration text: the report says what each choice loses on it."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the folder with the layers left, and everything else as it was.

        Raises:
            Refused: nothing to drop, no or too little calibration text, or a model whose layers cannot be found.
        """
        network, tokenizer = load_lm(model.path, context.threads), load_tokenizer(model.path)
        layers = int(network.config.num_hidden_layers)
        if self.keep >= layers:
            raise Refused(f"the model has {layers} layers: nothing to drop with `keep: {self.keep}`", "keep fewer")
        rows = windows(required_text(context, name_of(self)), tokenizer, self.windows, self.window, name_of(self))
        loss = LayerLoss(network, rows)
        chosen, told = self._chosen(loss, context)
        compared = {"(none)": frozenset[int](), self.by: chosen}
        compared |= {by: drop for by, drop in _others(loss, layers - self.keep).items() if by not in compared}
        losses = {by: loss.nll(drop) for by, drop in compared.items()}
        keep_layers(network, [index for index in range(layers) if index not in chosen])
        save_lm(network, model.path, context.out)
        facts: dict[str, JsonValue] = {
            **model.facts,
            "layers": self.keep,
            "parameters": network.num_parameters(),
            "kept_layers": [index for index in range(layers) if index not in chosen],
            "calibration_tokens": int(rows.size),
        }
        return Produced(facts=facts, tables=(_compared(compared, losses), *told))

    def _chosen(self, loss: LayerLoss, context: Context) -> tuple[frozenset[int], tuple[Table, ...]]:
        count = loss.count - self.keep
        if self.by == "angular" or self.by == "uniform":
            return _others(loss, count)[self.by], ()
        times, each = (count, 1) if self.greedy else (1, count)
        dropped: frozenset[int] = frozenset()
        rounds: list[dict[int, float]] = []
        for number in range(times):

            def moved(index: int, number: int = number) -> None:
                context.progress(number * loss.count + index, times * loss.count, "forward passes without a layer")

            found = loss.removal(dropped, self.by, moved)
            dropped |= frozenset(sorted(found, key=lambda index: (found[index], index))[:each])
            rounds.append(found)
        return dropped, (_rounds(rounds, self.by),)


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
