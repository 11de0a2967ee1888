"""Serve this folder's model with ONNX Runtime GenAI: python serve.py --port 8080; see --help.

pip install -r requirements.txt first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pipelines.llm_servers.bundled.openai_server import Bad, Settings, Usage, main


class OnnxModel:
    """The model in ONNX Runtime GenAI."""

    def __init__(self, folder: Path, threads: int) -> None:
        import onnxruntime_genai

        config = onnxruntime_genai.Config(str(folder))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        settings = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
        self._genai, self._longest = onnxruntime_genai, int(settings["model"]["context_length"])
        self._model = onnxruntime_genai.Model(config)
        self._tokenizer = onnxruntime_genai.Tokenizer(self._model)

    def chat_prompt(self, messages: list[dict[str, str]]) -> str:
        """The conversation as a prompt, by the model's own chat template."""
        try:
            return str(self._tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True))
        except RuntimeError as error:
            raise Bad(f"the chat template refused the messages: {error}") from error

    def generate(self, prompt: str, settings: Settings, emit: Callable[[str], bool]) -> Usage:
        """Hand every piece of text to `emit` until it answers False."""
        given = self._tokenizer.encode(prompt)
        length = len(given) + (settings.max_tokens or self._longest - len(given))
        if length > self._longest:
            raise Bad(f"{len(given)} tokens and the answer, {length}, do not fit into a context of {self._longest}")
        parameters = self._genai.GeneratorParams(self._model)
        drawn = {"temperature": settings.temperature, "top_p": settings.top_p} if settings.temperature > 0 else {}
        parameters.set_search_options(max_length=length, do_sample=bool(drawn), **drawn)
        generator, text = self._genai.Generator(self._model, parameters), self._tokenizer.create_stream()
        generator.append_tokens(given)
        made = 0
        while not generator.is_done():
            generator.generate_next_token()
            made += 1
            if not emit(text.decode(generator.get_next_tokens()[0])):
                break
        return Usage(len(given), made, len(given) + made >= length)


if __name__ == "__main__":
    main(Path(__file__).resolve().parent, OnnxModel)
