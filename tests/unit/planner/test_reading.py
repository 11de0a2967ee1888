"""Models and machines as they are given."""

import json
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "stages"))
from questions import decoder

from pipelines.errors import UserError
from pipelines.planner import hardware, reading
from pipelines.planner.shapes import Decoder, checked
from pipelines.planner.workload import Goals, Workload, warnings

CONFIG = {
    "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "vocab_size": 100, "tie_word_embeddings": True, "max_position_embeddings": 512,
}  # fmt: skip


def folder(tmp_path: Path, parameters: int | None = None, **changes: object) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    if parameters is not None:
        header = json.dumps({"w": {"dtype": "F16", "shape": [parameters], "data_offsets": [0, 2 * parameters]}})
        (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode())
    return tmp_path


def test_a_config_json_gives_the_shapes_without_weights(tmp_path: Path) -> None:
    model = reading.read(str(folder(tmp_path)))

    assert isinstance(model, Decoder)
    assert (model.layers, model.hidden, model.heads, model.kv_heads, model.head_dim) == (2, 64, 4, 2, 16)
    assert model.checkpoint_parameters is None
    assert model.tied


def test_shapes_that_contradict_the_checkpoint_are_refused(tmp_path: Path) -> None:
    model = reading.read(str(folder(tmp_path, parameters=100_000)))

    with pytest.raises(UserError) as caught:
        checked(model)

    assert caught.value.message == (
        f"{tmp_path.name}: its shapes give 8.045e-05 B parameters, its checkpoint holds 0.0001 B (-19.6%, at most 2% "
        "allowed)"
    )


def test_a_checkpoint_within_two_percent_is_taken(tmp_path: Path) -> None:
    assert checked(reading.read(str(folder(tmp_path, parameters=80_000)))).parameters == 80_448


def test_a_config_without_shapes_says_which(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="states no layers, ffn"):
        reading.read(str(folder(tmp_path, num_hidden_layers=None, intermediate_size=None)))


def test_shapes_by_hand() -> None:
    model = reading.read("L=32,d=4096,H=32,Hkv=8,dh=128,F=14336,V=128256")

    assert model.parameters == decoder("llama-3-8b").parameters


def test_a_misspelt_shape_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no field `layer`\n\nhint: did you mean `layers`"):
        reading.read("layer=32,d=4096,H=32,F=14336,V=128256")


def test_an_unknown_model_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        reading.read("llama-3-8")

    assert "did you mean `llama-3-8b`?" in caught.value.hint


def test_an_unknown_machine_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        hardware.find("a100")

    assert caught.value.message == "no hardware called `a100`"
    assert caught.value.hint == "did you mean `a100-40` or `a100-80`?"


def test_an_entry_without_bandwidth_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("{name: mine, memory_gb: 80, tflops: {fp16: 312}}")

    with pytest.raises(UserError) as caught:
        hardware.find(str(own))

    assert caught.value.message == f"{own}: `mine`: `bandwidth_gb_s` is missing: no plan can be made without it"
    assert caught.value.hint == "write `bandwidth_gb_s: 2039`"


def test_a_machine_of_one_s_own(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("{name: mine, kind: gpu, memory_gb: 80, bandwidth_gb_s: 2000, tflops: {fp16: 300}}")

    found = hardware.find(str(own), price=2.5)

    assert (found.memory_bytes, found.bandwidth, found.base_peak, found.price_per_hour) == (80e9, 2000e9, 300e12, 2.5)


def test_every_figure_of_the_catalogue_has_a_source_and_a_date() -> None:
    for name in hardware.names():
        for figure, source in hardware.find(name).sources.items():
            assert ", 2026-" in source, (name, figure)


def test_this_machine_is_detected() -> None:
    found = hardware.detect()

    assert found.memory_bytes > 1e8
    assert found.bandwidth > 1e8
    assert found.base_peak > 1e9


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        (Goals(ttft_ms=0.5), "ttft 0.5 ms is absurdly short: seconds given for milliseconds?"),
        (Goals(tbt_ms=0.05), "tbt 0.05 ms is absurdly short: seconds given for milliseconds?"),
        (Goals(ttft_ms=500_000), "ttft 500000 ms is absurdly long: microseconds given for milliseconds?"),
    ],
)
def test_mistaken_units_are_warned_of(goals: Goals, said: str) -> None:
    assert warnings(Workload(), goals) == [said]
    assert warnings(Workload(), Goals()) == []
