"""llama.cpp's mixtures of types for a whole file, and the types that a single tensor may have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator


def _in_small_letters(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


FileName = Literal[
    "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_1", "q5_0", "q4_k_m", "q4_k_s", "q4_1", "q4_0", "iq4_xs", "iq4_nl",
    "q3_k_l", "q3_k_m", "q3_k_s", "q2_k", "q2_k_s", "iq3_m", "iq3_s", "iq3_xs", "iq3_xxs", "iq2_m", "iq2_s", "iq2_xs",
    "iq2_xxs", "iq1_m", "iq1_s", "mixed",
]  # fmt: skip
TensorName = Literal[
    "f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0", "iq4_xs", "iq4_nl", "q3_k",
    "q2_k", "iq3_s", "iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s",
]  # fmt: skip
# llama.cpp's own tools write q4_K_M and q6_K
FileType = Annotated[FileName, BeforeValidator(_in_small_letters)]
TensorType = Annotated[TensorName, BeforeValidator(_in_small_letters)]
# llama.h, enum llama_ftype
FILE_TYPES: dict[FileType, int] = {
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
    "q2_k_s": 21,
    "iq3_m": 27,
    "iq3_s": 26,
    "iq3_xs": 22,
    "iq3_xxs": 23,
    "iq2_m": 29,
    "iq2_s": 28,
    "iq2_xs": 20,
    "iq2_xxs": 19,
    "iq1_m": 31,
    "iq1_s": 24,
    "mixed": 7,  # q8_0 for what is left over: every other tensor is given its type by name
}
# src/llama-quant.cpp, tensor_requires_imatrix: some tensor of the mixture gets a type that is made with one only.
NEED_IMATRIX = frozenset({"q2_k_s", "iq3_xs", "iq3_xxs", "iq2_m", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s"})
TENSOR_TYPES_NEED_IMATRIX = frozenset({"iq3_xxs", "iq2_s", "iq2_xs", "iq2_xxs", "iq1_m", "iq1_s"})
# The same file, tensor_type_fallback: what stands in where a row is no multiple of the type's 256 weights.
FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
