"""A llama.cpp model as a TextSession, through llama_cpp's low-level API."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages._gguf_checks import checked
from stages._gguf_header import find
from stages._llama_backends import load_backends
from stages._llama_log import LlamaLog
from stages.base import Artifact, Refused
from targets._speculation import common, drafting, speculate
from targets.base import Arrays, Generated, Logits, Speculated, Tie, Tokens

Use = Literal["score", "generate"]
# 512 tokens a micro-batch: 850 tokens/s for 135M in F16 on 2 cores, against 680 at 128 and 600 at 64
_MICRO_BATCH = 512
_NOTHING: Tokens = np.empty(0, dtype=np.int32)


class LlamaSession:
    """A GGUF in llama.cpp, memory-mapped. One context lives at a time: one that scores or one that generates, since a
    scoring context holds vocabulary * tokens * 4 bytes of logits that no deployment would have.

    `log` is that of a session in the same process, which can have one only.

    Raises:
        Refused: llama.cpp cannot load the file, or the model was trained on shorter sequences.
    """

    def __init__(self, file: Path, threads: int, context_length: int, log: LlamaLog | None = None) -> None:
        import llama_cpp

        self._lib: Any = llama_cpp
        self._log = log or LlamaLog()
        self._threads, self._length = threads, context_length
        self._draft: LlamaSession | None = None
        self._drafted = 0
        self._held: Tokens = _NOTHING
        self._context: Any = None
        self._use: Use | None = None
        llama_cpp.llama_backend_init()
        load_backends()
        self._model = self._load(file)
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self._refuse_longer(int(llama_cpp.llama_model_n_ctx_train(self._model)))

    def _load(self, file: Path) -> Any:
        parameters = self._lib.llama_model_default_params()
        parameters.load_mode = self._lib.LLAMA_LOAD_MODE_MMAP
        parameters.n_gpu_layers = 0
        model = self._lib.llama_model_load_from_file(str(file).encode(), parameters)
        if not model:
            reason = self._log.last_error()
            self._log.close()
            raise Refused(f"llama.cpp cannot load {file.name}: {reason}", "convert the model again")
        return model

    def _refuse_longer(self, trained: int) -> None:
        if self._length > trained:
            self.close()
            raise Refused(
                f"a context of {self._length:,} tokens is longer than the {trained:,} the model was trained on",
                "lower `window` or the prompt lengths",
            )

    @property
    def vocabulary_size(self) -> int:
        """Width of a row of logits."""
        return self._size

    def encode(self, text: str) -> Tokens:
        """Token ids of the text, without special tokens added; shape (n,)."""
        raw = text.encode()
        room = len(raw) + 8  # a token is at least a byte, except for a leading space that some vocabularies add
        buffer = np.empty(room, dtype=np.int32)
        count = self._lib.llama_tokenize(self._vocabulary, raw, len(raw), _int32s(buffer), room, False, True)
        if count < 0:
            raise ValueError(f"llama.cpp cannot tokenize a text of {len(raw):,} bytes")
        return buffer[:count].copy()

    def decode(self, tokens: Tokens) -> str:
        """The text of token ids of shape (n,)."""
        return b"".join(self._piece(int(token)) for token in tokens).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = self._lib.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, True)
            if size >= 0:
                return buffer.raw[:size]
            room = -size

    def run(self, inputs: Arrays) -> Arrays:
        """`input_ids` of shape (n,) in, `logits` of shape (n, vocabulary) out."""
        return {"logits": self.logits(inputs["input_ids"].astype(np.int32, copy=False))}

    def logits(self, tokens: Tokens) -> Logits:
        """Logits after each of the tokens, shape (n, vocabulary); llama.cpp's own memory, valid until the next call."""
        self._start("score", tokens)
        self._decode(tokens, np.ones(len(tokens), dtype=np.int8))
        return np.ctypeslib.as_array(self._lib.llama_get_logits(self._context), shape=(len(tokens), self._size))

    def generate(self, prompt: Tokens, n: int) -> Generated:
        """Exactly `n` greedy tokens after the prompt, timed, with no stop at an end-of-text token."""
        self._start("generate", prompt, n)
        tokens = np.empty(n, dtype=np.int32)
        times = [time.perf_counter()]
        step = prompt
        for i in range(n):
            self._decode(step, None)
            tokens[i] = self._row(-1).argmax()
            times.append(time.perf_counter())
            step = tokens[i : i + 1]
        return Generated(tuple(tokens.tolist()), tuple(np.diff(times).tolist()))

    def load_draft(self, draft: Artifact, tokens: int) -> None:
        """Open a GGUF beside this one, to draft that many tokens a step.

        Raises:
            Refused: the file is damaged, llama.cpp cannot load it, or it was trained on shorter sequences.
        """
        file = find(draft.path)
        checked(file)
        self._free_context()  # the next one has room for the logits of a whole draft
        self._draft = LlamaSession(file, self._threads, self._length, self._log)
        self._drafted = tokens

    def speculate(self, prompt: Tokens, n: int) -> Speculated:
        """Exactly `n` greedy tokens after the prompt with the draft model's help, no stop at an end-of-text token."""
        assert self._draft is not None
        for session in (self, self._draft):
            session._start("generate", prompt, n)
        propose = drafting(self._draft.greedy, min(self._size, self._draft.vocabulary_size))
        return speculate(prompt, n, self._drafted, propose, self.greedy)

    def greedy(self, sequence: Tokens, answers: int) -> Tokens:
        """The most likely token after each of the last `answers` tokens of a sequence of shape (n,).

        What the cache holds of the sequence is not computed again, what it holds beyond it is dropped.
        """
        known = min(common(self._held, sequence), len(sequence) - answers)
        if known < len(self._held):
            known = self._rolled_back(known)
        outputs = np.zeros(len(sequence) - known, dtype=np.int8)
        outputs[-answers:] = 1
        self._decode(sequence[known:], outputs)
        self._held = sequence
        return np.array([self._row(i - answers).argmax() for i in range(answers)], dtype=np.int32)

    def tie(self, sequence: Tokens, prompt: int, one: int, other: int) -> Tie:
        """How near two tokens are after a sequence of shape (n,), whose first `prompt` tokens are the prompt."""
        alone = self._row_after(sequence, prompt, 1)
        together = self._row_after(sequence, prompt, 1 + self._drafted)
        return Tie(gap=abs(float(alone[one] - alone[other])), noise=float(np.abs(together - alone).max()))

    def _row_after(self, sequence: Tokens, prompt: int, width: int) -> Logits:
        """Logits after the sequence, `width` tokens a pass after the prompt; the last pass is filled up."""
        self._start("generate", sequence[:prompt], len(sequence) - prompt + width)
        self._decode(sequence[:prompt], None)
        row = self._row(-1).copy()
        for first in range(prompt, len(sequence), width):
            step = sequence[first : first + width]
            self._decode(np.pad(step, (0, width - len(step)), mode="edge"), np.ones(width, dtype=np.int8))
            row = self._row(len(step) - 1 - width).copy()
        return row

    def _rolled_back(self, known: int) -> int:
        """Tokens left in the cache: a recurrent state cannot go back, and starts anew."""
        memory = self._lib.llama_get_memory(self._context)
        if self._lib.llama_memory_seq_rm(memory, 0, known, -1):
            return known
        self._lib.llama_memory_clear(memory, False)
        return 0

    def _row(self, number: int) -> Logits:
        """Logits of one of the tokens whose logits were wanted, -1 the last; shape (vocabulary,)."""
        row = self._lib.llama_get_logits_ith(self._context, number)
        return np.ctypeslib.as_array(row, shape=(self._size,))

    def _start(self, use: Use, tokens: Tokens, further: int = 1) -> None:
        """An empty cache in a context of that use, for the tokens and those that will follow them."""
        if len(tokens) + further - 1 > self._length:
            raise ValueError(f"{len(tokens)} + {further} tokens do not fit into a context of {self._length}")
        if not 0 < len(tokens) <= self._length:
            raise ValueError(f"{len(tokens)} tokens do not fit into a context of {self._length}")
        if tokens.min() < 0 or tokens.max() >= self._size:
            raise ValueError(f"a token is outside the vocabulary of {self._size:,}")
        if self._use != use:
            self._free_context()
            self._context, self._use = self._new_context(use), use
        self._lib.llama_memory_clear(self._lib.llama_get_memory(self._context), False)
        self._held = _NOTHING

    def _new_context(self, use: Use) -> Any:
        parameters = self._lib.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = self._length
        parameters.n_ubatch = min(_MICRO_BATCH, self._length)
        parameters.n_outputs_max = 1 + self._drafted if use == "generate" else 0
        parameters.n_threads = parameters.n_threads_batch = self._threads
        parameters.no_perf = True
        # Flash attention where the model allows it, as llama.cpp's server does: 1.1x, perplexity 25.81484 for 25.81527.
        parameters.flash_attn_type = self._lib.LLAMA_FLASH_ATTN_TYPE_AUTO
        context = self._lib.llama_init_from_model(self._model, parameters)
        if not context:
            raise MemoryError(f"llama.cpp cannot open a context of {self._length}: {self._log.last_error()}")
        return context

    def _decode(self, tokens: Tokens, outputs: np.ndarray[Any, np.dtype[np.int8]] | None) -> None:
        """Append tokens to the sequence; `outputs` marks those whose logits are wanted, None is the last alone."""
        tokens = np.ascontiguousarray(tokens, dtype=np.int32)
        batch = self._lib.llama_batch_get_one(_int32s(tokens), len(tokens))
        if outputs is not None:
            batch.logits = outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        code = self._lib.llama_decode(self._context, batch)
        if code:
            raise RuntimeError(f"llama_decode of {len(tokens)} tokens ended with {code}: {self._log.last_error()}")

    def _free_context(self) -> None:
        if self._context is not None:
            self._lib.llama_free(self._context)
        self._context = self._use = None

    def close(self) -> None:
        """Give back the memory, the draft model's first."""
        if self._draft is not None:
            self._draft.close()
        self._free_context()
        if self._model is not None:
            self._lib.llama_model_free(self._model)
            self._log.close()
        self._model = None


def _int32s(array: Tokens) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
