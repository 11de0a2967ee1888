from pathlib import Path

import pytest

from configs import RIGHT, Folder, changed
from pipelines.fields import HfSource, PackageSource, PathSource, UrlSource
from pipelines.plan import check, kind_of_source, quality_budgets
from targets.gguf import Gguf
from targets.transformers import Transformers

STEPS = "[import_gguf, gguf, {quantize_gguf: {type: q4_k_m}}]"
SHA = "0" * 64
TASK = "evaluation: {tasks: {siqa: {data: {path: model.gguf, reader: multiple-choice}}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


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


@pytest.mark.parametrize(
    ("steps", "messages"),
    [
        (
            "[import_gguf, {quantize_gguf: {type: q8_0}}]",
            ["step 2 `quantize_gguf`: takes gguf, but step 1 `import_gguf` gives hf\n\nhint: put `gguf` before it"],
        ),
        ("[gguf]", ["step 1 `gguf`: takes hf, but the source gives gguf\n\nhint: put `import_gguf` before it"]),
        (
            "[gguf, gguf]",
            [
                "step 1 `gguf`: takes hf, but the source gives gguf\n\nhint: put `import_gguf` before it",
                "step 2 `gguf`: takes hf, but step 1 `gguf` gives gguf\n\nhint: put `import_gguf` before it",
            ],
        ),
        (
            "[import_gguf, dummy]",
            ["step 2 `dummy`: takes dummy, but step 1 `import_gguf` gives hf\n\nhint: no stage turns hf into dummy"],
        ),
    ],
)
def test_kinds_that_do_not_chain_are_told_with_a_bridge(folder: Folder, steps: str, messages: list[str]) -> None:
    assert folder.mistakes(changed((STEPS, steps))) == [f"a.yaml: {message}" for message in messages]


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


def test_step_without_an_environment_is_told(folder: Folder, tmp_path: Path) -> None:
    environments = tmp_path / "envs"
    environments.mkdir()
    (environments / "torch.txt").write_text("")
    (environments / "ggml.txt").write_text("")

    with pytest.raises(Exception, match="no tool environment `gguf`") as caught:
        check(folder.parse(), environments)

    assert len(caught.value.mistakes) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("{metric: perplexty, max: 3}", "no metric `perplexty`\n\nhint: did you mean `perplexity`?"),
        (
            "{metric: top1_agreement, max_regression: 2%}",
            "`max_regression`: top1_agreement already compares with the reference\n\nhint: use `min` or `max`",
        ),
        (
            "{metric: kl_divergence, max_regression: 0.1}",
            "`max_regression`: kl_divergence already compares with the reference\n\nhint: use `min` or `max`",
        ),
        ("{metric: accuracy_siqa, min: 0.3}", "accuracy_siqa is not measured: `evaluation` leaves out `tasks`"),
        (
            "{metric: ttft_p50_ms_512, max: 3}",
            "ttft_p50_ms_512 is not measured\n\nhint: did you mean `ttft_p50_ms`?   (tapeout ls metrics)",
        ),
        (
            "{metric: perplexity_512, max: 3}",
            "perplexity_512 is not measured\n\nhint: did you mean `perplexity`?   (tapeout ls metrics)",
        ),
    ],
)
def test_budget_that_cannot_be_judged_is_told(folder: Folder, budget: str, message: str) -> None:
    assert folder.mistakes(changed(more=f"budgets: [{budget}]\n")) == [f"a.yaml: `budgets` item 1: {message}"]


def test_budgets_on_parts_that_are_left_out_are_told_each(folder: Folder) -> None:
    text = changed(
        more="evaluation: {perplexity: null, speed: null}\n"
        "budgets: [{metric: perplexity, max: 3}, {metric: ttft_p50_ms, max: 3}, {metric: size_bytes, max: 1 GB}]\n"
    )

    assert folder.mistakes(text) == [
        "a.yaml: `budgets` item 1: perplexity is not measured: `evaluation` leaves out `perplexity`",
        "a.yaml: `budgets` item 2: ttft_p50_ms is not measured: `evaluation` leaves out `speed`",
    ]


def test_budget_on_a_task_that_is_called_otherwise_is_told(folder: Folder) -> None:
    text = changed(more=TASK + "budgets: [{metric: accuracy_sica, min: 30%}]\n")

    assert folder.mistakes(text) == [
        "a.yaml: `budgets` item 1: accuracy_sica is not measured\n\n"
        "hint: did you mean `accuracy_siqa`?   (tapeout ls metrics)"
    ]


def test_budgets_on_tasks_and_on_further_prompt_lengths_are_right(folder: Folder) -> None:
    text = changed(
        more=TASK.replace("{tasks", "{speed: {prompt_tokens: [64, 512]}, tasks")
        + "budgets: [{metric: accuracy_siqa, max_regression: 2%}, {metric: ttft_p50_ms_512, max: 900}]\n"
    )

    assert len(folder.plan(text).steps) == 3


def test_calibration_on_the_evaluation_text_is_refused(folder: Folder) -> None:
    text = RIGHT + "  calibration: {builtin: python-docs, split: evaluation}\n"

    assert folder.mistakes(text) == [
        "a.yaml: `data`: calibration and evaluation are the same text: the measurement would be worthless\n\n"
        "hint: give calibration the other half"
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "evaluation: {perplexity: {windows: 9, max_windows: 8}}\n",
            "`evaluation` `perplexity`: `max_windows` is less than `windows`",
        ),
        ("evaluation: {speed: {pairs: 9, max_pairs: 8}}\n", "`evaluation` `speed`: `max_pairs` is less than `pairs`"),
        (
            TASK.replace(", reader: multiple-choice", ""),
            "`evaluation` `tasks` `siqa`: needs data with the reader `multiple-choice`",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_told(folder: Folder, more: str, message: str) -> None:
    assert folder.mistakes(changed(more=more)) == [f"a.yaml: {message}"]


def test_multiple_choice_is_no_running_text(folder: Folder) -> None:
    text = changed(("{builtin: python-docs, split: evaluation}", "{path: model.gguf, reader: multiple-choice}"))

    assert folder.mistakes(text) == [
        "a.yaml: `data` `evaluation`: multiple choice is no running text\n\nhint: name it under `evaluation: tasks:`"
    ]


def test_files_that_are_not_there_are_told_with_where_paths_start(folder: Folder) -> None:
    text = changed(("model.gguf", "nope.gguf"), ("{builtin: python-docs, split: evaluation}", "{path: text.txt}"))

    assert folder.mistakes(text) == [
        f"a.yaml: `source`: `path`: no such file or folder: nope.gguf\n\nhint: relative paths start at {folder.path}",
        f"a.yaml: `data` `evaluation`: `path`: no such file: text.txt\n\nhint: relative paths start at {folder.path}",
    ]


def test_path_may_begin_at_the_users_home(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.path))
    folder.config = folder.path / "elsewhere" / "a.yaml"
    folder.config.parent.mkdir()

    assert folder.plan(changed(("model.gguf", "~/model.gguf"))).source_kind == "gguf"


def test_kind_of_a_source_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.gguf").write_text("")

    assert kind_of_source(PackageSource(package="a==1", file="b/c.gguf", sha256=SHA), tmp_path) == "gguf"
    assert kind_of_source(PathSource(path=Path("hf")), tmp_path) == "hf"
    assert kind_of_source(PathSource(path=Path("one")), tmp_path) == "gguf"
    assert kind_of_source(PathSource(path=Path("a.onnx")), tmp_path) == "onnx"
    assert kind_of_source(HfSource(hf="a/b", revision="c"), tmp_path) == "hf"
    assert kind_of_source(HfSource(hf="a/b", revision="c", files=("*Q8_0.gguf",)), tmp_path) == "gguf"
    assert kind_of_source(UrlSource(url="https://host/a.gguf?download=true", sha256=SHA), tmp_path) == "gguf"
    assert kind_of_source(UrlSource(url="https://host/folder.zip", sha256=SHA), tmp_path) == "hf"


@pytest.mark.parametrize(
    ("budget", "quality"),
    [("perplexity, max: 3", True), ("exact_match, min: 0.5", True), ("size_bytes, max: 3", False)],
)
def test_quality_is_demanded_or_not(folder: Folder, budget: str, quality: bool) -> None:
    assert quality_budgets(folder.parse(changed(more=f"budgets: [{{metric: {budget}}}]\n")).config) == quality


DIGITS = """\
name: digits
source: {python: model.py:build}
steps: [train_classifier, export_onnx, onnxruntime]
data:
  evaluation: {digits: true}
  calibration: {held_out: 20}
  training: {held_out: 100}
"""


def test_what_comes_before_training_is_no_reference(folder: Folder) -> None:
    (folder.path / "model.py").write_text("")

    assert folder.plan(DIGITS).reference == 1
    assert folder.plan(DIGITS.replace("train_classifier, ", "pytorch, ")).reference == 0


def test_training_on_what_is_measured_is_a_mistake(folder: Folder) -> None:
    (folder.path / "model.py").write_text("")

    assert folder.mistakes(DIGITS.replace("training: {held_out: 100}", "training: {digits: true}")) == [
        "a.yaml: `data`: training and evaluation are the same: the measurement would be worthless\n\n"
        "hint: use `held_out`"
    ]


def test_training_text_is_not_held_out_of_the_evaluation(folder: Folder) -> None:
    text = changed(more="  training: {held_out: 10}\n")

    assert folder.mistakes(text) == [
        "a.yaml: `data` `training`: `held_out` is for labelled images\n\nhint: name another text"
    ]


CALIBRATED = "  calibration: {builtin: python-docs, split: calibration}\n"


def steps(text: str) -> str:
    return changed((STEPS, text))


def test_the_model_goes_past_a_step_that_stands_beside_it(folder: Folder) -> None:
    plan = folder.plan(steps("[import_gguf, collect_imatrix, gguf, {quantize_gguf: {type: iq2_xs}}]") + CALIBRATED)

    assert [step.gives for step in plan.steps] == ["hf", "imatrix", "gguf", "gguf"]
    assert [step.takes for step in plan.steps] == ["gguf", "hf", "hf", "gguf"]
    assert [plan.measured(step) for step in plan.steps] == [False, False, True, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            steps("[import_gguf, gguf, {quantize_gguf: {type: iq2_xs}}]"),
            "step 3 `quantize_gguf`: needs imatrix, which no step before it makes\n\n"
            "hint: put `collect_imatrix` before it",
        ),
        (
            steps("[import_gguf, gguf, {quantize_gguf: {type: q4_k_m, tensor_types: {ffn: iq1_s}}}]"),
            "step 3 `quantize_gguf`: needs imatrix, which no step before it makes\n\n"
            "hint: put `collect_imatrix` before it",
        ),
        (
            steps("[import_gguf, gguf, {quantize_gguf: {budget: {size_mb: 100}}}]"),
            "step 3 `quantize_gguf`: needs sensitivity, which no step before it makes\n\n"
            "hint: put `measure_sensitivity` before it",
        ),
        (
            steps("[import_gguf, collect_imatrix, gguf]"),
            "step 2 `collect_imatrix`: looks at real inputs, and there are none\n\nhint: name `data: calibration:`",
        ),
        (
            steps("[import_gguf, gguf, collect_imatrix, gguf]") + CALIBRATED,
            "step 3 `collect_imatrix`: takes hf, but step 2 `gguf` gives gguf\n\nhint: put `import_gguf` before it",
        ),
        (
            steps("[import_gguf, collect_imatrix]") + CALIBRATED,
            "step 2 `collect_imatrix`: is the last step: nothing would use it",
        ),
    ],
)
def test_what_a_step_needs_besides_the_model_is_looked_for(folder: Folder, text: str, message: str) -> None:
    assert folder.mistakes(text)[0] == f"a.yaml: {message}"


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


def test_a_teacher_nobody_learns_from_is_a_mistake(folder: Folder) -> None:
    text = healed(folder, (", distill_llm]", "]\nteacher: {path: folder}"))

    assert folder.mistakes(text) == [
        "a.yaml: `teacher`: no step learns from a teacher\n\nhint: leave it out, or add `distill`"
    ]


def test_a_teacher_is_of_the_kind_that_learns_from_it(folder: Folder) -> None:
    text = healed(folder, ("steps:", f"teacher: {{url: https://x/m.gguf, sha256: '{SHA}'}}\nsteps:"))

    assert folder.mistakes(text) == ["a.yaml: `teacher`: is gguf, and `distill_llm` learns from hf"]


DRAFT = "draft: {source: {path: small.gguf}, tokens: 3}\n"


def drafted(folder: Folder, draft: str = DRAFT, *changes: tuple[str, str]) -> str:
    (folder.path / "small.gguf").write_text("a model")
    return changed(*changes, more=draft)


def test_a_draft_model_has_a_plan_of_its_own(folder: Folder) -> None:
    plain = folder.plan(drafted(folder)).draft
    made = folder.plan(drafted(folder, "draft: {steps: [import_gguf, gguf, {quantize_gguf: {type: q2_k}}]}\n")).draft

    assert plain is not None
    assert (plain.source_kind, plain.steps) == ("gguf", ())
    assert made is not None
    assert [step.gives for step in made.steps] == ["hf", "gguf", "gguf"]


@pytest.mark.parametrize(
    ("draft", "changes", "mistakes"),
    [
        (
            "draft: {steps: [import_gguf]}\n",
            [],
            ["`draft`: is hf, and `gguf` drafts with gguf\n\nhint: let its `steps` end in gguf"],
        ),
        (
            "draft: {steps: [gguf]}\n",
            [],
            ["`draft` step 1 `gguf`: takes hf, but the source gives gguf\n\nhint: put `import_gguf` before it"],
        ),
        (
            "draft: {steps: [import_guf]}\n",
            [],
            [
                "`draft` step 1 `import_guf`: no stage of that name\n\n"
                "hint: did you mean `import_gguf`?   (tapeout ls stages)"
            ],
        ),
        (
            "draft: {source: {path: gone.gguf}}\n",
            [],
            ["`draft` `source`: `path`: no such file or folder: gone.gguf"],
        ),
        (
            DRAFT,
            [(STEPS, "[import_gguf, transformers]")],
            ["`draft`: what opens hf here takes no draft model\n\nhint: of the runtimes here `gguf` does"],
        ),
        (
            DRAFT + "evaluation: {speed: null}\n",
            [],
            ["`draft`: its gain is not measured: `evaluation` leaves out `speed`"],
        ),
        (
            "draft: {steps: [import_gguf, distill_llm, gguf]}\n",
            [],
            ["`draft` step 2 `distill_llm`: trains on data, and there are none\n\nhint: name `data: training:`"],
        ),
        ("draft: {tokens: 0}\n", [], ["`draft`: `tokens`: input should be greater than or equal to 1 (got 0)"]),
    ],
)
def test_a_draft_that_cannot_be_one_is_a_mistake(
    folder: Folder, draft: str, changes: list[tuple[str, str]], mistakes: list[str]
) -> None:
    found = folder.mistakes(drafted(folder, draft, *changes))

    assert [mistake.removeprefix("a.yaml: ").partition("\n\nhint: tokens")[0] for mistake in found] == mistakes


def test_its_metrics_are_budgets_only_with_a_draft(folder: Folder) -> None:
    budget = "budgets: [{metric: draft_speedup, min: 1.1}]\n"

    assert folder.plan(drafted(folder, DRAFT + budget)).gated
    (mistake,) = folder.mistakes(changed(more=budget))
    assert "draft_speedup is not measured" in mistake
