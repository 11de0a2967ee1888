"""Steps that learn: what they win back is judged after them, and they need a teacher and text that suit."""

from configs import Folder

SHA = "0" * 64
HEALED = """name: healed
source: {path: folder}
steps: [{drop_layers: {keep: 2}}, distill_llm]
data:
  evaluation: {builtin: python-docs, split: evaluation}
  calibration: {path: text.txt}
  training: {path: text.txt}
"""


def healed(folder: Folder, *changes: tuple[str, str]) -> str:
    (folder.path / "folder").mkdir()
    (folder.path / "text.txt").write_text("text")
    text = HEALED
    for old, new in changes:
        text = text.replace(old, new)
    return text


def test_what_a_later_step_heals_is_measured_and_not_judged(folder: Folder) -> None:
    plan = folder.plan(healed(folder))

    assert [plan.measured(step) for step in plan.steps] == [True, True]
    assert [plan.judged(step) for step in plan.steps] == [False, True]


def test_learning_needs_text_to_train_on(folder: Folder) -> None:
    text = healed(folder, ("  training: {path: text.txt}\n", ""))

    assert folder.mistakes(text) == [
        "a.yaml: step 2 `distill_llm`: trains on data, and there are none\n\nhint: name `data: training:`"
    ]


def test_layers_named_by_hand_need_no_text_to_choose_by(folder: Folder) -> None:
    text = healed(folder, ("keep: 2", "layers: [0, 1]"), ("  calibration: {path: text.txt}\n", ""))

    assert [each.step.name for each in folder.plan(text).steps] == ["drop_layers", "distill_llm"]


def test_a_teacher_nobody_learns_from_is_a_mistake(folder: Folder) -> None:
    text = healed(folder, (", distill_llm]", "]\nteacher: {path: folder}"))

    assert folder.mistakes(text) == [
        "a.yaml: `teacher`: no step learns from a teacher\n\nhint: leave it out, or add `distill`"
    ]


def test_a_teacher_is_of_the_kind_that_learns_from_it(folder: Folder) -> None:
    text = healed(folder, ("steps:", f"teacher: {{url: https://x/m.gguf, sha256: '{SHA}'}}\nsteps:"))

    assert folder.mistakes(text) == ["a.yaml: `teacher`: is gguf, and `distill_llm` learns from hf"]
