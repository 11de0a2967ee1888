import json
import subprocess
import sys
from pathlib import Path

from program import ROOT


def test_a_killed_run_resumes_to_the_same_artifacts(pythons: dict[str, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.kill", "--kills", "1", "--prefect", "none", "--results", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    rounds = json.loads((tmp_path / "kill.json").read_text())["rounds"]
    assert [found["problems"] for found in rounds] == [[]]
