"""Decoders whose layers are called in different ways, walked layer by layer, and those that cannot be walked."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3nTextConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    SmolLM3Config,
)

from stages._decoder_layers import layers_of
from stages._gptq_walk import refuse_stacked
from stages.base import Refused

SHAPE = {
    "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "initializer_range": 0.2,
}  # fmt: skip
BOTH = ["sliding_attention", "full_attention"] * 2
DECODERS = {
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, sliding_window=8, layer_types=BOTH),
    "qwen2": lambda: Qwen2Config(**SHAPE, sliding_window=8, use_sliding_window=True, layer_types=BOTH),
    "smollm3": lambda: SmolLM3Config(**SHAPE, no_rope_layers=[1, 0, 1, 0]),
    "llama": lambda: LlamaConfig(**SHAPE),
}
ROWS = np.random.default_rng(0).integers(3, 97, (3, 32))


def decoder(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).float().eval()


@pytest.mark.parametrize("name", DECODERS)
def test_walked_layer_by_layer_a_decoder_gives_its_own_hidden_states(name: str) -> None:
    model = decoder(DECODERS[name]())
    with torch.inference_mode():
        layers, hidden = layers_of(model, ROWS)
        for number in range(len(layers.blocks)):
            hidden = torch.cat([layers.forward(number, window[None]) for window in hidden])
        wanted = model.model(torch.from_numpy(ROWS), use_cache=False).last_hidden_state

        torch.testing.assert_close(model.model.norm(hidden), wanted, rtol=1e-5, atol=1e-5)


def test_layers_that_attend_alike_share_one_mask() -> None:
    with torch.inference_mode():
        layers, _ = layers_of(decoder(DECODERS["gemma3"]()), ROWS)

    sliding, full, again, _ = (each.named["position_embeddings"][0] for each in layers.arguments)
    assert sliding is again
    assert not torch.equal(sliding, full)


class Expert(torch.nn.Module):
    """A Linear layer that sees the first half of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(64, 64)

    def forward(self, hidden: Any) -> Any:
        return torch.cat([self.up(hidden[0, :16]), hidden[0, 16:]])[None]


def test_an_expert_that_does_not_see_every_token_is_refused_by_its_name() -> None:
    model = decoder(DECODERS["llama"]())
    model.model.layers[1].mlp = Expert()
    with torch.inference_mode():
        layers, hidden = layers_of(model, ROWS)
        with pytest.raises(Refused) as caught:
            layers.sharing(1, hidden[:1])

    assert caught.value.message == "`model.layers.1.mlp.up` sees 16 of the 32 tokens of a calibration window"


def test_layers_that_are_given_more_than_hidden_states_are_refused() -> None:
    config = Gemma3nTextConfig(
        **{**SHAPE, "intermediate_size": [96] * 4}, vocab_size_per_layer_input=97, hidden_size_per_layer_input=8,
        laurel_rank=4, altup_num_inputs=2, num_kv_shared_layers=0, sliding_window=8, layer_types=BOTH,
        activation_sparsity_pattern=[0.0] * 4,
    )  # fmt: skip
    with torch.inference_mode(), pytest.raises(Refused, match="gives its layers more of each window than hidden"):
        layers_of(decoder(config), ROWS)


def test_experts_held_together_are_refused_by_their_name() -> None:
    with torch.inference_mode():
        layers, _ = layers_of(decoder(MixtralConfig(**SHAPE, num_local_experts=3)), ROWS)
        with pytest.raises(Refused, match=r"^layer 0: `mlp\.experts\.gate_up_proj` holds 3 experts"):
            refuse_stacked(layers)
