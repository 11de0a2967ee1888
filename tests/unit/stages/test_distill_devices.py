from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stages import _cuda
from stages.base import Stage
from stages.distill import Distill
from stages.distill_encoder import DistillEncoder
from stages.distill_llm import DistillLlm

ALL = pytest.mark.parametrize("stage", [Distill, DistillEncoder, DistillLlm])


@ALL
def test_a_gpu_is_missed_where_it_is_asked_for(
    stage: type[Stage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_cuda, "DEVICE_NODES", (tmp_path / "nvidia0",))
    asked = stage.model_validate({"device": "cuda"})

    reason = asked.unavailable() or ""
    assert reason.startswith("`device: cuda`, and there is no NVIDIA device here")
    assert reason.endswith("set `device: cpu`")
    assert stage().unavailable() is None
    (tmp_path / "nvidia0").touch()
    assert asked.unavailable() is None


@ALL
@pytest.mark.parametrize("fields", [{"device": "gpu"}, {"precision": "float16"}, {"micro_batch": 0}])
def test_what_there_is_none_of_is_an_error_of_the_config(stage: type[Stage], fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        stage.model_validate(fields)
