"""How an encoder's token embeddings become one: as the folder's sentence-transformers modules say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from stages.base import Frozen, Refused

MODULES = "modules.json"
Pool = Literal["mean", "cls", "max"]
_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"}
_KNOWN = ("Transformer", "Pooling", "Normalize")


class Pooling(Frozen):
    """`normalize` brings every embedding to length 1."""

    mode: Pool = "mean"
    normalize: bool = False


def pooling_of(folder: Path) -> Pooling:
    """What modules.json says; the mean over the attention mask, as it comes, where there is none.

    Raises:
        Refused: a module besides Transformer, Pooling and Normalize, or a pooling of several modes.
    """
    if not (folder / MODULES).is_file():
        return Pooling()
    modules = _read(folder / MODULES)
    kinds = [str(each["type"]).rpartition(".")[2] for each in modules]
    if unknown := [kind for kind in kinds if kind not in _KNOWN]:
        raise Refused(f"{MODULES} asks for {', '.join(unknown)}", f"{', '.join(_KNOWN)} are there")
    told = {kind: folder / str(each["path"]) for kind, each in zip(kinds, modules, strict=True)}
    if "Pooling" not in told:
        raise Refused(f"{MODULES} names no Pooling", "add it: one embedding a text is what is measured")
    settings = _read(told["Pooling"] / "config.json")
    chosen = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
    if len(chosen) != 1 or chosen[0] not in _MODES:
        raise Refused(f"the pooling is {' and '.join(chosen) or 'none'}", f"one of {', '.join(_MODES)} is there")
    return Pooling.model_validate({"mode": _MODES[chosen[0]], "normalize": "Normalize" in told})


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{file.parent.name}/{file.name} cannot be read: {error}", "fetch the model again") from error
