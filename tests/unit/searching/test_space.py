"""What a space holds, and what is said of one that holds nothing."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "pipelines"))
from configs import RIGHT, Folder
from pipelines.errors import ConfigErrors
from pipelines.searching.asking import Asked, space_of
from pipelines.searching.space import checked

GGUF = RIGHT.replace("[import_gguf, gguf,", "[import_gguf, collect_imatrix, gguf,").replace(
    "split: evaluation}", "split: evaluation}\n  calibration: {builtin: python-docs, split: calibration}"
)
TYPES = "steps.quantize_gguf.type: [q6_k, q4_k_m, iq2_m]"


def space(folder: Path, search: str, text: str = GGUF):  # type: ignore[no-untyped-def]  # noqa: ANN201
    Folder(folder).config.write_text(text + search)
    return space_of(folder / "a.yaml", (), Asked())


def labels(folder: Path, search: str) -> list[str]:
    found = space(folder, search)
    return [found.label(point) for point in checked(found)]


def mistakes(folder: Path, search: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        checked(space(folder, search))
    return [text.replace(str(folder / "a.yaml"), "a.yaml") for text in caught.value.mistakes]


def test_a_point_is_a_value_for_each_path_and_those_that_cannot_run_are_none(tmp_path: Path) -> None:
    found = labels(tmp_path, f"search: {{space: {{{TYPES}, steps.collect_imatrix: [true, false]}}}}")

    assert found == [
        "q6_k, collect_imatrix", "q6_k, -collect_imatrix", "q4_k_m, collect_imatrix", "q4_k_m, -collect_imatrix",
        "iq2_m, collect_imatrix",
    ]  # fmt: skip


def test_exclusions_leave_out_combinations(tmp_path: Path) -> None:
    left_out = "exclude: [{steps.quantize_gguf.type: [q6_k, q4_k_m], steps.collect_imatrix: true}]"

    found = labels(tmp_path, f"search: {{space: {{{TYPES}, steps.collect_imatrix: [true, false]}}, {left_out}}}")

    assert found == ["q6_k, -collect_imatrix", "q4_k_m, -collect_imatrix", "iq2_m, collect_imatrix"]


def test_other_steps_stand_in_place_of_one_and_their_fields_are_left_alone_where_they_are_not(tmp_path: Path) -> None:
    other = "steps.quantize_gguf: [true, {quantize_gguf: {type: q8_0, pure: true}}, false]"
    found = space(tmp_path, f"search: {{space: {{{other}, steps.gguf.outtype: [f16, bf16]}}}}")

    steps = [[str(step.stage) for step in found.config(point).config.steps] for point in checked(found)]

    assert [len(names) for names in steps] == [4, 4, 4, 4, 3, 3]
    assert "outtype='bf16'" in steps[1][2]
    assert "pure=True" in steps[2][3]


def test_points_that_come_to_the_same_steps_are_one(tmp_path: Path) -> None:
    found = labels(tmp_path, "search: {space: {steps.quantize_gguf: [true, false], steps.quantize_gguf.type: "
                             "[q6_k, q4_k_m]}}")  # fmt: skip

    assert found == ["quantize_gguf, q6_k", "quantize_gguf, q4_k_m", "-quantize_gguf, q6_k"]


def test_a_range_is_its_values(tmp_path: Path) -> None:
    found = space(tmp_path, "search: {space: {steps.collect_imatrix.windows: {from: 16, to: 48, step: 16}}}")

    assert found.settings.space["steps.collect_imatrix.windows"] == (16, 32, 48)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("steps.quantise_gguf.type: [q6_k]", "no step `quantise_gguf`\n\nhint: did you mean `quantize_gguf`?"),
        ("steps.quantize_gguf.typ: [q6_k]", "no field `typ`\n\nhint: did you mean `type`?"),
        ("evaluation.seed: [1]", "only steps can vary"),
        ("steps.9: [true]", "there is no step 9, only 1 to 4"),
        ("steps.quantize_gguf.type: [q6_k, q9]", '"q9" is right at no point'),
        ("steps.quantize_gguf.type: [q9]", "none of its 1 points is a config that can run"),
    ],
)
def test_a_wrong_path_or_value_is_told_with_the_way_out(tmp_path: Path, given: str, said: str) -> None:
    assert said in mistakes(tmp_path, f"search: {{space: {{{given}}}}}")[0]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ("{space: {}}", "should have at least 1 item"),
        ("{space: {steps.quantize_gguf.type: []}}", "has no values: the space is empty"),
        ("{space: {steps.quantize_gguf.type: [q6_k]}, exclude: [{steps.quantize_gguf.type: q6_k}]}",
         "leaves out every point: the space is empty"),
        ("{space: {steps.quantize_gguf.type: [q6_k]}, exclude: [{steps.quantize_gguf.typ: q6_k}]}",
         "is no path of the space\n\nhint: did you mean `steps.quantize_gguf.type`?"),
        ("{space: {steps.quantize_gguf.type: [q6_k]}, objectives: [prplexity]}", "nothing measures `prplexity`"),
        ("{spce: {steps.quantize_gguf.type: [q6_k]}}", "did you mean `space`?"),
    ],
)  # fmt: skip
def test_an_empty_space_is_a_mistake(tmp_path: Path, search: str, said: str) -> None:
    assert said in "\n".join(mistakes(tmp_path, f"search: {search}"))


def test_a_config_without_a_space_says_how_to_declare_one(tmp_path: Path) -> None:
    assert "`search`: is missing" in mistakes(tmp_path, "")[0]


def test_a_space_of_its_own_file(tmp_path: Path) -> None:
    Folder(tmp_path).config.write_text(GGUF)
    (tmp_path / "space.yaml").write_text(f"space: {{{TYPES}}}\n")

    found = space_of(tmp_path / "a.yaml", (), Asked(space=tmp_path / "space.yaml", trials=3))

    assert found.settings.trials == 3
    assert len(checked(found)) == 3
