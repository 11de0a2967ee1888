import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_distill_llm import distil, divergence
from tiny_lm import TEXT, loaded, logits, make, of_another_kind, run, text, trained
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from stages import _narrowed
from stages._calibration_text import CalibrationText, windows
from stages._causal_lm import load_tokenizer
from stages.base import Artifact, Context, Produced, Refused
from stages.prune_width import PruneWidth

KINDS = {
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": False}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 8, "tie_word_embeddings": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 8}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 8, "sliding_window": 16}),
}


def model_of(kind: str, folder: Path) -> Artifact:
    if kind == "llama":
        return make(folder)
    config, model, fields = KINDS[kind]
    return with_drawn_vectors(of_another_kind(folder, config, model, **fields))


def with_drawn_vectors(model: Artifact) -> Artifact:
    """Biases and norms are drawn, too: zeros and ones would hide a channel that another one took the place of."""
    network = loaded(model.path)
    torch.manual_seed(1)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.data += torch.randn_like(parameter) / 10
    network.save_pretrained(model.path)
    return model


def prune(model: Artifact, folder: Path, **fields: Any) -> tuple[Artifact, Produced]:
    stage = PruneWidth.model_validate({"windows": 4, "window": 32, **fields})
    data = text(folder.with_name(folder.name + ".text"))
    return run(stage, model, folder, calibration=data)


def config(model: Artifact) -> dict[str, Any]:
    return json.loads((model.path / "config.json").read_text())


@pytest.mark.parametrize("kind", ["llama", *KINDS])
@pytest.mark.parametrize("fields", [{"hidden": 20}, {"intermediate": 48}, {"hidden": 20, "intermediate": 48}])
def test_widths_change_and_heads_do_not(tmp_path: Path, kind: str, fields: dict[str, int]) -> None:
    source = model_of(kind, tmp_path / "model")
    made, produced = prune(source, tmp_path / "out", **fields)
    before, after = config(source), config(made)

    assert after["hidden_size"] == produced.facts["hidden"] == fields.get("hidden", 32)
    assert after["intermediate_size"] == produced.facts["intermediate"] == fields.get("intermediate", 64)
    assert after["head_dim"] == loaded(source.path).model.layers[0].self_attn.head_dim
    for name in ("num_attention_heads", "num_key_value_heads", "num_hidden_layers", "vocab_size", "architectures"):
        assert after[name] == before[name]
    assert produced.facts["parameters"] == sum(each.numel() for each in loaded(made.path).parameters())
    assert produced.facts["calibration_tokens"] == 128
    assert produced.facts["licence"] == "MIT"
    assert (made.path / "chat_template.jinja").is_file()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_the_weights_are_those_of_the_channels_used_most(tmp_path: Path, kind: str) -> None:
    source = model_of(kind, tmp_path / "model")
    made, _ = prune(source, tmp_path / "out", hidden=20, intermediate=48)
    whole, left = loaded(source.path), loaded(made.path)
    use, neurons, squares = used_by_hand(whole, source, text(tmp_path / "text"))
    kept = torch.tensor(sorted(use.argsort(descending=True)[:20].tolist()))

    assert torch.equal(left.model.embed_tokens.weight, whole.model.embed_tokens.weight[:, kept])
    assert torch.equal(left.lm_head.weight, whole.lm_head.weight[:, kept])
    for index, (old, new) in enumerate(zip(whole.model.layers, left.model.layers, strict=True)):
        ours = torch.tensor(sorted(neurons[index].argsort(descending=True)[:48].tolist()))
        for name in ("q_proj", "k_proj", "v_proj"):
            before, after = getattr(old.self_attn, name), getattr(new.self_attn, name)
            assert torch.equal(after.weight, before.weight[:, kept])
            assert after.bias is before.bias is None or torch.equal(after.bias, before.bias)
        for name in {"q_norm", "k_norm"} & set(dir(old.self_attn)):
            assert torch.equal(getattr(new.self_attn, name).weight, getattr(old.self_attn, name).weight)
        assert torch.equal(new.self_attn.o_proj.weight, old.self_attn.o_proj.weight[kept])
        assert torch.equal(new.mlp.gate_proj.weight, old.mlp.gate_proj.weight[ours][:, kept])
        assert torch.equal(new.mlp.up_proj.weight, old.mlp.up_proj.weight[ours][:, kept])
        assert torch.equal(new.mlp.down_proj.weight, old.mlp.down_proj.weight[kept][:, ours])
    for name, square in squares.items():
        ratio = (square[kept].mean() / square.mean()).sqrt()
        wanted = whole.get_submodule(name).weight[kept] * ratio
        assert torch.allclose(left.get_submodule(name).weight, wanted, rtol=1e-4)


def used_by_hand(
    network: Any, source: Artifact, data: Artifact
) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, torch.Tensor]]:
    """Magnitudes of all norms' outputs, of each layer's neurons, and squares of each norm's inputs."""
    rows = windows(CalibrationText.load(data.path), load_tokenizer(source.path), 4, 32, "")
    given: dict[str, torch.Tensor] = {}
    said: dict[str, torch.Tensor] = {}

    def hook_of(name: str) -> Any:
        def hook(_module: Any, inputs: Any, output: Any) -> None:
            given[name], said[name] = inputs[0].flatten(0, 1), output.flatten(0, 1)

        return hook

    norms = [name for name, _ in network.named_modules() if name.endswith("norm") and "self_attn" not in name]
    downs = [f"model.layers.{index}.mlp.down_proj" for index in range(6)]
    for name in (*norms, *downs):
        network.get_submodule(name).register_forward_hook(hook_of(name))
    with torch.no_grad():
        network(torch.from_numpy(rows))
    return (
        torch.stack([said[name].abs().sum(0) for name in norms]).sum(0),
        [given[name].abs().sum(0) for name in downs],
        {name: given[name].square().sum(0) for name in norms},
    )


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral"])
def test_channels_without_use_are_cut_and_the_logits_stay(tmp_path: Path, kind: str) -> None:
    source = model_of(kind, tmp_path / "model")
    network = loaded(source.path)
    dead, silent = [0, 3, 17, 31], [1, 2, 40]
    network.model.embed_tokens.weight.data[:, dead] = 0
    for layer in network.model.layers:
        layer.self_attn.o_proj.weight.data[dead] = 0
        layer.mlp.down_proj.weight.data[dead] = 0
        layer.mlp.up_proj.weight.data[silent] = 0
    network.save_pretrained(source.path)
    before = logits(source)
    made, produced = prune(source, tmp_path / "out", hidden=28, intermediate=61)

    alive = [channel for channel in range(32) if channel not in dead]
    assert torch.equal(
        loaded(made.path).model.embed_tokens.weight, loaded(source.path).model.embed_tokens.weight[:, alive]
    )
    assert torch.allclose(logits(made), before, atol=1e-3 * float(before.abs().max()))
    assert [row[4] for row in produced.tables[0].rows[:2]] == ["1.00x", "1.00x"]


def test_gemmas_embedding_takes_up_the_change_of_its_scale(tmp_path: Path) -> None:
    source = model_of("gemma2", tmp_path / "model")
    network = loaded(source.path)
    network.model.embed_tokens.weight.data[:, 30:] = 0
    for layer in network.model.layers:
        for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
            linear.weight.data[30:] = 0
    network.save_pretrained(source.path)
    made, _ = prune(source, tmp_path / "out", hidden=30)

    assert not torch.allclose(
        loaded(made.path).model.embed_tokens.weight, loaded(source.path).model.embed_tokens.weight[:, :30]
    )
    assert torch.allclose(logits(made), logits(source), atol=1e-3 * float(logits(source).abs().max()))


def test_a_llama_narrower_than_its_heads_divide_is_written_as_a_mistral(tmp_path: Path) -> None:
    made, produced = prune(make(tmp_path / "model", hidden=48, heads=3), tmp_path / "out", hidden=32)

    assert config(made)["architectures"] == ["MistralForCausalLM"]
    assert config(made)["head_dim"] == 16
    assert config(made)["sliding_window"] is None
    assert produced.notes == (
        "written as a mistral, which computes the same: transformers takes no llama whose width is no multiple of its "
        "3 heads",
    )


def test_the_report_compares_the_choice_with_the_whole_and_with_the_first_channels(tmp_path: Path) -> None:
    source = trained(make(tmp_path / "model"))
    network = loaded(source.path)
    for layer in network.model.layers:
        layer.mlp.up_proj.weight.data[:32] = 0
    network.save_pretrained(source.path)
    seen: list[tuple[float, float]] = []
    folder = tmp_path / "out"
    folder.mkdir()
    inputs = {"calibration": text(tmp_path / "text")}
    context = Context(out=folder, scratch=folder, inputs=inputs, progress=lambda *told: seen.append(told[:2]))
    produced = PruneWidth(intermediate=32, windows=4, window=32).run(source, context)

    table = produced.tables[0]
    assert [row[:3] for row in table.rows] == [
        ("(all)", "32", "64"), ("used most", "32", "32"), ("the first", "32", "32")
    ]  # fmt: skip
    whole, used, first = (float(row[3]) for row in table.rows)
    assert whole == used < first
    assert seen == [(number, 12) for number in range(1, 13)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": 40}, "`hidden: 40` is wider than the model, which has 32"),
        ({"hidden": 16, "intermediate": 65}, "`intermediate: 65` is wider than the model, which has 64"),
        ({"hidden": 32}, "nothing to narrow: the model is 32 wide and has 64 neurons a layer"),
    ],
)
def test_widths_that_are_not_smaller_are_refused(tmp_path: Path, fields: dict[str, int], message: str) -> None:
    with pytest.raises(Refused) as caught:
        prune(make(tmp_path / "model"), tmp_path / "out", **fields)

    assert caught.value.message == message


def test_a_width_that_ggml_cannot_pack_is_noted(tmp_path: Path) -> None:
    _, produced = prune(make(tmp_path / "model"), tmp_path / "out", intermediate=48)

    assert produced.notes[0].startswith("`intermediate: 48` is no multiple of 32, which the rows of ggml's")


@pytest.mark.parametrize(
    ("make_model", "why"),
    [
        (
            lambda folder: of_another_kind(
                folder, Qwen2MoeConfig, Qwen2MoeForCausalLM, num_experts=2, num_experts_per_tok=1,
                moe_intermediate_size=16, shared_expert_intermediate_size=16,
            ),
            r"Qwen2MoeForCausalLM is not of Llama's shape: `model\.layers\.0\.mlp\..*a mixture of experts",
        ),
        (
            lambda folder: of_another_kind(folder, Phi3Config, Phi3ForCausalLM),
            "Phi3ForCausalLM is not of Llama's shape: .*qkv_proj.*several matrices fused into one",
        ),
        (
            lambda folder: of_another_kind(folder, StableLmConfig, StableLmForCausalLM),
            r"StableLmForCausalLM is not of Llama's shape: `model\.layers\.0\.input_layernorm\.bias` of 32 has no",
        ),
        (lambda folder: gpt2(folder), "GPT2LMHeadModel is not of Llama's shape: its config has no `hidden_size`"),
    ],
)  # fmt: skip
def test_other_shapes_are_refused_by_name(tmp_path: Path, make_model: Any, why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        prune(make_model(tmp_path / "model"), tmp_path / "out", intermediate=32)

    assert "`drop_layers` takes any decoder" in caught.value.hint


def gpt2(folder: Path) -> Artifact:
    made = make(folder)
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2)).save_pretrained(folder)
    return made


def test_no_text_and_too_little_of_it_are_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "model")
    with pytest.raises(Refused, match="`prune_width` looks at real text, and there is none"):
        run(PruneWidth(hidden=16), source, tmp_path / "out")
    with pytest.raises(Refused, match="less than one window of 128"):
        run(PruneWidth(hidden=16), source, tmp_path / "out", calibration=text(tmp_path / "text", TEXT))


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "model")
    file = source.path / "config.json"
    file.write_text(json.dumps(config(source) | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))

    with pytest.raises(Refused, match="quantized"):
        prune(source, tmp_path / "out", hidden=16)


def test_a_model_that_is_another_once_read_back_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = _narrowed.config_of

    def other(*of: Any) -> Any:
        made = built(*of)
        made.rms_norm_eps = 1.0
        return made

    monkeypatch.setattr("stages.prune_width.config_of", other)
    with pytest.raises(Refused) as caught:
        prune(make(tmp_path / "model"), tmp_path / "out", hidden=16)

    assert caught.value.message.startswith("the model 16 wide with 64 neurons a layer is read back as another one: ")


def test_a_narrower_model_learns_from_the_whole_one(tmp_path: Path) -> None:
    teacher = trained(make(tmp_path / "model"))
    student, _ = prune(teacher, tmp_path / "narrow", hidden=16, intermediate=32)
    made, produced = distil(student, teacher, tmp_path / "out", text(tmp_path / "text"), hidden=1.0)

    assert divergence(made, teacher) < divergence(student, teacher)
    assert produced.facts["hidden"] == loaded(made.path).config.hidden_size == 16
