"""Steps in several calls, in bfloat16, and on a device that is not there: images and texts."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import killed
from test_distill import distil as of_images
from test_distill import given as images
from test_distill_encoder import distil as of_texts
from test_distill_encoder import given as texts

from stages._calls import Calls
from stages._distill_embeddings import EmbeddingWork
from stages._distill_images import Sets
from stages._distill_images import given as shown
from stages._examples import Examples
from stages._tokens import Tokens
from stages._torch_model import load
from stages.base import Artifact, Produced, Refused
from stages.distill import Distill

Pair = tuple[Artifact, Artifact]
Teaching = Callable[..., tuple[Artifact, Produced]]
BOTH = pytest.mark.parametrize(
    ("distil", "teaching", "file"),
    [(of_images, "images", "state.safetensors"), (of_texts, "texts", "model.safetensors")],
)
FURTHER = """

class Put(nn.Module):
    def forward(self, x):
        return torch.zeros_like(x).put_(torch.arange(x.numel()), x.flatten()) if self.training else x
def put(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 5), Put())
"""
__all__ = ["images", "texts"]


def gradients(module: Any, work: Any) -> tuple[float, list[torch.Tensor]]:
    loss = work.backward(3)
    return loss, [weights.grad for weights in module.parameters() if weights.grad is not None]


def of_a_step(pair: Pair, fields: dict[str, Any], calls: Calls) -> tuple[float, list[torch.Tensor]]:
    """Of a student of images without BatchNorm, each time the same one."""
    teacher, examples = load(pair[0].path), Examples.load(pair[1].path)
    torch.manual_seed(0)
    student = load(pair[0].path, "model.py:student")
    stage = Distill.model_validate({"batch": 16, **fields})
    features = stage._features(student, teacher, shown(examples, np.arange(2)))
    sets = Sets.drawn(len(examples), 12, stage.labelled, 16)
    learning = torch.nn.ModuleList([student, *([features.projections] if features else [])])
    return gradients(learning, stage._work(student, teacher, examples, sets, features, calls, seed=0))


def of_a_step_of_texts(pair: Pair, hidden: float, calls: Calls) -> tuple[float, list[torch.Tensor]]:
    teacher, tokens = load(pair[0].path), Tokens.load(pair[1].path)
    student = copy.deepcopy(teacher)
    for name, weights in student.named_parameters():
        weights.data += 0.1 * torch.sin(torch.arange(weights.numel()).view_as(weights) + len(name))
    for each in student.modules():
        if isinstance(each, torch.nn.Dropout):
            each.p = 0.0  # drawn once a call
    rows = np.arange(50)
    work = EmbeddingWork(student, teacher, tokens, rows, rows[:4], ((2, 2), (4, 4)), 1.0, hidden, 16, 0, calls)
    return gradients(student, work)


def alike(one: tuple[float, list[torch.Tensor]], other: tuple[float, list[torch.Tensor]], rounding: float) -> bool:
    assert len(one[1]) == len(other[1]) > 0
    largest = max(float(each.abs().max()) for each in one[1])
    far = max(float((mine - its).abs().max()) for mine, its in zip(one[1], other[1], strict=True))
    return far < rounding * largest and abs(one[0] - other[0]) < rounding * abs(one[0])


@pytest.mark.parametrize("most", [1, 5, 16])
@pytest.mark.parametrize(
    "fields",
    [
        {"augmentation": {"shift": 1, "mirror": True, "noise": 0.1, "mix": 1.0}},
        {"labels": 0.5, "labelled": 7},
        {"logits": 0, "hidden": 1.0, "attention": 1.0, "layers": {"1": "1"}, "augmentation": {"noise": 3.0}},
    ],
)
def test_calls_of_some_images_add_up_to_the_step(images: Pair, fields: dict[str, Any], most: int) -> None:
    whole, parts = (of_a_step(images, fields, Calls(most=each)) for each in (None, most))

    assert alike(whole, parts, 1e-5)
    assert (whole[0] == parts[0]) or most < 16


@pytest.mark.parametrize("most", [1, 5, 16])
@pytest.mark.parametrize("hidden", [0.0, 2.0])
def test_calls_of_some_texts_add_up_to_the_step(texts: Pair, hidden: float, most: int) -> None:
    whole, parts = (of_a_step_of_texts(texts, hidden, Calls(most=each)) for each in (None, most))

    assert alike(whole, parts, 1e-5)
    assert (whole[0] == parts[0]) or most < 16


def test_bfloat16_is_near_float32_and_another(images: Pair, texts: Pair) -> None:
    fields = {"labels": 0.5, "hidden": 1.0, "layers": {"1": "1"}}
    for step in (
        [of_a_step(images, fields, Calls(precision=each)) for each in ("float32", "bfloat16")],
        [of_a_step_of_texts(texts, 1.0, Calls(precision=each)) for each in ("float32", "bfloat16")],
    ):
        assert alike(*step, 0.1)
        assert not alike(*step, 1e-4)
        assert all(each.dtype is torch.float32 for each in step[1][1])


@BOTH
def test_what_is_learnt_in_bfloat16_and_parts_is_nearer_and_resumes_to_the_same_bytes(
    tmp_path: Path, request: pytest.FixtureRequest, distil: Teaching, teaching: str, file: str
) -> None:
    pair, fields = request.getfixturevalue(teaching), {"precision": "bfloat16", "micro_batch": 6, "device": "cpu"}
    whole, produced = distil(pair, tmp_path / "whole", **fields)
    with killed(37):
        distil(pair, tmp_path / "again", **fields)
    again, _ = distil(pair, tmp_path / "again", **fields)

    rows = [[float(row[2]), float(row[3])] for row in produced.tables[0].rows]
    assert min(rows)[1] < 0.5 * rows[0][1]
    assert produced.facts["precision"] == "float32"
    assert (whole.path / file).read_bytes() == (again.path / file).read_bytes()


@BOTH
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_torch_does_not_find_is_refused(
    tmp_path: Path, request: pytest.FixtureRequest, distil: Teaching, teaching: str, file: str
) -> None:
    with pytest.raises(Refused) as caught:
        distil(request.getfixturevalue(teaching), tmp_path / "out", device="cuda")

    assert caught.value.message == "`device: cuda`: this build of torch finds no GPU"
    assert caught.value.hint == "leave `device` out, or use Dockerfile.cuda"


def test_batchnorm_is_shown_no_image_alone(tmp_path: Path, images: Pair) -> None:
    with pytest.raises(Refused) as caught:
        of_images(images, tmp_path / "out", student=None, micro_batch=5)
    of_images(images, tmp_path / "four", student=None, micro_batch=4, steps=2)
    of_images(images, tmp_path / "without", micro_batch=5, steps=2)

    message = "`micro_batch: 5` shows one of 16 images alone: BatchNorm takes the spread of several"
    assert caught.value.message == message


def test_what_torch_cannot_repeat_is_refused_by_name(tmp_path: Path, images: Pair) -> None:
    with (images[0].path / "model.py").open("a") as file:
        file.write(FURTHER)
    with pytest.raises(Refused) as caught:
        of_images(images, tmp_path / "out", student="model.py:put")

    assert caught.value.message == "this training cannot be repeated: torch has no deterministic `put_`"
    assert "`device: cpu`" in (caught.value.hint or "")
