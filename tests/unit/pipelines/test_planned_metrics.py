"""A budget goes by what the config measures, or its mistake is told before a run."""

import pytest

from configs import TASK, Folder, changed
from pipelines.checking.metrics import quality_budgets


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


@pytest.mark.parametrize(
    ("budget", "quality"),
    [("perplexity, max: 3", True), ("exact_match, min: 0.5", True), ("size_bytes, max: 3", False)],
)
def test_quality_is_demanded_or_not(folder: Folder, budget: str, quality: bool) -> None:
    assert quality_budgets(folder.parse(changed(more=f"budgets: [{{metric: {budget}}}]\n")).config) == quality
