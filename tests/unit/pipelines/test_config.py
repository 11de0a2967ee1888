from pathlib import Path

import pytest

from configs import RIGHT, STEPS, Folder, changed
from pipelines.errors import ConfigErrors
from pipelines.fields.evaluation import Evaluation
from pipelines.fields.source import PathSource
from pipelines.mistakes import did_you_mean
from pipelines.parsing import parse
from pipelines.parsing_steps import LISTING
from stages._onnx_back_off import BackOff
from stages.base import names
from stages.quantize_gguf import QuantizeGguf
from stages.quantize_onnx import QuantizeOnnx
from targets.gguf import Gguf
from targets.transformers import Transformers

KNOWN = [name for name in sorted(names()) if name != "dummy"]
FORM = "hint: write `- quantize_gguf: {type: q6_k}`, with timeout_s or memory_limit_gb beside it"
TARGETS = "hint: tapeout ls targets"


def steps(items: str) -> str:
    return changed((STEPS, items))


def test_config_becomes_frozen_values_with_defaults(folder: Folder) -> None:
    config = folder.parse().config

    assert config.name == "small"
    assert config.source == PathSource(path=Path("model.gguf"))
    assert [step.name for step in config.steps] == ["import_gguf", "gguf", "quantize_gguf"]
    assert [config.steps[1].stage, config.steps[2].stage] == [Gguf(outtype="f16"), QuantizeGguf(type="q4_k_m")]
    assert config.reference == Transformers()
    assert config.evaluation == Evaluation(classification=None, latency=None)
    assert (config.seed, config.threads, config.budgets) == (0, None, ())
    assert config.model_dump(mode="json")["steps"][2]["stage"]["type"] == "q4_k_m"


def test_limits_of_a_step_stand_beside_its_stage(folder: Folder) -> None:
    step = folder.parse(changed(("{type: q4_k_m}", "{type: q4_k_m}, timeout_s: 60, memory_limit_gb: 2"))).config.steps[
        2
    ]

    assert (step.timeout_s, step.memory_limit_gb) == (60, 2)


def test_text_and_digest_are_of_the_file_and_its_overrides(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEOUT_TEST_TOKEN", "s3cret")
    text = changed(("path: model.gguf", 'path: "${env:TAPEOUT_TEST_TOKEN}.gguf"'))

    plain, overridden = folder.parse(text), folder.parse(text, ["seed=7"])

    assert plain.text == text
    assert overridden.text.startswith("# a.yaml with seed=7\n")
    assert parse_again(folder, overridden.text) == overridden.config
    assert plain.digest != overridden.digest
    assert "s3cret" not in plain.text + overridden.text


def parse_again(folder: Folder, text: str) -> object:
    return folder.parse(text).config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            changed(("import_gguf", "import_guf")),
            "step 1 `import_guf`: no stage of that name\n\nhint: did you mean `import_gguf`?   (tapeout ls stages)",
        ),
        (
            changed(("import_gguf", "fuse")),
            "step 1 `fuse`: no stage of that name\n\nhint: " + did_you_mean("fuse", KNOWN, LISTING),
        ),
        (
            changed(("type: q4_k_m", "typ: q4_k_m")),
            "step 3 `quantize_gguf`: no field `typ`\n\nhint: did you mean `type`?",
        ),
        (
            changed(("{type: q4_k_m}", "")),
            "step 3 `quantize_gguf`: `type` is missing\n\n"
            "hint: llama.cpp's mixture of types, from 8 bits a weight down to 1.6; `mixed`: what `budget` buys",
        ),
        (
            changed(("gguf, {", "{gguf: {outtype: f8}}, {")),
            "step 2 `gguf`: `outtype`: input should be 'f32', 'f16' or 'bf16' (got 'f8')\n\n"
            "hint: what the weight matrices are stored in",
        ),
        (
            changed(("{type: q4_k_m}", "q4_k_m")),
            "step 3 `quantize_gguf`: needs a mapping (got 'q4_k_m')\n\n"
            "hint: its fields: type, budget, tensor_types, output_type, token_embedding_type, pure",
        ),
        (steps("import_gguf"), "`steps`: needs a list of stages\n\nhint: tapeout ls stages"),
        (steps("{import_gguf: {}}"), "`steps`: needs a list of stages\n\nhint: tapeout ls stages"),
        (steps("[]"), "`steps`: needs a list of stages\n\nhint: tapeout ls stages"),
        (steps("[{import_gguf: {}, gguf: {}}]"), f"step 1: needs exactly one stage, found 2\n\n{FORM}"),
        (steps("[{timeout_s: 60}]"), f"step 1: needs exactly one stage, found 0\n\n{FORM}"),
        (steps("[null]"), f"step 1: needs exactly one stage, found 0\n\n{FORM}"),
        (
            changed(("{type: q4_k_m}", "{type: q4_k_m}, timeout: 60")),
            "step 3 `quantize_gguf`: no field `timeout` beside the stage\n\nhint: did you mean `timeout_s`?",
        ),
        (
            changed(("{type: q4_k_m}", "{type: q4_k_m}, pure: true")),
            "step 3 `quantize_gguf`: no field `pure` beside the stage\n\n"
            "hint: indent it: it is a field of `quantize_gguf`",
        ),
        (
            changed(("{type: q4_k_m}", "{type: q4_k_m}, timeout_s: soon")),
            "step 3 `quantize_gguf`: `timeout_s`: needs a number (got 'soon')\n\n"
            "hint: seconds until the step's worker is stopped",
        ),
        (
            changed(("{type: q4_k_m}", "{type: q4_k_m}, timeout_s: 0")),
            "step 3 `quantize_gguf`: `timeout_s`: input should be greater than 0 (got 0)\n\n"
            "hint: seconds until the step's worker is stopped",
        ),
    ],
)
def test_mistake_in_a_step_is_told_with_the_way_out(folder: Folder, text: str, message: str) -> None:
    assert folder.mistakes(text) == [f"a.yaml: {message}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(more="budget: []\n"), "no field `budget`\n\nhint: did you mean `budgets`?"),
        (
            changed(more="evaluation: {perplexity: {windoes: 3}}\n"),
            "`evaluation` `perplexity`: no field `windoes`\n\nhint: did you mean `windows`?",
        ),
        (
            changed(more="evaluation: {perplexity: {window: many}}\n"),
            "`evaluation` `perplexity`: `window`: needs a whole number (got 'many')\n\n"
            "hint: tokens a window; token 1 of each window is not predicted",
        ),
        (
            changed(more="evaluation: {perplexity: 3}\n"),
            "`evaluation`: `perplexity`: needs a mapping (got 3)\n\nhint: perplexity, top-1 agreement, KL divergence",
        ),
        (
            changed(more="evaluation: [perplexity]\n"),
            "`evaluation`: needs a mapping\n\nhint: what is measured after every stage",
        ),
        (changed(("source: {path: model.gguf}\n", "")), "`source` is missing\n\nhint: the model that goes in"),
        (
            changed(("source: {path: model.gguf}", "source: model.gguf")),
            "`source`: needs one of `package`, `path`, `hf`, `url`, `python` (got 'model.gguf')\n\n"
            "hint: the model that goes in",
        ),
        (
            changed(("path: model.gguf", "pth: model.gguf")),
            "`source`: needs one of `package`, `path`, `hf`, `url`, `python`\n\nhint: the model that goes in",
        ),
        (
            changed(("builtin: python-docs", "builtin: python-doc")),
            "`data` `evaluation`: `builtin`: input should be 'python-docs' (got 'python-doc')\n\n"
            "hint: name of the text",
        ),
        (
            changed((", split: evaluation", "")),
            "`data` `evaluation`: `split` is missing\n\nhint: the two halves share no topic",
        ),
        (
            changed(more="evaluation: {tasks: {siqa: {data: {path: model.gguf, reader: csv}}}}\n"),
            "`evaluation` `tasks` `siqa` `data`: `reader`: "
            "input should be 'text', 'jsonl', 'squad', 'multiple-choice', 'bigbench-images', 'image-folder' or 'npz' "
            "(got 'csv')\n\n"
            "hint: how documents are found in it",
        ),
        (
            changed(("name: small", "name: Not Small")),
            "`name`: string should match pattern '^[a-z0-9][a-z0-9._-]*$' (got 'Not Small')\n\n"
            "hint: of the bundle and the MLflow experiment",
        ),
        (
            changed(("name: small", "name:")),
            "`name`: needs text (got nothing)\n\nhint: of the bundle and the MLflow experiment",
        ),
        (
            changed(more="seed: -1\n"),
            "`seed`: input should be greater than or equal to 0 (got -1)\n\n"
            "hint: of every draw: bootstrap, task examples, stages",
        ),
        (
            changed(more="budgets: {metric: perplexity}\n"),
            "`budgets`: needs a list\n\nhint: what the result may lose, or must reach",
        ),
    ],
)
def test_mistake_in_a_section_is_told_with_its_place(folder: Folder, text: str, message: str) -> None:
    assert folder.mistakes(text) == [f"a.yaml: {message}"]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("quantize_gguf", f"`reference` `quantize_gguf`: a stage, but not a target\n\n{TARGETS}"),
        ("{quantize_gguf: {type: q8_0}}", f"`reference` `quantize_gguf`: a stage, but not a target\n\n{TARGETS}"),
        ("null", f"`reference`: needs one target, by its name\n\n{TARGETS}"),
        ("{gguf: {}, transformers: {}}", f"`reference`: needs one target, by its name\n\n{TARGETS}"),
        ("[gguf]", f"`reference`: needs one target, by its name\n\n{TARGETS}"),
        (
            "transformer",
            "`reference` `transformer`: no stage of that name\n\n"
            "hint: did you mean `transformers`?   (tapeout ls stages)",
        ),
        (
            "{transformers: {dtype: float16}}",
            "`reference` `transformers`: `dtype`: input should be 'float32' or 'bfloat16' (got 'float16')\n\n"
            "hint: what the weights are computed in",
        ),
    ],
)
def test_mistake_in_the_reference_is_told(folder: Folder, reference: str, message: str) -> None:
    assert folder.mistakes(changed(more=f"reference: {reference}\n")) == [f"a.yaml: {message}"]


def test_every_mistake_is_told_and_each_once(folder: Folder) -> None:
    text = """\
name: A B
source: {pth: x}
steps: [import_guf, {quantize_gguf: {typ: q8_0}}]
data: {evaluation: {builtin: python-docs}}
budgets: [{metric: perplexity}, {metric: perplexity, max: few}]
seeds: 3
"""

    assert [mistake.partition("\n")[0] for mistake in folder.mistakes(text)] == [
        "a.yaml: step 1 `import_guf`: no stage of that name",
        "a.yaml: step 2 `quantize_gguf`: no field `typ`",
        "a.yaml: `name`: string should match pattern '^[a-z0-9][a-z0-9._-]*$' (got 'A B')",
        "a.yaml: `source`: needs one of `package`, `path`, `hf`, `url`, `python`",
        "a.yaml: `data` `evaluation`: `split` is missing",
        "a.yaml: `budgets` item 1: a budget needs `max_regression`, `min` or `max`",
        "a.yaml: `budgets` item 2: `max`: needs a number (got 'few')",
        "a.yaml: no field `seeds`",
    ]


def test_file_that_is_not_there_is_told_with_an_example(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse(tmp_path / "none.yaml")

    assert str(caught.value) == (
        f"{tmp_path}/none.yaml: cannot be read: No such file or directory\n\nhint: configs/ holds examples"
    )


def test_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot be read: Is a directory"):
        parse(tmp_path)


@pytest.mark.usefixtures("permissions_hold")
def test_file_without_permission_is_told(folder: Folder) -> None:
    folder.parse()
    folder.config.chmod(0)

    with pytest.raises(ConfigErrors, match="cannot be read: Permission denied"):
        parse(folder.config)


def test_file_that_is_not_utf8_is_told(folder: Folder) -> None:
    folder.config.write_bytes(RIGHT.encode() + b"# caf\xe9\n")

    with pytest.raises(ConfigErrors, match="cannot be read: not UTF-8 text"):
        parse(folder.config)


def test_a_stage_that_can_aim_at_a_budget_is_told_of_it(folder: Folder) -> None:
    text = changed((STEPS, "[export_onnx, {quantize_onnx: {back_off: {max_float_fraction: 0.5}}}, onnxruntime]"))
    config = folder.parse(text + "budgets: [{metric: top1_agreement, min: 97%}]\n").config

    assert config.steps[1].stage == QuantizeOnnx(back_off=BackOff(max_float_fraction=0.5, min_agreement=0.97))
