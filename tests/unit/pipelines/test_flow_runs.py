from __future__ import annotations

from pathlib import Path

from pipelines.stack.flow_runs import FlowRuns, in_hand
from pipelines.stack.ports import free_port


def left_by_a_killed_process(home: Path, flow_run: str) -> Path:
    file = home / "stack" / "flow_runs" / flow_run
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_a_run_in_hand_is_left_alone_and_leaves_nothing(tmp_path: Path) -> None:
    with in_hand(tmp_path, "one"):
        assert FlowRuns(tmp_path, f"http://127.0.0.1:{free_port()}/api", "tapeout").settle() == []
        assert [file.name for file in (tmp_path / "stack" / "flow_runs").iterdir()] == ["one"]

    assert list((tmp_path / "stack" / "flow_runs").iterdir()) == []


def test_a_server_that_is_away_is_asked_again(tmp_path: Path) -> None:
    file = left_by_a_killed_process(tmp_path, "one")

    assert FlowRuns(tmp_path, f"http://127.0.0.1:{free_port()}/api", "tapeout").settle() == []
    assert file.exists()
