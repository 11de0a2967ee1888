import os
from pathlib import Path

import pytest
import tiny_packages as packages

from pipelines.building.installing import PipWatch, Site, pip_environment
from pipelines.building.lockfile import LockFile
from pipelines.environments import Environments
from pipelines.progress import Silent

LOCK = LockFile(name="gguf", pins={"numpy": "2.4.6", "llama-cpp-python": "0.3.36"}, build_minutes="5-9")


class Bar:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float | None, str | None]] = []

    def update(self, done: float, total: float | None = None, what: str | None = None) -> None:
        self.told.append((done, total, what))


def test_the_bar_counts_pins_and_warns_of_a_long_build(tmp_path: Path) -> None:
    bar = Bar()
    watch = PipWatch(LOCK, Site(tmp_path, tmp_path / "log"), bar)
    for line in (
        "Looking in links: /somewhere",
        "Collecting numpy==2.4.6 (from -r /tmp/requirements.txt (line 1))",
        "  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (16 MB)",
        "Processing /wheels/llama_cpp_python-0.3.36.tar.gz (from -r /tmp/requirements.txt (line 2))",
        "Collecting setuptools>=77 (from torch==2.13.0->-r /tmp/requirements.txt (line 3))",
        "  Building wheel for llama-cpp-python (pyproject.toml): started",
    ):
        watch.see(line)
    assert bar.told == [
        (1, 2, "collecting numpy==2.4.6"),
        (1, 2, "downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl"),
        (2, 2, "processing llama_cpp_python-0.3.36.tar.gz"),
        (2, 2, "collecting setuptools>=77"),
        (2, 2, "building llama-cpp-python from source (first time: 5-9 minutes)"),
    ]


def test_the_bar_counts_what_appears_on_disk_while_pip_is_silent(tmp_path: Path) -> None:
    bar = Bar()
    watch = PipWatch(LOCK, Site(tmp_path, tmp_path / "log"), bar)
    watch.see(None)
    watch.see("Installing collected packages: numpy, llama_cpp_python")
    (tmp_path / "lib" / "python3.11" / "site-packages" / "numpy-2.4.6.dist-info").mkdir(parents=True)
    watch.see(None)
    assert bar.told == [(0, 2, "installing"), (1, 2, "installing")]


def test_the_users_constraints_stay_beside_the_build_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "with space" / "tools.txt"
    monkeypatch.setenv("PIP_CONSTRAINT", "/etc/one.txt /etc/two.txt")
    monkeypatch.setenv("PIP_INDEX_URL", "https://registry.example/simple")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    variables = pip_environment(tools)
    assert variables["PIP_CONSTRAINT"] == f"/etc/one.txt /etc/two.txt file://{tmp_path}/with%20space/tools.txt"
    assert variables["PIP_BUILD_CONSTRAINT"] == f"file://{tmp_path}/with%20space/tools.txt"
    assert variables["PIP_INDEX_URL"] == "https://registry.example/simple"
    assert "PYTHONPATH" not in variables


def test_without_build_tools_the_users_settings_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert pip_environment(None) == dict(os.environ)


@pytest.mark.download
def test_build_tools_have_the_version_that_is_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages.sdist(tmp_path / "sdists", packages.SCIKIT_BUILD)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{os.environ.get('PIP_FIND_LINKS', '')} {tmp_path / 'sdists'}")
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_VERBOSE", "1")
    (tmp_path / "locks").mkdir()
    pinned = "# Built.\n# imports: sys\n# build tools: scikit-build-core==0.11.6\nneeds-compiler==1.0\n"
    (tmp_path / "locks" / "built.txt").write_text(pinned)
    environments = Environments(tmp_path / "home", tmp_path / "locks")
    facts = environments.build("built", Silent())
    log = environments.home / "logs" / f"environment-{facts.path.name}.log"
    assert "scikit-build-core 0.11.6" in log.read_text()
    assert facts.versions == {"needs-compiler": "1.0"}
