"""Steps that cannot follow each other, lack what they need, or cannot run here are told before a run."""

from pathlib import Path

import pytest

from configs import CALIBRATED, STEPS, Folder, changed
from pipelines.plan import check


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


def test_step_without_an_environment_is_told(folder: Folder, tmp_path: Path) -> None:
    environments = tmp_path / "envs"
    environments.mkdir()
    (environments / "torch.txt").write_text("")
    (environments / "ggml.txt").write_text("")

    with pytest.raises(Exception, match="no tool environment `gguf`") as caught:
        check(folder.parse(), environments)

    assert len(caught.value.mistakes) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            changed((STEPS, "[import_gguf, gguf, {quantize_gguf: {type: iq2_xs}}]")),
            "step 3 `quantize_gguf`: needs imatrix, which no step before it makes\n\n"
            "hint: put `collect_imatrix` before it",
        ),
        (
            changed((STEPS, "[import_gguf, gguf, {quantize_gguf: {type: q4_k_m, tensor_types: {ffn: iq1_s}}}]")),
            "step 3 `quantize_gguf`: needs imatrix, which no step before it makes\n\n"
            "hint: put `collect_imatrix` before it",
        ),
        (
            changed((STEPS, "[import_gguf, gguf, {quantize_gguf: {budget: {size_mb: 100}}}]")),
            "step 3 `quantize_gguf`: needs sensitivity, which no step before it makes\n\n"
            "hint: put `measure_sensitivity` before it",
        ),
        (
            changed((STEPS, "[import_gguf, collect_imatrix, gguf]")),
            "step 2 `collect_imatrix`: looks at real inputs, and there are none\n\nhint: name `data: calibration:`",
        ),
        (
            changed((STEPS, "[import_gguf, export_onnx, onnxruntime]")),
            "step 2 `export_onnx`: looks at real inputs, and there are none\n\nhint: name `data: calibration:`",
        ),
        (
            changed((STEPS, "[import_gguf, gguf, collect_imatrix, gguf]")) + CALIBRATED,
            "step 3 `collect_imatrix`: takes hf, but step 2 `gguf` gives gguf\n\nhint: put `import_gguf` before it",
        ),
        (
            changed((STEPS, "[import_gguf, collect_imatrix]")) + CALIBRATED,
            "step 2 `collect_imatrix`: is the last step: nothing would use it",
        ),
    ],
)
def test_what_a_step_needs_besides_the_model_is_looked_for(folder: Folder, text: str, message: str) -> None:
    assert folder.mistakes(text)[0] == f"a.yaml: {message}"
