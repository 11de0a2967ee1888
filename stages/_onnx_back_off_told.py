"""What a back-off found out, told to people and kept with the artifact."""

from __future__ import annotations

from pydantic import JsonValue

from stages._onnx_back_off import Backed, BackOff
from stages._onnx_judge import Judged
from stages.base import Table


def facts(backed: Backed, how: BackOff) -> dict[str, JsonValue]:
    """For the artifact's record."""
    return {
        "min_agreement": how.min_agreement,
        "min_sqnr_db": how.min_sqnr_db,
        "reached": backed.reached,
        "float_layers": [*backed.float_layers],
        "float_fraction": round(len(backed.steps) / max(1, backed.layers), 4),
        "sensitivity": {layer.name: round(judged.sqnr_db, 2) for layer, judged in backed.ranking},
        "agreement_before": round(backed.plain.agreement, 4),
        "agreement_after": round(backed.final.agreement, 4),
    }


def note(backed: Backed, how: BackOff) -> str:
    """What happened, in a sentence."""
    on = f"{backed.plain.examples} calibration examples that calibrated nothing"
    if not backed.ranking:
        return f"back-off: nothing returned to float, {_kept(backed.plain)} on {on}"
    named = ", ".join(f"`{name}`" for name in backed.float_layers) or "nothing"
    share = f"{len(backed.steps)} of {backed.layers} layers"
    told = f"back-off: returned {named} to float ({share}), on {on}: {_kept(backed.plain)} -> {_kept(backed.final)}"
    if backed.reached:
        return told
    return f"{told}; that is short of {_limits(how)}, and max_float_fraction {how.max_float_fraction:g} allows no more"


def table(backed: Backed) -> Table:
    """Which layer costs what: alone in INT8, and what the whole model said once it had returned to float."""
    after = {layer.name: judged for layer, judged in backed.steps}
    rows = [
        (
            f"`{layer.name}`",
            layer.operator,
            f"{layer.weights:.1%}",
            f"{judged.sqnr_db:.1f} dB",
            f"{judged.agreement:.1%}",
            "float" if layer.name in after else "int8",
            f"{after[layer.name].agreement:.1%}" if layer.name in after else "-",
        )
        for layer, judged in backed.ranking
    ]
    low, high = backed.final.interval
    return Table(
        title=f"What each layer costs in INT8, on {backed.plain.examples} calibration examples that calibrated "
        f"nothing. All layers in INT8: {_kept(backed.plain)}. As packaged: {_kept(backed.final)}, "
        f"interval {low:.1%}..{high:.1%}",
        header=("layer", "operator", "of the weights", "SQNR alone", "same top-1 alone", "is", "same top-1 then"),
        rows=tuple(rows),
    )


def _kept(judged: Judged) -> str:
    return f"{judged.agreement:.1%} unchanged top-1, {judged.sqnr_db:.1f} dB"


def _limits(how: BackOff) -> str:
    agreement = f"{how.min_agreement:.1%} unchanged top-1" if how.min_agreement is not None else ""
    noise = f"{how.min_sqnr_db:g} dB" if how.min_sqnr_db is not None else ""
    return " and ".join(filter(None, (agreement, noise)))
