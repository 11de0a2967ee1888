"""The matrices of a language model by llama.cpp's names, rounded in memory to llama.cpp's types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages._divergence import layer_of
from stages._ggml import fits, rounded
from stages._gguf_types import TENSOR_TYPES_NEED_IMATRIX
from stages._imatrix import Imatrix
from stages._language_model import EMBEDDING, LanguageModel

_SAMPLED_ROWS = 256  # of a matrix, for the ratio of two types' errors


class Matrices:
    """The model's matrices by llama.cpp's names, the embedding among them."""

    def __init__(self, subject: LanguageModel, imatrix: Imatrix | None, threads: int) -> None:
        self._parameters = {name: linear.weight for name, linear in subject.linears.items()}
        self._parameters.setdefault(EMBEDDING, subject.model.get_input_embeddings().weight)
        self._imatrix, self._threads = imatrix, threads
        self.names = sorted(self._parameters, key=lambda name: (layer_of(name), name))

    def parameter(self, name: str) -> Any:
        """The torch parameter."""
        return self._parameters[name]

    def columns(self, name: str) -> int:
        """Weights a row."""
        return int(self._parameters[name].shape[1])

    def can_be(self, name: str, kind: str) -> bool:
        """Whether the type's blocks divide the rows, and it has the importance that some types are not made without."""
        weighted = kind not in TENSOR_TYPES_NEED_IMATRIX or self._importance(name) is not None
        return weighted and fits(kind, self.columns(name))

    def rounded(self, name: str, kind: str) -> Any:
        """The whole matrix after quantizing to the type and back, as a torch tensor."""
        import torch

        return torch.from_numpy(rounded(self._array(name), kind, self._importance(name), self._threads))

    def error(self, name: str, kind: str) -> float:
        """Squared error of the matrix in the type, columns weighted by their importance, from evenly spaced rows."""
        matrix, importance = self._array(name), self._importance(name)
        rows = matrix[np.linspace(0, len(matrix) - 1, min(_SAMPLED_ROWS, len(matrix))).astype(int)]
        squared = (rounded(rows, kind, importance, self._threads) - rows) ** 2
        weighted = squared if importance is None else squared * importance
        return float(weighted.mean(dtype=np.float64)) * matrix.size

    def _array(self, name: str) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self._parameters[name].detach().numpy()
        return array

    def _importance(self, name: str) -> NDArray[np.float32] | None:
        return self._imatrix.importance(name) if self._imatrix else None
