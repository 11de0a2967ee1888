"""Hugging Face language model -> the same with narrower layers, left the channels that calibration text uses most."""

from __future__ import annotations

from itertools import count
from math import exp
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field, JsonValue, model_validator

from stages._calibration import INPUT
from stages._calibration_text import required_text, windows
from stages._causal_lm import load_lm, load_tokenizer
from stages._channel_use import nll, watched
from stages._llama_shape import Shape, shape_of
from stages._narrowed import config_of, narrow, narrowed, save_narrowed
from stages._read_back import refuse_other, said_of
from stages.base import Artifact, Context, Produced, Refused, Stage, Table, name_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BLOCK = 32  # of ggml
_CHOICES = 3  # whole, first channels, most used ones: each is asked the text once
_WAY_OUT = "its config builds another model at other widths: `drop_layers` keeps them"
_HEAD = ("channels kept", "hidden", "intermediate", "perplexity on the calibration text", "of the whole model's")


class PruneWidth(Stage):
    """Narrow a decoder of Llama's shape to the channels that text uses most; heads and layers stay as they are.

    Minitron's importance (Muralidharan et al. 2024, arXiv 2407.14679): of residual channels what all norms give, one
    choice for the whole model; of neurons what they say, layer by layer. Norms' weights take up the change of the mean
    square that they divide by: SmolLM2-135M at 512 of 576 then has perplexity 65.5, and 76.2 without that.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["hidden"]}, {"required": ["intermediate"]}]},
    )
    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "torch"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({INPUT})
    device_bound: ClassVar[bool] = True  # which of two channels used nearly alike goes

    hidden: int | None = Field(None, ge=1, description="width of the residual stream left; null: as it is")
    intermediate: int | None = Field(None, ge=1, description="neurons left in each MLP; null: as they are")
    windows: int = Field(16, ge=1, description="calibration windows, spread evenly over the calibration text")
    window: int = Field(128, ge=16, description="tokens a window")

    @model_validator(mode="after")
    def _says_what(self) -> PruneWidth:
        if self.hidden is None and self.intermediate is None:
            raise ValueError("say which width is left: `hidden`, `intermediate`, or both")
        return self

    def needs(self) -> frozenset[str]:
        """The calibration text."""
        return frozenset({INPUT})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write the folder with the channels left, and everything else as it was.

        Raises:
            Refused: nothing to narrow, no or too little calibration text, a model of another shape than Llama's, one
                that is quantized, or one that is another when it is read again.
        """
        text, network = required_text(context, name_of(self)), load_lm(model.path, context.threads)
        shape = shape_of(network)
        hidden, intermediate = self._widths(shape)
        config = config_of(network, hidden, intermediate)
        rows = windows(text, load_tokenizer(model.path), self.windows, self.window, name_of(self))
        table = _narrowed(shape, hidden, intermediate, rows, context)
        save_narrowed(network, config, model.path, context.out)
        said, parameters, before = said_of(network), network.num_parameters(), network.config.model_type
        del network, shape  # of two in memory one is enough
        which = f"the model {hidden} wide with {intermediate} neurons a layer"
        refuse_other(said, lambda out: said_of(load_lm(out, context.threads)), context.out, which, _WAY_OUT)
        told: dict[str, JsonValue] = {"hidden": hidden, "intermediate": intermediate, "parameters": parameters}
        facts = {**model.facts, **told, "calibration_tokens": int(rows.size)}
        return Produced(facts=facts, notes=(*self._packing_notes(), *_written_as(config, before)), tables=(table,))

    def _widths(self, shape: Shape) -> tuple[int, int]:
        """Those left."""
        hidden, intermediate = self.hidden or shape.hidden, self.intermediate or shape.intermediate
        for name, left, there in (("hidden", hidden, shape.hidden), ("intermediate", intermediate, shape.intermediate)):
            if left > there:
                raise Refused(f"`{name}: {left}` is wider than the model, which has {there}", "narrow it")
        if (hidden, intermediate) == (shape.hidden, shape.intermediate):
            raise Refused(
                f"nothing to narrow: the model is {hidden} wide and has {intermediate} neurons a layer",
                "say a smaller `hidden` or `intermediate`",
            )
        return hidden, intermediate

    def _packing_notes(self) -> tuple[str, ...]:
        return tuple(
            f"`{name}: {left}` is no multiple of {_BLOCK}, which the rows of ggml's quantized types are; those of "
            "K-quants and most IQ types are multiples of 256"
            for name, left in (("hidden", self.hidden), ("intermediate", self.intermediate))
            if left and left % _BLOCK
        )


def _narrowed(shape: Shape, hidden: int, intermediate: int, rows: NDArray[np.int64], context: Context) -> Table:
    """Narrow the model in place, and tell what the text loses by it, and what by a choice without looking."""
    done = count(1)

    def moved() -> None:
        context.progress(next(done), _CHOICES * len(rows), "calibration windows")

    with watched(shape) as use:
        whole = nll(shape.model, rows, moved)
    left = hidden if hidden < shape.hidden else None, intermediate if intermediate < shape.intermediate else None
    with narrowed(shape, use.first(*left), use):
        first = nll(shape.model, rows, moved)
    narrow(shape, use.most_used(*left), use)
    used = nll(shape.model, rows, moved)
    return Table(
        title="Narrower layers",
        header=_HEAD,
        rows=(
            _row("(all)", shape.hidden, shape.intermediate, whole, whole),
            _row("used most", hidden, intermediate, used, whole),
            _row("the first", hidden, intermediate, first, whole),
        ),
    )


def _row(kept: str, hidden: int, intermediate: int, loss: float, whole: float) -> tuple[str, ...]:
    return kept, str(hidden), str(intermediate), f"{exp(loss):.2f}", f"{exp(loss - whole):.2f}x"


def _written_as(config: Any, before: str) -> tuple[str, ...]:
    if config.model_type == before:
        return ()
    return (
        f"written as a {config.model_type}, which computes the same: transformers takes no {before} whose width is no "
        f"multiple of its {config.num_attention_heads} heads",
    )
