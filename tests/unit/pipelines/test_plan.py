"""What a config comes to: each step in its place, who opens its artifact, which one is the reference and is judged."""

from configs import CALIBRATED, DIGITS, STEPS, Folder, changed
from targets.gguf import Gguf
from targets.transformers import Transformers


def test_plan_says_what_each_step_gives_and_who_opens_it(folder: Folder) -> None:
    plan = folder.plan()

    assert plan.source_kind == "gguf"
    assert [(step.takes, step.gives) for step in plan.steps] == [("gguf", "hf"), ("hf", "gguf"), ("gguf", "gguf")]
    assert [step.opener for step in plan.steps] == [Transformers(), Gguf(), Gguf()]
    assert plan.reference == 1
    assert [plan.measured(step) for step in plan.steps] == [False, True, True]


def test_source_itself_is_the_reference_when_the_target_opens_it(folder: Folder) -> None:
    plan = folder.plan(changed((STEPS, "[{quantize_gguf: {type: q8_0}}]"), more="reference: gguf\n"))

    assert plan.reference == 0
    assert plan.measured(plan.steps[0])


def test_artifact_is_opened_with_the_fields_of_the_nearest_target(folder: Folder) -> None:
    text = changed((STEPS, "[import_gguf, {transformers: {dtype: bfloat16}}, {gguf: {outtype: bf16}}]"))

    assert [step.opener for step in folder.plan(text).steps] == [
        Transformers(dtype="bfloat16"),
        Transformers(dtype="bfloat16"),
        Gguf(outtype="bf16"),
    ]


def test_the_model_goes_past_a_step_that_stands_beside_it(folder: Folder) -> None:
    plan = folder.plan(
        changed((STEPS, "[import_gguf, collect_imatrix, gguf, {quantize_gguf: {type: iq2_xs}}]")) + CALIBRATED
    )

    assert [step.gives for step in plan.steps] == ["hf", "imatrix", "gguf", "gguf"]
    assert [step.takes for step in plan.steps] == ["gguf", "hf", "hf", "gguf"]
    assert [plan.measured(step) for step in plan.steps] == [False, False, True, True]


def test_what_comes_before_training_is_no_reference(folder: Folder) -> None:
    (folder.path / "model.py").write_text("")

    assert folder.plan(DIGITS).reference == 1
    assert folder.plan(DIGITS.replace("train_classifier, ", "pytorch, ")).reference == 0


def test_config_without_an_artifact_for_its_reference_is_refused(folder: Folder) -> None:
    assert folder.mistakes(changed((STEPS, "[{quantize_gguf: {type: q8_0}}]"))) == [
        "a.yaml: `reference`: no artifact of this config can be its reference\n\n"
        "hint: the reference target opens hf; begin with a stage that gives it, or name another `reference`"
    ]


def test_budgets_that_nothing_would_be_judged_by_are_refused(folder: Folder) -> None:
    text = changed((STEPS, "[import_gguf]"), more="budgets: [{metric: size_bytes, max: 1 GB}]\n")

    assert folder.mistakes(text) == [
        "a.yaml: `budgets`: nothing comes after the reference that they could be judged on\n\n"
        "hint: add a stage, or leave them out"
    ]
