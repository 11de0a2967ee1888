"""GGUF -> smaller GGUF: quantizes every weight matrix with llama.cpp."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from stages._gguf_checks import checked
from stages._gguf_header import Header, find
from stages._gguf_types import NEED_IMATRIX, TENSOR_TYPES_NEED_IMATRIX, FileType, TensorType
from stages._imatrix import FILE, KIND, Imatrix
from stages._llama_quantize import Order, quantized
from stages._mixture import KIND as SENSITIVITY
from stages._mixture import Sensitivity
from stages._mixture_budget import MixtureBudget, chosen
from stages.base import Artifact, Context, Produced, Refused, Stage

_FULL_PRECISION = frozenset({"F32", "F16", "BF16"})
_INHERITED = ("tokenizer_sha256", "licence")


def _type_or_budget(schema: dict[str, Any]) -> None:
    """In the schema that editors use, too, a budget stands in for the type."""
    del schema["required"]
    schema["anyOf"] = [{"required": ["type"]}, {"required": ["budget"]}]


class QuantizeGguf(Stage):
    """Quantize a full-precision GGUF with llama.cpp's own quantizer, and with an importance matrix if one was made."""

    model_config = ConfigDict(json_schema_extra=_type_or_budget)
    consumes: ClassVar[frozenset[str]] = frozenset({"gguf"})
    produces: ClassVar[str] = "gguf"
    env: ClassVar[str] = "gguf"
    extra_inputs: ClassVar[frozenset[str]] = frozenset({KIND, SENSITIVITY})

    type: FileType = Field(
        description="llama.cpp's mixture of types, from 8 bits a weight down to 1.6; `mixed`: what `budget` buys"
    )
    budget: MixtureBudget | None = Field(
        None, description="in place of `type`: each tensor's own type, by what `measure_sensitivity` found"
    )
    tensor_types: dict[str, TensorType] = Field(
        {},
        description="a type for every tensor whose name a regular expression is found in, the first that is counts: "
        "`{ffn_down: q6_k}`",
    )
    output_type: TensorType | None = Field(None, description="type of the output head, where it is a tensor of its own")
    token_embedding_type: TensorType | None = Field(None, description="type of the token embedding")
    pure: bool = Field(False, description="one type for every matrix, in place of the mixture")

    @model_validator(mode="before")
    @classmethod
    def _a_budget_buys_a_mixture(cls, value: Any) -> Any:
        return {"type": "mixed", **value} if isinstance(value, dict) and value.get("budget") else value

    @field_validator("tensor_types")
    @classmethod
    def _are_patterns(cls, value: dict[str, TensorType]) -> dict[str, TensorType]:
        for pattern in value:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"`{pattern}` is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _is_a_mixture(self) -> Self:
        if (self.type == "mixed") != (self.budget is not None):
            raise ValueError("give either a `type` of llama.cpp's or a `budget`")
        if self.pure and (self.tensor_types or self.budget):
            raise ValueError("`pure` gives every matrix one type: leave out `tensor_types` and `budget`")
        return self

    def needs(self) -> frozenset[str]:
        """An importance matrix, where llama.cpp makes one of the types with one only; sensitivities for a budget."""
        low = self.type in NEED_IMATRIX or TENSOR_TYPES_NEED_IMATRIX & self._named_types()
        return frozenset({KIND} if low else ()) | frozenset({SENSITIVITY} if self.budget else ())

    def _named_types(self) -> set[str]:
        given = (*self.tensor_types.values(), self.output_type, self.token_embedding_type)
        return {kind for kind in given if kind}

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write model.gguf.

        Raises:
            Refused: the file is damaged or quantized already, or an importance matrix is missing or of another model.
            OSError: the disk is full.
        """
        source, target = find(model.path), context.out / "model.gguf"
        header = checked(source)
        _refuse_quantized(source, header)
        _refuse_unmatched(self.tensor_types, header)
        importance, facts = self._importance(header, context)
        mixed, expected = self._mixture(header, context)
        order = Order(
            type=self.type,
            pure=self.pure,
            output_type=self.output_type,
            token_embedding_type=self.token_embedding_type,
            overrides={**self.tensor_types, **mixed},
            importance=importance,
        )
        fallbacks = quantized(source, target, order, context)
        inherited = {key: model.facts[key] for key in _INHERITED if key in model.facts}
        facts |= {**expected, "precision": self.type, "fallback_tensors": fallbacks}
        return Produced(facts={**inherited, **checked(target).facts(), **facts})

    def _mixture(self, header: Header, context: Context) -> tuple[dict[str, TensorType], dict[str, JsonValue]]:
        """The types that the budget buys, by regular expression, and what is expected of them."""
        if self.budget is None:
            return {}, {}
        given = context.inputs.get(SENSITIVITY)
        if given is None:
            raise Refused("a `budget` needs to know what each tensor loses", "put `measure_sensitivity` before `gguf`")
        mixture = chosen(self.budget, Sensitivity.load(given.path), header)
        types: dict[str, TensorType] = {f"^{re.escape(name)}$": kind for name, kind in mixture.types.items()}
        return types, {"expected_kl": round(mixture.kl, 6)}

    def _importance(
        self, header: Header, context: Context
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, JsonValue]]:
        given = context.inputs.get(KIND)
        if given is None:
            if KIND in self.needs():
                named = ", ".join([self.type, *sorted(self._named_types())])
                raise Refused(f"{named}: needs an importance matrix", "put `collect_imatrix` before `gguf`")
            return {}, {}
        imatrix = Imatrix.load(given.path / FILE)
        found = fitting(imatrix, header)
        return found, {"imatrix_matrices": len(found), "imatrix_tokens": imatrix.tokens}


def fitting(imatrix: Imatrix, header: Header) -> dict[str, NDArray[np.float32]]:
    """The importance of the columns of each matrix of the file that was looked at, by tensor name.

    Raises:
        Refused: a matrix has another width, or none was looked at: the importance matrix is another model's.
    """
    found = {}
    for tensor in header.tensors:
        values = imatrix.importance(tensor.name)
        if values is None:
            continue
        if values.size != tensor.shape[0] * (tensor.shape[2] if len(tensor.shape) > 2 else 1):
            raise Refused(
                f"the importance matrix is of another model: `{tensor.name}` has {values.size} columns in it and "
                f"{tensor.shape[0]} in the file",
                "collect it from the model that is quantized",
            )
        found[tensor.name] = np.ascontiguousarray(values, dtype=np.float32)
    if not found:
        raise Refused("the importance matrix holds none of the file's tensors", "collect it from the same model")
    return found


def _refuse_unmatched(patterns: dict[str, TensorType], header: Header) -> None:
    for pattern in patterns:
        if not any(re.search(pattern, tensor.name) for tensor in header.tensors):
            kinds = sorted({tensor.name.split(".")[-2] for tensor in header.tensors if len(tensor.shape) > 1})
            raise Refused(f"`tensor_types`: no tensor's name holds `{pattern}`", f"there are {', '.join(kinds)}")


def _refuse_quantized(source: Path, header: Header) -> None:
    quantized = {name: n for name, n in header.types().items() if name not in _FULL_PRECISION}
    if quantized:
        most = max(quantized, key=quantized.__getitem__)
        raise Refused(
            f"{source.name} is quantized already: {quantized[most]} of {len(header.tensors)} tensors are {most}",
            "start from the full-precision model: add `import_gguf` and `gguf` before this step to de-quantize it",
        )
