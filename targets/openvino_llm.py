"""OpenVINO for language models: exports a Hugging Face folder with its cache inside the graph, and runs it."""

from __future__ import annotations

import json
from typing import ClassVar, Literal

from pydantic import Field

from stages._openvino_llm import KIND, NAME, llm_facts, read_llm, write_llm
from stages._openvino_runtime import Settings, toolkit
from stages._quantized import refuse_quantized
from stages._text_kept import kept_facts
from stages.base import Artifact, Context, Produced, Refused
from targets._hf_folder import checked_config
from targets._openvino_text import OpenvinoTextSession
from targets.base import Target


class OpenvinoLlm(Target):
    """Export with optimum-intel, stateful; open with OpenVINO on the CPU."""

    consumes: ClassVar[frozenset[str]] = frozenset({"hf"})
    produces: ClassVar[str] = KIND
    env: ClassVar[str] = "openvino_llm"

    precision: Literal["float32", "float16"] = Field("float16", description="what float weights are stored in")
    inference_precision: Literal["f32", "bf16", "f16"] = Field(
        "f32", description="what float operators compute in; left to itself a CPU that can would take bf16"
    )
    kv_cache: Literal["f32", "f16", "bf16", "u8"] = Field("f16", description="what keys and values are kept in")
    dynamic_quantization: int = Field(
        0, ge=0, description="with compressed weights: activations that share an INT8 scale; 0 keeps them in float"
    )

    def run(self, model: Artifact, context: Context) -> Produced:
        """Write openvino_model.xml, its weights, and the tokenizer, as JSON and as OpenVINO's own graphs.

        Raises:
            Refused: no Hugging Face folder with safetensors, quantized already, an architecture that optimum-intel does
            not know, or a tokenizer, chat template or special token lost on the way.
        """
        checked_config(model.path)
        refuse_quantized(model.path)
        toolkit()
        from optimum.exporters.openvino import main_export
        from optimum.intel import OVConfig

        context.progress(0, 2, "exporting")
        exported = context.scratch / "exported"
        try:
            main_export(
                str(model.path), str(exported), task="text-generation-with-past", library_name="transformers",
                framework="pt", stateful=True, local_files_only=True, convert_tokenizer=True,
                trust_remote_code=False, ov_config=OVConfig(dtype="fp32"),
            )  # fmt: skip
        except (ValueError, KeyError, NotImplementedError) as error:
            raise Refused(
                f"optimum-intel cannot export the model: {' '.join(str(error).split())[:400]}",
                "use a causal language model that it knows",
            ) from error
        context.progress(1, 2, "writing")
        graph = read_llm(exported)
        write_llm(graph, exported, context.out, half=self.precision == "float16")
        facts = kept_facts(model.path, context.out, model.facts)
        context.progress(2, 2, NAME)
        return Produced(facts={**facts, **llm_facts(read_llm(context.out))})

    def open(self, artifact: Artifact, threads: int, context_length: int) -> OpenvinoTextSession:
        """Read the graph; it is compiled for scoring or for generating when it is asked to.

        Raises:
            Refused: damaged, or trained on shorter sequences.
        """
        config = json.loads((artifact.path / "config.json").read_text(encoding="utf-8"))
        trained = int(config.get("max_position_embeddings", context_length))
        if context_length > trained:
            raise Refused(
                f"a context of {context_length:,} tokens is longer than the {trained:,} the model was trained on",
                "lower `window` or the prompt lengths",
            )
        return OpenvinoTextSession(artifact.path, self.settings(threads))

    def settings(self, threads: int) -> Settings:
        """Properties of the compiled model."""
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self.inference_precision,
            "KV_CACHE_PRECISION": self.kv_cache,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(self.dynamic_quantization),
            "INFERENCE_NUM_THREADS": threads,
            # not pinned to cores: models measured in alternation would share the same ones
            "ENABLE_CPU_PINNING": False,
        }
