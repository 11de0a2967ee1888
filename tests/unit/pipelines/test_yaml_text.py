import pytest

from configs import RIGHT, Folder, changed
from pipelines import yaml_text
from pipelines.errors import ConfigErrors

TWO = changed(("gguf, {", "gguf, {quantize_gguf: {type: q8_0}}, {"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RIGHT + "name: other\n", "a.yaml:6: key `name` is given twice"),
        ("a: {b: 1, c: {d: 1, d: 2}}\n", "a.yaml:1: key `d` is given twice"),
        ("name: [a\nb: c\n", "a.yaml:2: expected ',' or ']', but got ':'"),
        ("name: a\n\tb: c\n", "a.yaml:2: found character '\\t' that cannot start any token"),
        ("a: 1\n1: 2\n", "a.yaml:2: a key must be text"),
        ("a: 1\n? [b]\n: 2\n", "a.yaml:2: a key must be text"),
        (
            "a: !!python/object/apply:os.getcwd []\n",
            "a.yaml:1: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'",
        ),
        ("a: \0\n", "a.yaml: not YAML: unacceptable character #x0000: special characters are not allowed"),
        ("a: " + "[" * 3000, "a.yaml: nested too deeply"),
    ],
)
def test_text_that_is_no_yaml_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        yaml_text.load(text, "a.yaml")

    assert caught.value.mistakes == [message]


@pytest.mark.parametrize("text", ["", "# a comment\n", "- a\n- b\n", "just words\n", "3\n"])
def test_text_that_is_no_mapping_is_told_what_a_config_needs(text: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        yaml_text.load(text, "a.yaml")

    assert caught.value.mistakes == [
        "a.yaml: needs a mapping with `name`, `source`, `steps` and `data`\n\nhint: configs/ holds examples"
    ]


def test_anchors_and_merges_are_yaml_as_well() -> None:
    assert yaml_text.load("a: &x {b: 1}\nc: {<<: *x, d: 2}\n", "a.yaml")["c"] == {"b": 1, "d": 2}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", ("seed",), 7),
        ("name=a=b", ("name",), "a=b"),
        ("evaluation.perplexity.windows=32", ("evaluation", "perplexity", "windows"), 32),
        ("evaluation.speed=null", ("evaluation", "speed"), None),
        ("steps.quantize_gguf.type=q8_0", ("steps", 2, "quantize_gguf", "type"), "q8_0"),
        ("steps.3.quantize_gguf.type=q8_0", ("steps", 2, "quantize_gguf", "type"), "q8_0"),
        ("steps.3.timeout_s=60", ("steps", 2, "timeout_s"), 60),
        ("steps.gguf.outtype=f32", ("steps", 1, "gguf", "outtype"), "f32"),
        ("steps.2.gguf.outtype=f32", ("steps", 1, "gguf", "outtype"), "f32"),
        ("steps.2={gguf: {outtype: bf16}}", ("steps", 1, "gguf", "outtype"), "bf16"),
        ("budgets.perplexity.max_regression=3%", ("budgets", 0, "max_regression"), "3%"),
        ("budgets.1.max_regression=3%", ("budgets", 0, "max_regression"), "3%"),
    ],
)
def test_override_sets_one_value(override: str, path: tuple[str | int, ...], value: object) -> None:
    tree = yaml_text.load(RIGHT + "budgets: [{metric: perplexity, max_regression: 2%}]\n", "a.yaml")

    assert yaml_text.override(tree, [override]) == []
    node: object = tree
    for part in path:
        node = node[part]  # type: ignore[index]
    assert node == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override `seed`: needs the form key=value"),
        ("name.first=x", "override `name.first=x`: `first` is inside a plain value"),
        ("steps.onnx.a=1", "override `steps.onnx.a=1`: no item `onnx`, only `import_gguf`, `gguf`, `quantize_gguf`"),
        ("steps.9.a=1", "override `steps.9.a=1`: no item `9`, only `import_gguf`, `gguf`, `quantize_gguf`"),
        ("seed=[1", "override `seed=[1`: the value is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("seed={a: 1, a: 2}", "override `seed={a: 1, a: 2}`: the value is not YAML: key `a` is given twice"),
    ],
)
def test_override_that_leads_nowhere_is_a_mistake(folder: Folder, override: str, message: str) -> None:
    assert folder.mistakes(RIGHT, [override]) == [f"a.yaml: {message}"]


def test_override_of_one_of_two_steps_of_a_name_needs_its_number(folder: Folder) -> None:
    assert folder.mistakes(TWO, ["steps.quantize_gguf.type=q6_k"]) == [
        "a.yaml: override `steps.quantize_gguf.type=q6_k`: 2 items are called `quantize_gguf`: "
        "give the number of the one, counted from 1"
    ]
    changed = folder.parse(TWO, ["steps.3.quantize_gguf.type=q6_k"]).config
    assert [getattr(step.stage, "type", None) for step in changed.steps] == [None, None, "q6_k", "q4_k_m"]


def test_every_override_that_is_wrong_is_told(folder: Folder) -> None:
    assert len(folder.mistakes(RIGHT, ["a", "b", "steps.x.y=1"])) == 3


def test_secrets_are_filled_in_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEOUT_TEST_TOKEN", "s3cret")
    missing: list[str] = []

    filled = yaml_text.fill_secrets({"url": ["https://u:${env:TAPEOUT_TEST_TOKEN}@host/x"], "n": 3}, missing)

    assert filled == {"url": ["https://u:s3cret@host/x"], "n": 3}
    assert missing == []


def test_unset_variable_is_one_mistake_wherever_it_stands(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAPEOUT_UNSET", raising=False)
    text = changed(
        ("name: small", "name: ${env:TAPEOUT_UNSET}"),
        ("type: q4_k_m", 'type: "${env:TAPEOUT_UNSET}"'),
    )

    assert folder.mistakes(text) == ["a.yaml: ${env:TAPEOUT_UNSET} is not set\n\nhint: export TAPEOUT_UNSET=..."]
