"""A model of ONNX Runtime GenAI as a TextSession."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from stages._onnx_llm import TOKENIZER
from stages.base import Refused
from targets.base import Arrays, Generated, Logits, Tokens


class GenaiSession:
    """One generator, rewound to nothing for each sequence.

    Raises:
        Refused: ONNX Runtime GenAI cannot load the folder.
    """

    def __init__(self, folder: Path, threads: int, context_length: int, vocabulary_size: int) -> None:
        import onnxruntime_genai
        from tokenizers import Tokenizer

        self._size, self._length = vocabulary_size, context_length
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        config = onnxruntime_genai.Config(str(folder))
        config.overlay(json.dumps(_overlay(threads)))
        try:
            self._model: Any = onnxruntime_genai.Model(config)
        except RuntimeError as error:
            raise Refused(
                f"ONNX Runtime GenAI cannot load the model: {' '.join(str(error).split())[:400]}",
                "build the model again, it is damaged",
            ) from error
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(max_length=context_length, min_length=context_length, do_sample=False)
        self._generator: Any = onnxruntime_genai.Generator(self._model, parameters)
        self._logits: Any = None

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
        """Logits after each of the tokens, shape (n, vocabulary); valid until the next call."""
        self._start(tokens)
        self._logits = self._generator.get_output("logits")
        found: Logits = np.asarray(self._logits[0], dtype=np.float32)
        return found

    def generate(self, prompt: Tokens, n: int) -> Generated:
        """Exactly `n` greedy tokens after the prompt, timed, with no stop at an end-of-text token.

        The greedy choice is made here, of the last row: the generator's own search stops at an end-of-text token, or
        bars it where a minimum length is set.
        """
        times = [time.perf_counter()]
        tokens: list[int] = []
        for number in range(n):
            if number == 0:
                self._start(prompt)
            else:
                self._generator.append_tokens(np.array(tokens[-1:], dtype=np.int32))
            tokens.append(int(np.asarray(self._generator.get_output("logits"))[0, -1].argmax()))
            times.append(time.perf_counter())
        return Generated(tuple(tokens), tuple(np.diff(times).tolist()))

    def close(self) -> None:
        """Give back the memory."""
        self._logits = self._generator = self._model = None

    def _start(self, tokens: Tokens) -> None:
        if len(tokens) > self._length:
            raise ValueError(f"{len(tokens)} tokens do not fit into a context of {self._length}")
        self._logits = None
        self._generator.rewind_to(0)
        self._generator.append_tokens(np.ascontiguousarray(tokens, dtype=np.int32))


def _overlay(threads: int) -> dict[str, Any]:
    session = {"intra_op_num_threads": threads, "inter_op_num_threads": 1}
    return {"model": {"decoder": {"session_options": session}}}
