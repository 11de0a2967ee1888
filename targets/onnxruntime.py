"""ONNX Runtime: runs any ONNX model, on the CPU or through CUDA or TensorRT."""

from __future__ import annotations

import shutil
from typing import Any, ClassVar

from pydantic import Field

from stages._onnx_file import NAME, find, graph_facts, precision_of, read
from stages._onnx_session import Provider, opened, options
from stages.base import Artifact, Context, Produced, Refused
from targets.base import Arrays, Target


class Onnxruntime(Target):
    """Take an ONNX model as it is, and see that ONNX Runtime loads it."""

    consumes: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "onnx"
    env: ClassVar[str] = "onnx"

    provider: Provider = Field(
        "cpu", description="what computes; `cuda` and `tensorrt` need an NVIDIA GPU and the package onnxruntime-gpu"
    )

    def run(self, model: Artifact, context: Context) -> Produced:
        """Copy the model and its external data.

        Raises:
            Refused: damaged, with an operator that ONNX Runtime lacks, or a provider that is not here.
        """
        held = read(model.path)
        facts = graph_facts(held, precision_of(held))
        source = find(model.path)
        for file in sorted(each for each in model.path.iterdir() if each.is_file()):
            shutil.copyfile(file, context.out / (NAME if file == source else file.name))
        self.open(Artifact(kind="onnx", path=context.out, digest=model.digest), context.threads, 0).close()
        return Produced(facts={**facts, **model.facts, "provider": self.provider})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> OnnxSession:
        """Load the model; its graph is optimized while loading, as in every deployment.

        Raises:
            Refused: ONNX Runtime cannot load it, or the provider is not here.
        """
        session = opened(find(artifact.path), options(threads), self.provider)
        return OnnxSession(session)


class OnnxSession:
    """An ONNX model in ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = tuple(each.name for each in session.get_inputs())
        self._outputs = tuple(each.name for each in session.get_outputs())

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names that `run` takes, in the model's order."""
        return self._inputs

    def run(self, inputs: Arrays) -> Arrays:
        """Arrays by input name in, arrays by output name out, in the model's order.

        Raises:
            Refused: an array has a shape, type or name that the model does not take.
        """
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        try:
            return dict(zip(self._outputs, self._session.run(None, inputs), strict=True))
        except (InvalidArgument, ValueError) as error:
            taken = ", ".join(f"{each.name} {each.shape} {each.type}" for each in self._session.get_inputs())
            given = ", ".join(f"{name} {list(value.shape)} {value.dtype}" for name, value in inputs.items())
            raise Refused(f"the model takes {taken}; it was given {given}", "see `data: preprocess:`") from error

    def close(self) -> None:
        """Give back the memory."""
        self._session = None
