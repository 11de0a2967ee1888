from pathlib import Path

import pytest
from click.testing import CliRunner

from configs import RIGHT
from pipelines.cli import cli
from pipelines.errors import UserError
from pipelines.in_image import config_there, dist_there, job_there
from pipelines.parsing import parse
from stages.base import ROOT


def test_paths_are_those_of_the_image() -> None:
    loaded = parse(ROOT / "configs/smollm2-135m/gguf_q6_k.yaml")

    assert config_there(loaded) == "/opt/tapeout/configs/smollm2-135m/gguf_q6_k.yaml"
    assert (dist_there(Path("dist")), dist_there(Path("/out"))) == ("/var/lib/tapeout/dist", "/out")


def test_a_config_that_no_image_holds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RIGHT)
    (tmp_path / "model.gguf").touch()

    with pytest.raises(UserError, match="the images hold what lies in"):
        config_there(parse(tmp_path / "a.yaml"))


def test_a_trigger_is_refused_since_a_container_has_another_home(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(RIGHT + "trigger: {folder: landing, marker: .done}\n")
    (tmp_path / "model.gguf").touch()

    with pytest.raises(UserError, match="a container has another home"):
        config_there(parse(tmp_path / "a.yaml"))


def test_only_addresses_that_a_container_reaches_go_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////home/me/mlflow.db")
    assert job_there("docker", None) == {
        "image": "tapeout:cpu",
        "command": "flow-run",
        "env": {"PREFECT_HOME": "/var/lib/tapeout/prefect"},
        "volumes": ["tapeout:/var/lib/tapeout"],
    }

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow")
    assert job_there("kubernetes", "here/tapeout:1") == {
        "image": "here/tapeout:1",
        "command": "flow-run",
        "env": {"PREFECT_HOME": "/var/lib/tapeout/prefect", "MLFLOW_TRACKING_URI": "https://mlflow"},
    }


def test_what_a_worker_starts_is_no_command_for_people() -> None:
    ended = CliRunner().invoke(cli, ["flow-run"], env={"PREFECT__FLOW_RUN_ID": None})

    assert ended.exit_code == 2
    assert "Prefect's worker starts this" in ended.output
    assert "flow-run" not in CliRunner().invoke(cli, ["--help"]).output
