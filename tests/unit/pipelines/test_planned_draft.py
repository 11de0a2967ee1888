"""A draft model has a plan of its own, and is told before a run if it cannot be one."""

import pytest

from configs import STEPS, Folder, changed

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
