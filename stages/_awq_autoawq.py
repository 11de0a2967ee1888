"""AWQ with AutoAWQ, which its authors no longer maintain.

Two traps, both silent. Its search for scales keeps `state_dict()[...].cpu()` as the copy that it goes back to: on a CPU
that is no copy, so that the first scales it tries stay in the weights and nothing undoes them. And the transformers it
wants reads no `rope_parameters`: see `_older_checkpoint`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages._awq import BITS, Made, Settings, first_of_layers, gemm, losses_named, refuse_shapes
from stages._older_checkpoint import as_transformers_4
from stages._saved_tensors import finite

CLIPPED_TOGETHER = 64


def quantized(folder: Path, rows: Any, settings: Settings, scratch: Path) -> Made:
    """The checkpoint, from windows of token ids of shape (n, length).

    Raises:
        Refused: a layer that it cannot group or clip, NaN or infinity in a layer.
    """
    import torch
    from awq import AutoAWQForCausalLM

    torch.set_num_threads(settings.threads)
    seen = as_transformers_4(folder, scratch / "seen")
    loaded = AutoAWQForCausalLM.from_pretrained(
        str(seen), torch_dtype=torch.float32, device_map=settings.device, trust_remote_code=False
    )
    refuse_shapes(loaded.model, settings, CLIPPED_TOGETHER)
    how = {"zero_point": True, "q_group_size": settings.group_size, "w_bit": BITS, "version": "GEMM"}
    quantizer = _with_a_copy()
    with losses_named(quantizer, loaded.model, first_of_layers):
        loaded.quantize(
            None,
            quant_config=how,
            calib_data=rows.tolist(),
            max_calib_samples=len(rows),
            max_calib_seq_len=rows.shape[1],
            n_parallel_calib_samples=8,
            quantizer_cls=quantizer,
        )
    return Made(tensors=finite(_untied(loaded.model)), told=gemm(settings))


def _with_a_copy() -> type:
    """AutoAWQ's quantizer, going back to a true copy of the weights after each try."""
    from awq.quantize.quantizer import AwqQuantizer

    class Quantizer(AwqQuantizer):  # type: ignore[misc]
        def _compute_best_scale(self, x: Any, w_mean: Any, x_mean: Any, module: Any, *rest: Any) -> Any:
            kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            module.state_dict = lambda: kept
            try:
                return super()._compute_best_scale(x, w_mean, x_mean, module, *rest)
            finally:
                del module.state_dict

    return Quantizer


def _untied(model: Any) -> dict[str, Any]:
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items() if name not in tied}
