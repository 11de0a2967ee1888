import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import inputs, killed
from tiny_nets import CLASSES, SIZE, module

from pipelines.requests import MESSAGES, Answer, Learnt, RunRequest
from stages._distill_images import Sets
from stages._examples import Examples, Preprocess
from stages._torch_model import called, load
from stages.base import Artifact, Context, Produced, Refused
from stages.distill import Distill
from stages.train_classifier import TrainClassifier
from tests.toolchain.workers import drawn_step, ended, killed_at, worker

SMALL = {"steps": 60, "batch": 16, "held_out": 12, "learning_rate": 0.01, "validate_every": 10, "checkpoint_every": 7}
STUDENTS = """

def student(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
                                    nn.Linear(36, 5))
class Twice(nn.Module):
    def forward(self, x): return x, x
class First(nn.Module):
    def forward(self, x): return x[0]
def pairs(): return nn.Sequential(nn.Conv2d(3, 4, 3), Twice(), First(), nn.Flatten(), nn.Linear(400, 5))
def other(): return nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 7))
"""


def examples(folder: Path) -> Artifact:
    """Noise with a bright corner, whose class is which; the last class has a bright middle."""
    folder.mkdir()
    labels = np.arange(96) % CLASSES
    pixels = np.random.default_rng(0).integers(0, 8, (96, SIZE, SIZE, 3)).astype(np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        down, right = (4, 4) if label == 4 else (8 * (label // 2), 8 * (label % 2))
        image[down : down + 4, right : right + 4] += 12
    Examples(pixels, labels, Preprocess(scale=0.1)).save(folder)
    return Artifact(kind="examples", path=folder, digest="0")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    """A teacher that learnt from every label, and the images."""
    folder = tmp_path_factory.mktemp("given")
    source, data = module(folder / "torch"), examples(folder / "examples")
    (source.path / "model.py").write_text((source.path / "model.py").read_text() + STUDENTS)
    (folder / "teacher").mkdir()
    context = Context(out=folder / "teacher", scratch=folder, inputs={"training": data})
    TrainClassifier(epochs=30, learning_rate=0.01).run(source, context)
    return Artifact(kind="torch", path=folder / "teacher", digest="0"), data


def distil(given: tuple[Artifact, Artifact], out: Path, seed: int = 0, **fields: Any) -> tuple[Artifact, Produced]:
    teacher, data = given
    out.mkdir(exist_ok=True)
    scratch = out.with_name(out.name + ".scratch")
    stage = Distill.model_validate({**SMALL, "student": "model.py:student", **fields})
    inputs = {"teacher": teacher, "training": data}
    produced = stage.run(teacher, Context(out=out, scratch=scratch, seed=seed, inputs=inputs))
    return Artifact(kind="torch", path=out, digest="0", facts=produced.facts), produced


def agreement(model: Artifact, given: tuple[Artifact, Artifact]) -> float:
    teacher, data = given
    ours, theirs = (next(iter(called(load(each.path), inputs(data)).values())).argmax(1) for each in (model, teacher))
    return float((ours == theirs).mean())


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"divergence": "reverse"},
        {"labels": 1.0, "labelled": 16, "augmentation": {"shift": 1, "mirror": True, "noise": 0.1, "mix": 1.0}},
        {"hidden": 1.0, "attention": 1.0, "layers": {"1": "1"}, "steps": 200},
    ],
)
def test_a_student_learns_the_teachers_answers(
    tmp_path: Path, given: tuple[Artifact, Artifact], fields: dict[str, Any]
) -> None:
    made, produced = distil(given, tmp_path / "out", **fields)

    assert agreement(made, given) > 0.8
    assert produced.facts["parameters"] == 297
    assert json.loads((made.path / "model.json").read_text())["entry"] == "model.py:student"
    assert produced.facts["distillation"]["labels"] == fields.get("labelled", 0)


def test_worker_tells_of_losses_with_their_steps_and_again_when_it_goes_on(
    tmp_path: Path, given: tuple[Artifact, Artifact]
) -> None:
    teacher, data = given
    folders = {name: tmp_path / name for name in ("out", "scratch", "outliving")}
    for folder in folders.values():
        folder.mkdir()
    stage = Distill.model_validate({**SMALL, "student": "model.py:student"})
    fields, inputs = stage.model_dump(mode="json"), {"teacher": teacher, "training": data}
    request = RunRequest(stage="distill", fields=fields, model=teacher, inputs=inputs, **folders)
    first = told(request, tmp_path)
    shutil.rmtree(folders["out"])
    folders["out"].mkdir()
    again = told(request, tmp_path)

    assert [step for step, values in first if "train_loss" in values] == [*range(1, 61)]
    looks = [(step, values) for step, values in first if "held_out_loss" in values]
    assert [step for step, _ in looks] == [*range(0, 61, 10)]
    assert looks[-1][1].keys() == {"mean_train_loss", "held_out_loss", "held_out_wrong_answers"}
    assert [point for point in again if point in looks] == looks
    assert [step for step, values in again if "train_loss" in values] == [*range(57, 61)]


def told(request: RunRequest, folder: Path) -> list[tuple[int, dict[str, float]]]:
    """What a worker in a process of its own says of its training."""
    (folder / "request.json").write_text(request.model_dump_json())
    command = [sys.executable, "-m", "pipelines.worker", "run", str(folder / "request.json")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as worker:
        assert worker.stdout is not None
        messages = [MESSAGES.validate_json(line) for line in worker.stdout]
    assert isinstance(messages[-1], Answer)
    return [(each.step, each.values) for each in messages if isinstance(each, Learnt)]


def test_without_labels_or_teacher_of_its_own_nothing_is_learnt(given: tuple[Artifact, Artifact]) -> None:
    with pytest.raises(ValueError, match="every weight is 0"):
        Distill(logits=0)


def test_labels_alone_are_those_that_may_be_looked_at(tmp_path: Path, given: tuple[Artifact, Artifact]) -> None:
    teacher, data = given
    held = Examples.load(data.path)
    rows = Sets.drawn(len(held), held_out=12, labelled=16, batch=16).labelled
    wrong = held.labels.copy()
    wrong[np.setdiff1d(np.arange(len(held)), rows)] = 0
    (tmp_path / "other").mkdir()
    Examples(held.pixels, wrong, held.preprocess).save(tmp_path / "other")
    other = Artifact(kind="examples", path=tmp_path / "other", digest="1")
    fields = {"logits": 0, "labels": 1, "labelled": 16}
    first, _ = distil(given, tmp_path / "first", **fields)
    second, _ = distil((teacher, other), tmp_path / "second", **fields)

    assert (first.path / "state.safetensors").read_bytes() == (second.path / "state.safetensors").read_bytes()


def test_the_module_as_it_comes_is_taught_where_no_student_is_named(
    tmp_path: Path, given: tuple[Artifact, Artifact]
) -> None:
    made, produced = distil(given, tmp_path / "out", student=None, steps=5)

    assert agreement(made, given) > 0.9
    assert produced.notes[-1].startswith("the student is not smaller than its teacher: ")


@pytest.mark.parametrize("killed_at", [3, 20, 41])
def test_killed_and_resumed_the_weights_are_the_same_bytes(
    tmp_path: Path, given: tuple[Artifact, Artifact], killed_at: int
) -> None:
    fields = {"augmentation": {"shift": 1, "mix": 1.0}}
    whole, _ = distil(given, tmp_path / "whole", **fields)
    with killed(killed_at):
        distil(given, tmp_path / "again", **fields)
    again, _ = distil(given, tmp_path / "again", **fields)

    assert (whole.path / "state.safetensors").read_bytes() == (again.path / "state.safetensors").read_bytes()


def test_a_worker_killed_at_any_step_goes_on_to_the_same_bytes(
    tmp_path: Path, given: tuple[Artifact, Artifact]
) -> None:
    teacher, data = given
    fields = {**SMALL, "student": "model.py:student", "steps": 200, "augmentation": {"shift": 1, "mix": 1.0}}
    inputs = {"model": teacher, "teacher": teacher, "training": data}
    with worker(tmp_path / "again", "distill", fields, **inputs) as process:
        killed_at(process, drawn_step(150))
    for name in ("again", "whole"):
        with worker(tmp_path / name, "distill", fields, **inputs) as process:
            assert ended(process)["message"] == "answer"

    files = [(tmp_path / name / "out" / "state.safetensors").read_bytes() for name in ("again", "whole")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"held_out": 90}, "96 training images: 90 held out and what is asked for need 106"),
        ({"labelled": 90}, "96 training images: 12 held out and what is asked for need 102"),
        ({"student": "model.py:other"}, "the student gives scores of shape (7,) an image, the teacher (5,)"),
        ({"hidden": 1.0, "layers": {"nowhere": "2"}}, "`layers`: the student has no `nowhere`"),
        (
            {"hidden": 1.0, "layers": {"1": "3"}},
            "`layers`: the student's `1` gives 4 x 10 x 10 an image, the teacher's `3` 8 x 5 x 5",
        ),
        (
            {"attention": 1.0, "layers": {"2": "3"}},
            "`layers`: the student's `2` gives 4 x 3 x 3 an image, the teacher's `3` 8 x 5 x 5",
        ),
        (
            {"attention": 1.0, "layers": {"3": "7"}},
            "`layers`: the student's `3` gives 36 an image: no map to attend to",
        ),
        (
            {"hidden": 1.0, "layers": {"1": "1"}, "student": "model.py:pairs"},
            "`layers`: the student's `1` gives a tuple, and one tensor is compared",
        ),
        ({"learning_rate": 1e30}, "training diverged at step 2 before anything was better than the start"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    tmp_path: Path, given: tuple[Artifact, Artifact], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused) as caught:
        distil(given, tmp_path / "out", **fields)

    assert caught.value.message == message
