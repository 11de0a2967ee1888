"""PyTorch: runs a module that a function or transformers builds, the full-precision reference of models of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from stages._copied import copy_files
from stages._tokenizer import Tokenized, tokenized
from stages._torch_model import called, input_names, load
from stages.base import Artifact, Context, Produced
from targets.base import Arrays, Target


class Pytorch(Target):
    """Run a torch module in eager mode on the CPU."""

    consumes: ClassVar[frozenset[str]] = frozenset({"torch", "hf"})
    produces: ClassVar[str] = "torch"
    env: ClassVar[str] = "onnx"
    opens: ClassVar[frozenset[str]] = frozenset({"torch", "hf"})

    def run(self, model: Artifact, context: Context) -> Produced:
        """Copy the folder, once a module was built from it.

        Raises:
            Refused: nothing can be built from it, or its weights do not fit or are not finite.
        """
        module = load(model.path)
        copy_files(model.path, context.out, ("__pycache__", ".*"))
        parameters = sum(weights.numel() for weights in module.parameters())
        return Produced(facts={**model.facts, "parameters": parameters, "precision": "float32"})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> ModuleSession:
        """Build the module; the code in its folder is executed.

        Raises:
            Refused: nothing can be built from the folder.
        """
        import torch

        torch.set_num_threads(threads)
        return ModuleSession(load(artifact.path), artifact.path)


class ModuleSession:
    """A torch module in eager mode."""

    def __init__(self, module: Any, folder: Path) -> None:
        self._module, self._folder = module, folder
        self._inputs = input_names(module)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names that `run` takes: the parameters of `forward`."""
        return self._inputs

    def run(self, inputs: Arrays) -> Arrays:
        """Arrays by input name in, arrays by output name out; the same names as in the exported ONNX model."""
        return called(self._module, *(inputs[name] for name in self._inputs))

    def tokenize(self, texts: Sequence[str], length: int) -> Tokenized:
        """The texts by the tokenizer in the module's folder, cut at `length` tokens.

        Raises:
            Refused: there is none, or the module has no positions for that length.
        """
        return tokenized(self._folder, texts, length)

    def close(self) -> None:
        """Give back the memory."""
        self._module = None
