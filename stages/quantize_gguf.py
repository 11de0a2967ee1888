"""GGUF -> smaller GGUF: quantizes every weight matrix with llama.cpp."""

from __future__ import annotations

import ctypes
import errno
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from stages._gguf_checks import checked
from stages._gguf_header import TYPE_IDS, Header, find
from stages._llama_log import llama_log
from stages.base import Artifact, Context, Produced, Refused, Stage

# llama.cpp's file types (llama_ftype); the types that need an importance matrix are left out.
FILE_TYPES = {
    "q8_0": 7,
    "q6_k": 18,
    "q5_k_m": 17,
    "q5_k_s": 16,
    "q5_1": 9,
    "q5_0": 8,
    "q4_k_m": 15,
    "q4_k_s": 14,
    "q4_1": 3,
    "q4_0": 2,
    "iq4_xs": 30,
    "iq4_nl": 25,
    "q3_k_l": 13,
    "q3_k_m": 12,
    "q3_k_s": 11,
    "q2_k": 10,
}
FileType = Literal[
    "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s", "q4_1", "q4_0", "iq4_xs", "iq4_nl",
    "q3_k_l", "q3_k_m", "q3_k_s", "q2_k",
]  # fmt: skip
TensorType = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0"]
_FULL_PRECISION = frozenset({"F32", "F16", "BF16"})
_INHERITED = ("tokenizer_sha256", "licence")
_FALLBACKS = re.compile(r"(\d+) of \d+ tensor\(s\) required fallback")
_TENSOR = re.compile(r"\[\s*(\d+)/\s*(\d+)\]\s+(\S+)")


class QuantizeGguf(Stage):
    """Quantize a full-precision GGUF with llama.cpp's own quantizer."""

    consumes: ClassVar[frozenset[str]] = frozenset({"gguf"})
    produces: ClassVar[str] = "gguf"
    env: ClassVar[str] = "gguf"

    type: FileType = Field(description="llama.cpp's mixture of types, from 8 bits a weight down to 2")
    output_type: TensorType | None = Field(None, description="type of the output head, where it is a tensor of its own")
    token_embedding_type: TensorType | None = Field(None, description="type of the token embedding")
    pure: bool = Field(False, description="one type for every matrix, in place of the mixture")

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.gguf.

        Raises:
            Refused: the file is damaged, or quantized already.
            OSError: the disk is full.
        """
        source, target = find(model.path), context.out / "model.gguf"
        _refuse_quantized(source, checked(source))
        said = self._quantize(source, target, context)
        inherited = {key: model.facts[key] for key in _INHERITED if key in model.facts}
        facts = {"precision": self.type, "fallback_tensors": _fallbacks(said)}
        return Produced(facts={**inherited, **checked(target).facts(), **facts})

    def _quantize(self, source: Path, target: Path, context: Context) -> str:
        """Run llama.cpp; what it said."""
        import llama_cpp

        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.nthread, parameters.ftype, parameters.pure = context.threads, FILE_TYPES[self.type], self.pure
        if self.output_type:
            parameters.output_tensor_type = TYPE_IDS[self.output_type.upper()]
        if self.token_embedding_type:
            parameters.token_embedding_type = TYPE_IDS[self.token_embedding_type.upper()]
        said: list[str] = []
        with llama_log(_progress(context, said)) as log:
            failed = llama_cpp.llama_model_quantize(
                str(source).encode(), str(target).encode(), ctypes.byref(parameters)
            )
        if failed:
            _refuse_full_disk(target)
            raise RuntimeError(f"llama.cpp could not quantize {source.name}: {log.last_error()}")
        return "".join(said)


def _fallbacks(said: str) -> int:
    """Tensors whose rows are no multiple of 256, which llama.cpp gives a larger type than the one asked for."""
    found = _FALLBACKS.search(said)
    return int(found[1]) if found else 0


def _progress(context: Context, said: list[str]) -> Callable[[str], None]:
    def report(text: str) -> None:
        said.append(text)
        if match := _TENSOR.search(text):
            context.progress(int(match[1]), int(match[2]), match[3])

    return report


def _refuse_quantized(source: Path, header: Header) -> None:
    quantized = {name: n for name, n in header.types().items() if name not in _FULL_PRECISION}
    if quantized:
        most = max(quantized, key=quantized.__getitem__)
        raise Refused(
            f"{source.name} is quantized already: {quantized[most]} of {len(header.tensors)} tensors are {most}",
            "start from the full-precision model: add `import_gguf` and `gguf` before this step to de-quantize it",
        )


def _refuse_full_disk(target: Path) -> None:
    """llama.cpp says only that a stream failed."""
    if shutil.disk_usage(target.parent).free < 1 << 20:
        raise OSError(errno.ENOSPC, "no space left for the quantized model", str(target))
