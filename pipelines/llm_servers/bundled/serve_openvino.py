"""Serve this folder's model with OpenVINO GenAI: python serve.py --port 8080; see --help.

pip install -r requirements.txt first. The runtime's settings are in serve.json, as the model was measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from pipelines.llm_servers.bundled.openai_server import Bad, Settings, Usage, main


class OpenvinoModel:
    """The model in an LLMPipeline."""

    def __init__(self, folder: Path, threads: int) -> None:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it reports its use to its vendor
        import openvino_genai

        properties = json.loads((folder / "serve.json").read_text(encoding="utf-8"))
        self._longest = int(properties.pop("context_length"))
        self._genai = openvino_genai
        self._pipeline = openvino_genai.LLMPipeline(str(folder), "CPU", **properties, INFERENCE_NUM_THREADS=threads)
        self._tokenizer = self._pipeline.get_tokenizer()

    def chat_prompt(self, messages: list[dict[str, str]]) -> str:
        """The conversation as a prompt, by the model's own chat template."""
        try:
            return str(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True))
        except RuntimeError as error:
            raise Bad(f"the chat template refused the messages: {error}") from error

    def generate(self, prompt: str, settings: Settings, emit: Callable[[str], bool]) -> Usage:
        """Hand every piece of text to `emit` until it answers False."""
        given = self._tokenizer.encode(prompt).input_ids.get_shape()[1]
        most = settings.max_tokens or self._longest - given
        if given + most > self._longest:
            raise Bad(f"{given} tokens and {most} to make do not fit into a context of {self._longest}")
        config = self._genai.GenerationConfig(max_new_tokens=most, apply_chat_template=False)
        config.eos_token_id = self._tokenizer.get_eos_token_id()
        if settings.temperature > 0:
            config.do_sample, config.temperature, config.top_p = True, settings.temperature, settings.top_p
        going, stop = self._genai.StreamingStatus.RUNNING, self._genai.StreamingStatus.STOP
        made = self._pipeline.generate([prompt], config, lambda piece: going if emit(piece) else stop)
        tokens = made.perf_metrics.get_num_generated_tokens()
        return Usage(given, tokens, tokens >= most)


if __name__ == "__main__":
    main(Path(__file__).resolve().parent, OpenvinoModel)
