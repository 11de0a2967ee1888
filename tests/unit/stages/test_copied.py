import stat
from pathlib import Path

import pytest

from pipelines.storage.work import make_read_only
from stages._copied import copy_files


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "inner").mkdir(parents=True)
    for name in ("model.py", "inner/part.py", "inner/part.pyc", ".hidden"):
        (folder / name).write_text(name)
    make_read_only(folder)
    folder.chmod(0o555)
    return folder


def test_a_copy_of_a_read_only_artifact_can_be_written(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()

    copy_files(artifact, out, (".*", "*.pyc"))

    copied = {str(path.relative_to(out)): stat.S_IMODE(path.stat().st_mode) for path in sorted(out.rglob("*"))}
    assert list(copied) == ["inner", "inner/part.py", "model.py"]
    assert all(mode & stat.S_IWUSR for mode in (*copied.values(), out.stat().st_mode))
    assert (out / "inner/part.py").read_text() == "inner/part.py"
