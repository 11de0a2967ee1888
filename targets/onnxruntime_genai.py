"""ONNX Runtime GenAI: runs what its builder made, on the CPU."""

from __future__ import annotations

from typing import ClassVar

from stages._copied import copy_files
from stages._onnx_llm import KIND, genai_settings
from stages.base import Artifact, Context, Produced, Refused
from targets._genai_session import GenaiSession
from targets.base import Target


class OnnxruntimeGenai(Target):
    """Open with ONNX Runtime GenAI what `build_onnx_llm` made."""

    consumes: ClassVar[frozenset[str]] = frozenset({KIND})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "onnx_llm"

    def run(self, model: Artifact, context: Context) -> Produced:
        """Copy the folder as it is.

        Raises:
            Refused: it is not what the builder writes.
        """
        genai_settings(model.path)
        copy_files(model.path, context.out)
        return Produced(facts=model.facts)

    def open(self, artifact: Artifact, threads: int, context_length: int) -> GenaiSession:
        """Load the model with that many threads.

        Raises:
            Refused: damaged, or trained on shorter sequences.
        """
        settings = genai_settings(artifact.path)
        if context_length > settings["context_length"]:
            raise Refused(
                f"a context of {context_length:,} tokens is longer than the {settings['context_length']:,} the model "
                "was trained on",
                "lower `window` or the prompt lengths",
            )
        return GenaiSession(artifact.path, threads, context_length, int(settings["vocab_size"]))
