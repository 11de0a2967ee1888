"""A stateful OpenVINO language model as a TextSession."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages._openvino_llm import TOKENIZER, read_llm
from stages._openvino_runtime import Settings, compiled
from stages.base import Refused
from targets.base import Arrays, Generated, Logits, Tokens

Use = Literal["score", "generate"]


class OpenvinoTextSession:
    """One compiled model lives at a time: one that scores, or one that generates and, as OpenVINO GenAI's does,
    multiplies the head with the last token alone.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        from tokenizers import Tokenizer

        self._folder, self._settings = folder, settings
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._request: Any = None
        self._use: Use | None = None
        self._inputs: frozenset[str] = frozenset()
        self._size = int(read_llm(folder).output("logits").get_partial_shape()[2].get_length())
        self._open("generate")

    @property
    def vocabulary_size(self) -> int:
        """Width of a row of logits."""
        return self._size

    def encode(self, text: str) -> Tokens:
        """Token ids of the text, without special tokens added; shape (n,)."""
        return np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def decode(self, tokens: Tokens) -> str:
        """The text of token ids of shape (n,)."""
        return str(self._tokenizer.decode(tokens.tolist(), skip_special_tokens=False))

    def run(self, inputs: Arrays) -> Arrays:
        """`input_ids` of shape (n,) in, `logits` of shape (n, vocabulary) out."""
        return {"logits": self.logits(inputs["input_ids"].astype(np.int32, copy=False))}

    def logits(self, tokens: Tokens) -> Logits:
        """Logits after each of the tokens, shape (n, vocabulary); a view, valid until the next call."""
        self._open("score")
        return self._step(tokens, 0)

    def generate(self, prompt: Tokens, n: int) -> Generated:
        """Exactly `n` greedy tokens after the prompt, timed, with no stop at an end-of-text token."""
        self._open("generate")
        tokens: list[int] = []
        times = [time.perf_counter()]
        step, past = prompt, 0
        for _ in range(n):
            tokens.append(int(self._step(step, past)[-1].argmax()))
            times.append(time.perf_counter())
            past, step = past + len(step), np.array(tokens[-1:], dtype=np.int32)
        return Generated(tuple(tokens), tuple(np.diff(times).tolist()))

    def close(self) -> None:
        """Give back the memory."""
        self._request = self._use = None

    def _step(self, tokens: Tokens, past: int) -> Logits:
        """Append tokens to the sequence; at its start the cache is emptied."""
        if past == 0:
            self._request.reset_state()
        count = len(tokens)
        fed = {
            "input_ids": np.asarray(tokens, dtype=np.int64)[None],
            "attention_mask": np.ones((1, past + count), dtype=np.int64),
            "position_ids": np.arange(past, past + count, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
        self._request.infer({name: fed[name] for name in self._inputs}, share_inputs=True)
        found: Logits = self._request.get_tensor("logits").data[0]
        return found

    def _open(self, use: Use) -> None:
        if self._use == use:
            return
        self.close()
        model = read_llm(self._folder)
        if use == "generate":
            keep_last_token(model)
        loaded = compiled(model, "CPU", self._settings)
        self._inputs = frozenset(str(port.get_any_name()) for port in loaded.inputs)
        self._request, self._use = loaded.create_infer_request(), use


def keep_last_token(model: Any) -> None:
    """Cut what the head multiplies to the last token.

    Raises:
        Refused: there is no head that ends in a matrix.
    """
    from openvino import opset13

    head = model.output("logits").get_node().input_value(0).get_node()
    while head.get_type_name() in ("Convert", "Multiply", "Divide", "Tanh", "Add"):
        head = head.input_value(0).get_node()
    if head.get_type_name() != "MatMul":
        raise Refused(f"the logits come out of {head.get_type_name()}, not of a matrix", "take a causal language model")
    ends = [np.array([value], dtype=np.int64) for value in (-1, np.iinfo(np.int64).max, 1, 1)]
    cut = opset13.slice(head.input_value(0), *map(opset13.constant, ends))
    head.input(0).replace_source_output(cut.output(0))
    model.validate_nodes_and_infer_types()
