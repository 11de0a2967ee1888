import json
from pathlib import Path

import pytest
import torch
from tiny_lm import loaded, logits, make, of_another_kind, run, text, trained, without_effect
from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

from stages import _kept_layers
from stages.base import Artifact, Refused
from stages.drop_layers import DropLayers


@pytest.mark.parametrize("by", ["perplexity", "kl"])
@pytest.mark.parametrize("greedy", [True, False])
def test_layers_without_effect_are_dropped_and_nothing_changes(tmp_path: Path, by: str, greedy: bool) -> None:
    source = without_effect(trained(make(tmp_path / "model")), 1, 4)
    before = logits(source)
    stage = DropLayers.model_validate({"keep": 4, "by": by, "greedy": greedy, "windows": 4, "window": 32})
    made, produced = run(stage, source, tmp_path / "out", calibration=text(tmp_path / "text"))

    assert produced.facts["kept_layers"] == [0, 2, 3, 5]
    assert produced.facts["layers"] == len(loaded(made.path).model.layers) == 4
    assert torch.allclose(logits(made), before, atol=1e-5)
    assert (made.path / "tokenizer.json").is_file()
    assert (made.path / "chat_template.jinja").is_file()


def test_the_report_compares_the_choice_with_angles_and_with_even_spacing(tmp_path: Path) -> None:
    source = without_effect(trained(make(tmp_path / "model")), 2, 3)
    stage = DropLayers(keep=4, windows=4, window=32)
    _, produced = run(stage, source, tmp_path / "out", calibration=text(tmp_path / "text"))

    rows = {row[0]: row[1:] for row in produced.tables[0].rows}
    assert rows["perplexity"][0] == "2, 3"
    assert rows["perplexity"][2] == "1.00x"
    assert rows["angular"] == rows["perplexity"]
    assert rows["uniform"][0] == "1, 4"
    assert [row[0] for row in produced.tables[1].rows] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("by", "kept"), [("uniform", [0, 2, 3, 5]), ("angular", [0, 3, 4, 5])])
def test_choices_without_a_measurement_of_their_own(tmp_path: Path, by: str, kept: list[int]) -> None:
    source = without_effect(trained(make(tmp_path / "model")), 1, 2)
    stage = DropLayers.model_validate({"keep": 4, "by": by, "windows": 4, "window": 32})
    _, produced = run(stage, source, tmp_path / "out", calibration=text(tmp_path / "text"))

    assert produced.facts["kept_layers"] == kept


def test_keeping_as_many_layers_as_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        run(DropLayers(keep=6), make(tmp_path / "model"), tmp_path / "out", calibration=text(tmp_path / "text"))

    assert caught.value.message == "the model has 6 layers: nothing to drop with `keep: 6`"


def test_a_loss_that_is_no_number_is_told_with_its_layer(tmp_path: Path) -> None:
    source = make(tmp_path / "model")
    network = loaded(source.path)
    network.model.layers[3].mlp.up_proj.weight.data[:] = float("nan")
    network.save_pretrained(source.path)

    with pytest.raises(Refused, match="the loss without layer 0 is nan"):
        run(DropLayers(keep=4, windows=4, window=32), source, tmp_path / "out", calibration=text(tmp_path / "text"))


def smollm3(folder: Path) -> Artifact:
    """Every second layer knows no positions."""
    return of_another_kind(folder, SmolLM3Config, SmolLM3ForCausalLM, no_rope_layer_interval=2)


def test_layers_keep_what_the_config_says_of_them(tmp_path: Path) -> None:
    made, produced = run(DropLayers(layers=(0, 2, 3, 5)), smollm3(tmp_path / "model"), tmp_path / "out")

    config = json.loads((made.path / "config.json").read_text())
    assert config["no_rope_layers"] == [1, 1, 0, 0]
    assert config["layer_types"] == ["full_attention"] * 4
    assert [layer.self_attn.use_rope for layer in loaded(made.path).model.layers] == [1, 1, 0, 0]
    assert produced.facts["kept_layers"] == [0, 2, 3, 5]


def test_a_model_that_is_another_once_read_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept_layers, "_is_a_layers", lambda name, *_: name == "layer_types")
    with pytest.raises(Refused) as caught:
        run(DropLayers(layers=(0, 2, 3, 5)), smollm3(tmp_path / "model"), tmp_path / "out")

    assert caught.value.message.startswith("the model of 4 layers is read back as another one: what it says is up to ")
    assert caught.value.hint.endswith("`layers: [0, 1, 2, 3]`")


def test_a_config_that_names_layers_by_number_is_refused_where_they_moved(tmp_path: Path) -> None:
    fields = {
        "mlp_only_layers": [3], "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16, "decoder_sparse_step": 1,
    }  # fmt: skip
    source = of_another_kind(tmp_path / "model", Qwen2MoeConfig, Qwen2MoeForCausalLM, **fields)
    with pytest.raises(Refused, match="the model of 4 layers cannot be read back: "):
        run(DropLayers(layers=(0, 2, 3, 5)), source, tmp_path / "moved")
    made, _ = run(DropLayers(layers=(0, 1, 2, 3)), source, tmp_path / "first")

    assert len(loaded(made.path).model.layers) == 4


def test_layers_given_by_hand_need_no_text_and_are_compared_where_there_is_some(tmp_path: Path) -> None:
    source = without_effect(trained(make(tmp_path / "model")), 1, 4)
    stage = DropLayers.model_validate({"layers": [0, 2, 3, 5], "windows": 4, "window": 32})
    bare, alone = run(stage, source, tmp_path / "bare")
    _, compared = run(stage, source, tmp_path / "compared", calibration=text(tmp_path / "text"))

    assert stage.needs() == frozenset()
    assert torch.allclose(logits(bare), logits(source), atol=1e-5)
    assert alone.tables == ()
    assert [row[:2] for row in compared.tables[0].rows[:2]] == [("(none)", "-"), ("(given)", "1, 4")]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((0, 6), "`layers` names layer 6, and the model has 6: 0 to 5"),
        (tuple(range(6)), "the model has 6 layers: nothing to drop, `layers` names them all"),
    ],
)
def test_layers_that_are_not_there_are_refused(tmp_path: Path, layers: tuple[int, ...], message: str) -> None:
    with pytest.raises(Refused) as caught:
        run(DropLayers(layers=layers), make(tmp_path / "model"), tmp_path / "out")

    assert caught.value.message == message
