"""What the commands say, each in this process."""

import json
from pathlib import Path

import pytest
from commanding import Command, home, tapeout
from dummies import Bench
from samples import run_record

from configs import RIGHT
from pipelines import doctor, launch, outcome
from pipelines.measures import KINDS
from pipelines.store import Store
from stages.base import load

__all__ = ["home", "tapeout"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "model.gguf").write_text("a model")
    file = tmp_path / "a.yaml"
    file.write_text(RIGHT)
    return file


@pytest.fixture
def bench(tmp_path: Path, home: Path) -> Bench:
    """A dummy pipeline whose store is in the home of the commands."""
    bench = Bench(tmp_path)
    assert bench.home == home
    return bench


def test_validate_says_what_a_run_would_do(tapeout: Command, config: Path) -> None:
    ended = tapeout("validate", config)

    assert ended.code == 0
    assert ended.out == (
        f"{config}: right\n"
        "  0  source               -> gguf      \n"
        "  1  import_gguf          -> hf          the reference\n"
        "  2  gguf                 -> gguf        measured with gguf\n"
        "  3  quantize_gguf        -> gguf        measured with gguf\n"
    )


def test_validate_prints_the_plan_as_json(tapeout: Command, config: Path) -> None:
    plan = tapeout("validate", config, "steps.quantize_gguf.type=q8_0", "--json").json

    assert plan["reference"] == 1
    assert plan["steps"][3] == {"step": 3, "stage": "quantize_gguf", "gives": "gguf", "opened_by": "gguf"}


def test_validate_applies_overrides(tapeout: Command, config: Path) -> None:
    ended = tapeout("validate", config, "steps.quantize_gguf.type=q1")

    assert ended.code == 2
    assert "step 3 `quantize_gguf`: `type`: input should be 'q8_0'" in ended.err


def test_validate_touches_nothing(tapeout: Command, config: Path, home: Path) -> None:
    before = sorted(config.parent.iterdir())

    tapeout("validate", config)

    assert sorted(config.parent.iterdir()) == before
    assert not home.exists()


@pytest.mark.parametrize(
    ("what", "some"),
    [
        ("stages", {"import_gguf", "quantize_gguf"}),
        ("targets", {"gguf", "transformers"}),
        ("configs", {"configs/smollm2-135m/gguf_q6_k.yaml"}),
        ("metrics", set(KINDS)),
        ("envs", {"gguf", "torch"}),
        ("runs", set()),
        ("artifacts", set()),
    ],
)
def test_ls_lists_by_name_with_a_word_about_each(tapeout: Command, what: str, some: set[str]) -> None:
    plain, rows = tapeout("ls", what), tapeout("ls", what, "--json").json

    assert plain.code == 0
    assert some <= {row["name"] for row in rows}
    assert [line.split()[0] for line in plain.out.splitlines()] == [row["name"] for row in rows]
    assert all(row["about"] for row in rows)
    assert "dummy" not in {row["name"] for row in rows}


def test_show_tells_a_stages_fields(tapeout: Command) -> None:
    assert tapeout("show", "quantize_gguf").out == (
        "quantize_gguf: gguf -> gguf   (environment gguf)\n\n"
        f"{load('quantize_gguf').__doc__}\n\n"
        "  type: llama.cpp's mixture of types, from 8 bits a weight down to 1.6; `mixed`: what `budget` buys "
        "(required)\n"
        "  budget: in place of `type`: each tensor's own type, by what `measure_sensitivity` found (default None)\n"
        "  tensor_types: a type for every tensor whose name a regular expression is found in, the first that is "
        "counts: `{ffn_down: q6_k}` (default {})\n"
        "  output_type: type of the output head, where it is a tensor of its own (default None)\n"
        "  token_embedding_type: type of the token embedding (default None)\n"
        "  pure: one type for every matrix, in place of the mixture (default False)\n"
    )
    assert set(tapeout("show", "quantize_gguf", "--json").json["properties"]) == set(load("quantize_gguf").model_fields)


def test_show_tells_the_last_run(tapeout: Command, home: Path) -> None:
    for name, status in (("20261123-170000-smol-0001", "passed"), ("20261123-180000-smol-0002", "halted")):
        folder = home / "runs" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(run_record(status).model_dump_json())  # type: ignore[arg-type]

    assert tapeout("show", "last", "--json").json["status"] == "halted"
    assert tapeout("show", "0001", "--json").json["status"] == "passed"
    shown = tapeout("show", "last")
    assert "quantize_gguf" in shown.out
    assert "halted  perplexity rose" in shown.out
    assert [row["name"] for row in tapeout("ls", "runs", "--json").json] == [
        "20261123-180000-smol-0002",
        "20261123-170000-smol-0001",
    ]


def test_show_of_what_is_not_there_is_the_users_mistake(tapeout: Command) -> None:
    ended = tapeout("show", "nothing")

    assert ended.code == 2
    assert ended.err == ("\nnothing is called 'nothing'\n\nhint: tapeout ls stages, targets or runs lists names\n\n")


@pytest.mark.parametrize(("what", "title"), [("config", "Tapeout config"), ("report", "Tapeout report")])
def test_schema_is_printed_or_written(tapeout: Command, tmp_path: Path, what: str, title: str) -> None:
    file = tmp_path / "schema.json"

    printed, written = tapeout("schema", what), tapeout("schema", what, "-o", file)

    assert printed.json["title"] == title
    assert json.loads(file.read_text()) == printed.json
    assert written.out == ""
    assert written.err == f"{file}: written; `# yaml-language-server: $schema={file}` on top of a config uses it\n"


def test_schema_that_cannot_be_written_is_the_users_mistake(tapeout: Command, tmp_path: Path) -> None:
    ended = tapeout("schema", "-o", tmp_path / "none" / "schema.json")

    assert ended.code == 2
    assert "none/schema.json: cannot be written: No such file or directory" in ended.err


def test_envs_are_listed_with_what_they_are_for(tapeout: Command) -> None:
    rows = tapeout("envs", "ls", "--json").json

    assert {row["name"] for row in rows} >= {"gguf", "torch"}
    assert all(row["purpose"] and not row["built"] for row in rows)
    assert "not built" in tapeout("envs", "ls").out


@pytest.mark.parametrize("command", [("envs", "rm"), ("envs", "build"), ("envs", "python")])
def test_unknown_env_is_the_users_mistake(tapeout: Command, command: tuple[str, ...]) -> None:
    ended = tapeout(*command, "ggfu")

    assert ended.code == 2
    assert "no tool environment is named `ggfu`" in ended.err


def test_artifacts_are_listed_shown_verified_and_pruned(tapeout: Command, bench: Bench) -> None:
    made = bench.run("steps.dummy.noise=0.01")
    digest = made.record.stages[1].artifact
    assert digest is not None

    rows = tapeout("artifacts", "ls", "--json").json
    shown = tapeout("artifacts", "show", digest[:10]).json

    assert digest in {row["digest"] for row in rows}
    assert (shown["digest"], shown["stage"]) == (digest, "dummy")
    assert (Path(shown["path"]) / "dummy.json").is_file()
    assert len(tapeout("artifacts", "ls").out.splitlines()) == len(rows)
    assert tapeout("artifacts", "verify").out == "every artifact is whole\n"
    assert "would be freed" in tapeout("artifacts", "prune", "--older-than", "0", "--dry-run").out
    assert len(Store(bench.home / "store").ls()) == len(rows)
    kept = tapeout("artifacts", "prune", "--older-than", "0", "--keep", digest[:10])
    assert kept.out.splitlines()[-1].endswith(" freed")
    assert [entry.digest for entry in Store(bench.home / "store").ls()] == [digest]


def test_artifact_that_is_not_there_is_the_users_mistake(tapeout: Command) -> None:
    for arguments in (("show", "abc"), ("verify", "abc"), ("prune", "--keep", "abc")):
        ended = tapeout("artifacts", *arguments)

        assert ended.code == 2
        assert ended.err == "\nno artifact starts with 'abc'\n\nhint: `tapeout artifacts ls` lists them\n\n"


def test_problems_of_the_machine_are_one_json_document(tapeout: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    check = doctor.Check(name="compiler", ok="problem", finding="none", hint="install one")
    monkeypatch.setattr(doctor, "checks", lambda *_: [check])

    plain, as_json = tapeout("doctor"), tapeout("doctor", "--json")

    assert (plain.code, as_json.code) == (2, 2)
    assert "problem  compiler: none\n         install one\n" in plain.out
    assert as_json.json == [check.model_dump()]
    assert "1 to mend: compiler" in plain.err


@pytest.fixture
def launched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """`tapeout run` over the dummy pipeline, in this process."""

    def fake(config: Path, overrides: tuple[str, ...], choices: launch.Choices, writer: object) -> outcome.Outcome:
        return bench.run(*overrides)

    monkeypatch.setattr(launch, "launch", fake)
    return bench


def test_run_that_passed_prints_its_table_bundle_and_how_to_serve_it(tapeout: Command, launched: Bench) -> None:
    ended = tapeout("run", launched.config)

    assert ended.code == 0
    assert "perplexity" in ended.out
    assert f"\nbundle  {launched.folder}/dist/" in ended.out


def test_run_over_budget_exits_with_1_and_says_why(tapeout: Command, launched: Bench) -> None:
    ended = tapeout("run", launched.config, "steps.dummy.noise=1.5")

    assert ended.code == 1
    assert "bundle" not in ended.out
    assert "allowed 5%) after dummy" in ended.err


@pytest.mark.parametrize(
    ("override", "code", "status"), [("seed=0", 0, "passed"), ("steps.dummy.noise=1.5", 1, "halted")]
)
def test_json_of_a_run_is_one_document_whatever_its_end(
    tapeout: Command, launched: Bench, override: str, code: int, status: str
) -> None:
    ended = tapeout("run", launched.config, override, "--json")

    assert ended.code == code
    assert ended.json["status"] == status
    assert ended.json["stages"][1]["verdicts"][0]["passed"] == (code == 0)
