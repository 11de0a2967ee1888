from pathlib import Path

import pytest
import torch
from tiny_lm import loaded, logits, make, run, text, trained, without_effect

from stages.base import Refused
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
