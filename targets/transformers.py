"""PyTorch through Hugging Face transformers: the full-precision reference of every language model."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from stages._quantized import Quantization, floats, quantization
from stages.base import Artifact, Context, Produced, Refused
from targets._hf_folder import architecture, checked_config
from targets.base import Arrays, Generated, Logits, Target, Tokens

_KEPT = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt", "LICENSE*", "README.md")


class Transformers(Target):
    """Run a Hugging Face folder in PyTorch on the CPU. GPTQ, AWQ and compressed-tensors are de-quantized to floats."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = "hf"
    env: ClassVar[str] = "torch"

    dtype: Literal["float32", "bfloat16"] = Field("float32", description="what the weights are computed in")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Copy the folder as it is, without pickles, code or anything else that no session reads.

        Raises:
            Refused: not a Hugging Face folder with safetensors and an architecture of transformers.
        """
        config = checked_config(model.path)
        for file in sorted({file for pattern in _KEPT for file in model.path.glob(pattern) if file.is_file()}):
            shutil.copyfile(file, context.out / file.name)
        return Produced(facts={**model.facts, "architecture": architecture(config)})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> TorchSession:
        """Load the folder; nothing is read from a network, and no code of the folder is executed.

        Raises:
            Refused: transformers cannot load it, or it was trained on shorter sequences.
        """
        checked_config(artifact.path)
        import torch

        torch.set_num_threads(threads)
        model, tokenizer = _load(artifact.path, getattr(torch, self.dtype))
        trained = getattr(model.config, "max_position_embeddings", context_length)
        if context_length > trained:
            raise Refused(
                f"a context of {context_length:,} tokens is longer than the {trained:,} the model was trained on",
                "lower `window` or the prompt lengths",
            )
        return TorchSession(model, tokenizer)


def _load(folder: Path, dtype: Any) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    how = quantization(folder)
    try:
        if how is not None:
            return _dequantized(folder, how, dtype), AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except SafetensorError as error:
        raise Refused(f"the safetensors are damaged: {error}", "fetch the model again") from error
    except (ValueError, OSError, KeyError) as error:
        what = " ".join(str(error).split())
        raise Refused(f"transformers cannot load the folder: {what}", "use a causal language model it knows") from error
    for name in sorted(info["missing_keys"]):
        raise Refused(f"the weights of `{name}` are missing", "fetch the model again")
    return model.eval(), tokenizer


def _dequantized(folder: Path, how: Quantization, dtype: Any) -> Any:
    """A checkpoint of few bits as the floats that its codes stand for: no kernel for them is fast on every CPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sys.stderr.write(f"de-quantizing {how.told}\n")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    given = {name: torch.from_numpy(values) for name, values in floats(folder, how)}
    missing, unknown = model.load_state_dict(given, strict=False)
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if config.tie_word_embeddings else set()
    for name in sorted(set(missing) - tied):
        raise Refused(f"the weights of `{name}` are missing", "fetch the model again")
    for name in sorted(unknown):
        raise Refused(f"the weights of `{name}` belong to no layer of the model", "quantize the model again")
    model.tie_weights()
    return model.eval()


class TorchSession:
    """A causal language model in PyTorch."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._logits: Any = None

    @property
    def vocabulary_size(self) -> int:
        """Width of a row of logits."""
        return int(self._model.config.vocab_size)

    def encode(self, text: str) -> Tokens:
        """Token ids of the text, without special tokens added; shape (n,)."""
        return np.asarray(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int32)

    def decode(self, tokens: Tokens) -> str:
        """The text of token ids of shape (n,)."""
        return str(self._tokenizer.decode(tokens.tolist(), clean_up_tokenization_spaces=False))

    def run(self, inputs: Arrays) -> Arrays:
        """`input_ids` of shape (n,) in, `logits` of shape (n, vocabulary) out."""
        return {"logits": self.logits(inputs["input_ids"].astype(np.int32, copy=False))}

    def logits(self, tokens: Tokens) -> Logits:
        """Logits after each of the tokens, shape (n, vocabulary); a view, valid until the next call."""
        import torch

        self._logits = None
        with torch.inference_mode():
            self._logits = self._model(_batch(tokens), use_cache=False).logits[0].float()
        view: Logits = self._logits.numpy()
        return view

    def generate(self, prompt: Tokens, n: int) -> Generated:
        """Exactly `n` greedy tokens after the prompt, timed, with no stop at an end-of-text token."""
        import torch

        self._logits = None
        tokens: list[int] = []
        times = [time.perf_counter()]
        step, cache = _batch(prompt), None
        with torch.inference_mode():
            for _ in range(n):
                output = self._model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
                step, cache = output.logits[:, -1].argmax(-1, keepdim=True), output.past_key_values
                tokens.append(int(step))
                times.append(time.perf_counter())
        return Generated(tuple(tokens), tuple(np.diff(times).tolist()))

    def close(self) -> None:
        """Give back the memory."""
        self._model = self._logits = None


def _batch(tokens: Tokens) -> Any:
    import torch

    return torch.from_numpy(np.asarray(tokens, dtype=np.int64))[None]
