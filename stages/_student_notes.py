"""What a reader must know of a student: how its training went, whether it learnt at all, whether it is smaller."""

from __future__ import annotations

from pathlib import Path

from stages._looks import Fit


def notes_of(fitted: Fit, parameters: int, teachers: int) -> tuple[str, ...]:
    """Of a training, and of the parameters of both models."""
    notes = list(fitted.notes())
    if fitted.best == 0:
        notes.append(
            "no step improved on the start by what is held out: the weights are those that training began with; "
            "another `learning_rate`, more steps or more data may help"
        )
    if parameters >= teachers:
        notes.append(f"the student is not smaller than its teacher: {parameters:,} parameters against {teachers:,}")
    return tuple(notes)


def parameters_of(folder: Path) -> int:
    """Of a language model's folder, by its config; tied ones count once. No weights are read."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=False))
    return int(sum(weights.numel() for weights in built.parameters()))
