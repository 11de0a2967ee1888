"""Serving settings under the engines' own names."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from questions import adapters_8b, batch_70b, chat_8b, laptop_7b

from pipelines.planner import engine_files
from pipelines.planner.planning import Question, answer

LISTS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "engine_options.yaml").read_text())
QUESTIONS = {"chat": chat_8b(), "batch": batch_70b(), "adapters": adapters_8b()}


@pytest.mark.parametrize("engine", LISTS)
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=list(QUESTIONS))
def test_every_option_is_one_of_the_engine_s_own_list(engine: str, question: Question) -> None:
    settings = engine_files.settings(answer(question), "org/model", engine)

    assert [name for name in settings if name not in LISTS[engine]["options"]] == []
    for name in ("kv_cache_config", "lora_config"):
        nested = settings.get(name)
        assert not isinstance(nested, dict) or set(nested) <= set(LISTS[engine][name])


def test_the_files_say_how_they_are_given_to_the_engine(tmp_path: Path) -> None:
    paths = engine_files.write(answer(adapters_8b()), "org/model", tmp_path)

    assert [path.name for path in paths] == ["vllm.yaml", "sglang.yaml", "tensorrt-llm.yaml"]
    text = paths[0].read_text()
    assert text.startswith(f"# vllm serve --config {paths[0]}\n")
    assert yaml.safe_load(text) == {
        "model": "org/model",
        "tensor-parallel-size": 1,
        "data-parallel-size": 8,
        "gpu-memory-utilization": 0.9,
        "max-model-len": 700,
        "max-num-seqs": 110,
        "kv-cache-dtype": "auto",
        "enable-prefix-caching": True,
        "enable-chunked-prefill": True,
        "enable-lora": True,
        "max-loras": 16,
        "max-lora-rank": 16,
        "max-cpu-loras": 1000,
    }


def test_a_quantized_checkpoint_is_named_in_the_engine_s_words() -> None:
    assert engine_files.settings(answer(batch_70b()), "m", "vllm")["quantization"] == "awq"
    assert engine_files.settings(answer(chat_8b()), "m", "sglang")["quantization"] == "w8a8_int8"


def test_llama_cpp_gets_a_json_of_its_server(tmp_path: Path) -> None:
    [path] = engine_files.write(answer(laptop_7b()), "model.gguf", tmp_path)

    found = json.loads(path.read_text())
    assert path.name == "llama.cpp.json"
    assert found["models"][0]["n_ctx"] == 4096
    assert found["models"][0]["n_gpu_layers"] == -1
    assert found["models"][0]["cache"] is True
