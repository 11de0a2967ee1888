"""Fields that a backend cannot do, and the environment that each asks for."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from stages import _cuda
from stages.base import Artifact, Context, Refused, Stage
from stages.quantize_awq import QuantizeAwq
from stages.quantize_gptq import QuantizeGptq
from stages.scale_channels import ScaleChannels


def test_each_backend_asks_for_its_environment() -> None:
    assert QuantizeAwq().environment == QuantizeGptq().environment == "gptq"
    assert QuantizeAwq(backend="llmcompressor").environment == "llmcompressor"
    assert QuantizeGptq(backend="auto_gptq").environment == "auto_gptq"


def test_autoawq_takes_no_symmetric_groups() -> None:
    with pytest.raises(ValidationError, match="`backend: autoawq` packs no symmetric groups: set `symmetric: false`"):
        QuantizeAwq(backend="autoawq")


def test_rounding_is_of_one_backend() -> None:
    with pytest.raises(ValidationError, match="`method: rtn` is of `backend: gptqmodel`"):
        QuantizeGptq(backend="auto_gptq", method="rtn")


def test_auto_gptq_says_that_it_needs_cuda_and_what_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cuda, "DEVICE_NODES", ())

    reason = QuantizeGptq(backend="auto_gptq").unavailable()

    assert reason is not None
    assert reason.startswith("`backend: auto_gptq` quantizes on CUDA alone, and there is no NVIDIA device here")
    assert reason.endswith("`backend: gptqmodel` runs on any CPU")
    assert QuantizeGptq().unavailable() is None


@pytest.mark.parametrize("stage", [QuantizeGptq, QuantizeAwq, ScaleChannels])
def test_cuda_that_is_asked_for_where_there_is_none_is_said_before_the_run(
    stage: type[Stage], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_cuda, "DEVICE_NODES", (tmp_path / "nvidia0",))
    asked = stage.model_validate({"device": "cuda"})

    reason = asked.unavailable()

    assert reason is not None
    assert reason.startswith("`device: cuda`, and there is no NVIDIA device here")
    assert reason.endswith("set `device: cpu`")
    assert stage().unavailable() is None
    (tmp_path / "nvidia0").touch()
    assert asked.unavailable() is None


@pytest.mark.parametrize("size", [-2, 0, 1, 15])
@pytest.mark.parametrize("stage", [QuantizeGptq, QuantizeAwq])
def test_groups_that_no_kernel_takes_are_an_error_of_the_config(stage: type[Stage], size: int) -> None:
    with pytest.raises(ValidationError, match="group_size"):
        stage.model_validate({"group_size": size})


def test_gptq_takes_a_whole_row_as_a_group_and_says_so() -> None:
    assert QuantizeGptq(group_size=-1).group_size == -1
    with pytest.raises(ValidationError, match="groups of 0: GPTQ's kernels take 16 and more, or -1 for a whole row"):
        QuantizeGptq(group_size=0)


@pytest.mark.parametrize(
    "fields", [{"gptaq": True}, {"scale_search": 2.4}, {"device": "cpu"}, {"bits": 5}, {"method": "rtn"}]
)
def test_what_auto_gptq_would_pass_over_is_an_error_of_the_config(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=rf"`{next(iter(fields))}.*` is of `backend: gptqmodel`"):
        QuantizeGptq.model_validate({"backend": "auto_gptq", **fields})


def test_auto_gptqs_fields_say_what_it_does_and_survive_json() -> None:
    stage = QuantizeGptq(backend="auto_gptq")

    assert (stage.gptaq, stage.scale_search, stage.device) == (False, 0.0, "cuda")
    assert QuantizeGptq.model_validate_json(stage.model_dump_json()) == stage


def test_auto_gptq_refuses_a_group_size_before_it_starts(tmp_path: Path) -> None:
    shapes = {"model.embed_tokens.weight": [97, 8], "model.layers.0.mlp.up_proj.weight": [64, 96]}
    header = {name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    head = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(Refused) as caught:
        QuantizeGptq(backend="auto_gptq").run(
            Artifact(kind="hf", path=tmp_path, digest="0"), Context(out=tmp_path, scratch=tmp_path)
        )

    assert caught.value.message == "`model.layers.0.mlp.up_proj` has 96 inputs, which groups of 64 do not divide"
