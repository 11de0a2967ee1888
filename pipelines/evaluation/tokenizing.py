"""The texts that an encoder is measured and calibrated on, tokenized once by the reference for every runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import JsonValue

from stages._tokens import Tokens
from stages.base import Frozen, Refused
from targets.base import ArraySession, EncoderSession


class Retrieval(Frozen):
    """Passages, and queries with the number of the passage that answers each; no queries where none are known."""

    passages: tuple[str, ...]
    queries: tuple[str, ...] = ()
    relevant: tuple[int, ...] = ()


class TokenizeRequest(Frozen):
    """`length` is the most tokens a text."""

    texts: Retrieval
    length: int


def tokenize(session: ArraySession, request: Path, out: Path) -> dict[str, JsonValue]:
    """Tokenize a request file into an artifact of kind `tokens`; how many texts and tokens, and how many were cut.

    Raises:
        Refused: the session has no tokenizer.
    """
    if not isinstance(session, EncoderSession):
        raise Refused(
            "this reference has no tokenizer, so that it cannot be measured on texts",
            "give the Hugging Face folder, with its tokenizer.json, as the source, and `reference: pytorch`",
        )
    asked = TokenizeRequest.model_validate_json(request.read_text(encoding="utf-8"))
    texts = asked.texts
    made = session.tokenize((*texts.passages, *texts.queries), asked.length)
    relevant = np.array(texts.relevant, dtype=np.int64)
    Tokens(made.ids, made.mask, len(texts.passages), relevant).save(out)
    return {"texts": len(made.ids), "tokens": int(made.mask.sum()), "cut": made.cut}
