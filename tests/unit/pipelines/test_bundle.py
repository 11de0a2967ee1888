from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from samples import CONFIG, DIGESTS, run_record

from pipelines.bundle import check_files, package, read_manifest, serve_command
from pipelines.errors import TapeoutError, UserError
from pipelines.records import RunRecord
from stages.base import Artifact

MODEL = b"GGUF" + bytes(range(256)) * 40
NAME = "smol-q6k-dddddddddddd"


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """A model as the store keeps it: read-only."""
    folder = tmp_path / "store" / "object"
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(MODEL)
    (folder / "model.gguf").chmod(0o444)
    return Artifact(kind="gguf", path=folder, digest=DIGESTS["quantize_gguf"], parents=(DIGESTS["gguf"],))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def packaged(artifact: Artifact, tmp_path: Path, record: RunRecord | None = None) -> Path:
    return package(record or run_record(), artifact, tmp_path / "dist", CONFIG)


def test_bundle_holds_model_manifest_report_config_and_server(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    assert bundle == tmp_path / "dist" / NAME
    names = ["config.yaml", "manifest.json", "model.gguf", "report.md", "serve.sh"]
    assert names_in(bundle) == names
    assert (bundle / "model.gguf").read_bytes() == MODEL
    assert check_files(bundle) == []
    assert serve_command(bundle) == str(bundle / "serve.sh")
    assert names_in(tmp_path / "dist") == [NAME]


def test_manifest_says_where_the_model_came_from_and_what_it_kept(artifact: Artifact, tmp_path: Path) -> None:
    manifest = read_manifest(packaged(artifact, tmp_path))
    assert (manifest.artifact, manifest.parents) == (DIGESTS["quantize_gguf"], (DIGESTS["gguf"],))
    assert (manifest.licence, manifest.source) == ("Apache-2.0", {"path": "../models/smol"})
    assert manifest.tool_versions == {"torch": "2.13.0", "transformers": "5.23.0", "llama-cpp-python": "0.3.36"}
    assert [verdict.metric for verdict in manifest.verdicts] == ["perplexity", "size_bytes"]
    assert manifest.metrics["perplexity"].relative is not None
    assert manifest.reference_metrics["perplexity"].value == 30.45
    assert manifest.tapeout_commit == "0123456789abcdef0123456789abcdef01234567"


def test_model_of_a_bundle_is_writable_and_apart_from_the_store(artifact: Artifact, tmp_path: Path) -> None:
    model = packaged(artifact, tmp_path) / "model.gguf"
    assert model.stat().st_mode & 0o200
    assert model.stat().st_nlink == 1


@pytest.mark.parametrize("status", ["halted", "failed", "interrupted"])
def test_run_that_did_not_pass_is_not_packaged(artifact: Artifact, tmp_path: Path, status: str) -> None:
    record = run_record().model_copy(update={"status": status})
    with pytest.raises(TapeoutError) as caught:
        packaged(artifact, tmp_path, record)
    assert caught.value.message == f"smol-q6k is not packaged: the run {status}"
    assert not (tmp_path / "dist").exists()


def test_failed_verdict_is_not_packaged_whatever_the_status_says(artifact: Artifact, tmp_path: Path) -> None:
    record = run_record("halted", 0.071).model_copy(update={"status": "passed"})
    with pytest.raises(TapeoutError, match=r"perplexity rose 30.45 -> 32.61"):
        packaged(artifact, tmp_path, record)
    assert not (tmp_path / "dist").exists()


def test_artifact_that_is_not_the_runs_last_is_not_packaged(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(TapeoutError, match=r"cccccccccccc is not the run's last artifact"):
        packaged(artifact.model_copy(update={"digest": DIGESTS["gguf"]}), tmp_path)


def test_same_bundle_is_left_as_it_is(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    before = {path.name: path.stat().st_ino for path in bundle.iterdir()}
    later = run_record(cached=True).model_copy(update={"started": "2027-01-01T00:00:00Z", "seconds": 2.0})
    assert packaged(artifact, tmp_path, later) == bundle
    assert {path.name: path.stat().st_ino for path in bundle.iterdir()} == before


def test_bundle_of_the_same_model_is_brought_up_to_date(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    packaged(artifact, tmp_path, run_record(change=0.012))
    relative = read_manifest(bundle).metrics["perplexity"].relative
    assert relative is not None
    assert relative.value == 0.012
    assert check_files(bundle) == []
    assert names_in(tmp_path / "dist") == [NAME]


def test_other_model_under_the_same_version_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    bundle = package(run_record(), artifact, tmp_path / "dist", CONFIG, version="1.0")
    stages = run_record().stages
    other = stages[-1].model_copy(update={"artifact": "9" * 64})
    record = run_record().model_copy(update={"stages": (*stages[:-1], other)})
    with pytest.raises(UserError) as caught:
        package(record, artifact.model_copy(update={"digest": "9" * 64}), tmp_path / "dist", CONFIG, version="1.0")
    assert caught.value.message == f"{bundle} holds another model: dddddddddddd, not 999999999999"
    assert caught.value.hint == f"move {bundle} away, or set `version` in the config"
    assert check_files(bundle) == []


def test_hand_made_change_is_not_overwritten(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    (bundle / "notes.txt").write_text("mine")
    with (bundle / "serve.sh").open("a") as script:
        script.write("# mine\n")
    with pytest.raises(UserError, match=r"was changed since it was packaged: notes.txt, serve.sh"):
        packaged(artifact, tmp_path)


def test_leftovers_of_a_killed_run_are_cleared_and_those_of_a_live_one_kept(artifact: Artifact, tmp_path: Path) -> None:
    dead, live = tmp_path / "dist" / f".{NAME}.99999999", tmp_path / "dist" / f".{NAME}.1"
    for leftover in (dead, live):
        leftover.mkdir(parents=True)
    packaged(artifact, tmp_path)
    assert names_in(tmp_path / "dist") == [live.name, NAME]


def test_check_files_names_what_is_missing_changed_and_unexpected(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    (bundle / "model.gguf").write_bytes(MODEL[:-1] + b"!")
    (bundle / "report.md").unlink()
    (bundle / "extra").write_text("")
    missing, unexpected, changed = check_files(bundle)
    assert (missing, unexpected) == ("report.md is missing", "extra does not belong to the bundle")
    assert changed.startswith("model.gguf was changed: sha256 ")


def test_damaged_manifest_is_the_users_to_know(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    text = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(text | {"name": 7}))
    with pytest.raises(UserError) as caught:
        read_manifest(bundle)
    assert caught.value.message == f"{bundle}/manifest.json: name: Input should be a valid string"
    with pytest.raises(UserError, match=r"is no bundle: manifest.json: No such file or directory"):
        read_manifest(tmp_path)


def test_config_of_a_bundle_finds_the_same_files(artifact: Artifact, tmp_path: Path) -> None:
    record = run_record().model_copy(update={"config_path": str(tmp_path / "configs" / "a.yaml")})
    bundle = packaged(artifact, tmp_path, record)
    config = yaml.safe_load((bundle / "config.yaml").read_text())
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    assert (bundle / config["source"]["path"]).resolve() == tmp_path / "models" / "smol"
    assert config["budgets"] == yaml.safe_load(CONFIG)["budgets"]


def test_secret_of_the_config_stays_out_of_the_bundle(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_TOKEN", "s3cret-token")
    stages = run_record().stages
    source = stages[0].model_copy(update={"fields": {"url": "https://s3cret-token@example.org/m"}})
    text = CONFIG + "# ${env:HUB_TOKEN}\n"
    record = run_record().model_copy(update={"stages": (source, *stages[1:]), "config_text": text})
    bundle = package(record, artifact, tmp_path / "dist", text)
    assert read_manifest(bundle).source == {"url": "https://${env:HUB_TOKEN}@example.org/m"}
    assert not any(b"s3cret" in path.read_bytes() for path in bundle.iterdir())


def test_no_path_of_the_machine_is_in_a_bundle(artifact: Artifact, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    bundle = packaged(artifact, tmp_path, run_record(log=log).model_copy(update={"bundle": tmp_path / "x"}))
    assert not any(str(tmp_path).encode() in path.read_bytes() for path in bundle.iterdir())


def tool(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def serve(bundle: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": "/usr/bin:/bin"} | environment
    return subprocess.run(
        [str(bundle / "serve.sh"), *arguments], env=given, capture_output=True, text=True, check=False
    )


def test_server_runs_in_the_environment_of_the_clone(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    python = tool(tmp_path / "envs" / "python", 'echo "$@"')
    tool(tmp_path / ".venv" / "bin" / "tapeout", f'[ "$*" = "envs python gguf" ] && echo {python}')
    served = serve(bundle, "--n_threads", "2", PORT="9000")
    code, _, arguments = served.stdout.strip().rpartition("\n")
    assert code.startswith("-c \nimport ")
    assert 'runpy.run_module("llama_cpp.server", ' in code
    assert arguments == (
        f" --model {bundle}/model.gguf --model_alias {NAME} --host 127.0.0.1 --port 9000 --n_ctx 4096 --n_threads 2"
    )


def test_server_is_llama_server_without_tapeout(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    tool(tmp_path / "bin" / "llama-server", 'echo "$@"')
    served = serve(bundle, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin", CONTEXT="512")
    expected = f"--model {bundle}/model.gguf --alias {NAME} --host 127.0.0.1 --port 8080 --ctx-size 512 --jinja"
    assert served.stdout.strip() == expected


def test_server_says_the_way_out_when_there_is_none(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact, tmp_path)
    served = serve(bundle)
    assert served.returncode == 3
    assert served.stderr == (
        "serve.sh: neither tapeout nor llama-server was found\n"
        f"hint: install Tapeout or llama.cpp, or say where it is: TAPEOUT=/path/to/tapeout {bundle}/serve.sh\n"
    )


def test_kind_without_a_server_gets_no_script(artifact: Artifact, tmp_path: Path) -> None:
    bundle = packaged(artifact.model_copy(update={"kind": "hf"}), tmp_path)
    assert serve_command(bundle) is None
