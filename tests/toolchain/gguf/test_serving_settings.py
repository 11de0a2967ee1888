"""The settings that a plan writes for llama.cpp's server, read by the server's own classes."""

import json
from pathlib import Path

import pytest

from pipelines.planner import engine_files, hardware, reading
from pipelines.planner.planning import Question, answer
from pipelines.planner.workload import Goals, Workload

pytestmark = pytest.mark.toolchain("gguf")


def test_the_server_takes_the_settings_of_a_plan(tmp_path: Path) -> None:
    from llama_cpp.server.settings import ConfigFileSettings, ModelSettings

    question = Question(
        model=reading.read("codellama-7b"),
        hardware=hardware.find("m2-pro-16"),
        work=Workload(prompt=1000, users=1),
        goals=Goals(ttft_ms=100),
    )
    [path] = engine_files.write(answer(question), "model.gguf", tmp_path)
    given = json.loads(path.read_text())

    settings = ConfigFileSettings.model_validate(given)

    assert settings.models[0].n_ctx == 4096
    assert set(given["models"][0]) <= set(ModelSettings.model_fields)
    assert set(given) <= set(ConfigFileSettings.model_fields)
