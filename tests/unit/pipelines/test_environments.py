import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_packages as packages

from pipelines.environments import Environments
from pipelines.errors import EnvironmentUnavailable
from pipelines.progress import Silent
from pipelines.working_time import worked_s

pytestmark = pytest.mark.slow  # real virtual environments, a second or two each

BUILD = """
import signal
import sys
from pathlib import Path
from pipelines.environments import Environments
from pipelines.progress import Silent
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
print(Environments(Path(sys.argv[1]), Path(sys.argv[2])).python(sys.argv[3], Silent()))
"""
# imported by the health check: says that it was, and stays there when told to
LINGER = """
import os, time
with open(os.environ["TRACE"], "a") as trace: print(os.getpid(), file=trace)
time.sleep(float(os.environ.get("LINGER_S", "0")))
"""


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all pip knows."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


@pytest.fixture
def environments(tmp_path: Path) -> Environments:
    (tmp_path / "locks").mkdir()
    return Environments(tmp_path / "home", tmp_path / "locks")


def lock(environments: Environments, name: str, *lines: str, imports: str = "tiny") -> None:
    text = "\n".join([f"# The {name} environment.", f"# imports: {imports}", *lines])
    (environments.locks / f"{name}.txt").write_text(f"{text}\n")


def refusal(environments: Environments, name: str) -> EnvironmentUnavailable:
    with pytest.raises(EnvironmentUnavailable) as refused:
        environments.python(name, Silent())
    assert not environments.path(name).exists() if name in environments.known() else True
    return refused.value


def builder(environments: Environments, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILD, str(environments.home), str(environments.locks), name]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def lines_of(path: Path, limit_s: float = 30) -> list[str]:
    """The lines of a file that another process is about to write."""
    deadline = time.monotonic() + limit_s
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline, f"{path} was not written in {limit_s} s"
        time.sleep(0.05)
    return path.read_text().splitlines()


def is_gone(process_id: int, limit_s: float = 10) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_the_first_use_builds_and_the_second_reuses(wheels: Path, environments: Environments) -> None:
    packages.wheel(wheels, "tiny", "1.2", "answer = 42")
    lock(environments, "small", "tiny==1.2")
    begin = worked_s()
    python = environments.python("small", Silent())
    assert worked_s() - begin < environments.ls()[0].seconds  # it is no step's cost
    answer = subprocess.check_output([python, "-c", "import tiny; print(tiny.answer)"], text=True)
    made = (environments.path("small") / "tapeout-environment.json").stat().st_mtime_ns
    assert answer == "42\n"
    assert environments.python("small", Silent()) == python == environments.path("small") / "bin" / "python"
    assert (environments.path("small") / "tapeout-environment.json").stat().st_mtime_ns == made
    assert environments.health("small") is None


def test_facts_name_what_is_built_and_what_is_not(wheels: Path, environments: Environments) -> None:
    packages.wheel(wheels, "tiny", "1.2")
    lock(environments, "small", "tiny==1.2")
    lock(environments, "other", "tiny==9")
    facts = environments.build("small", Silent())
    other, small = environments.ls()
    assert facts == small
    assert (small.name, small.purpose, small.built, small.healthy) == ("small", "The small environment.", True, True)
    assert small.versions == {"tiny": "1.2"}
    assert small.size_bytes > 0
    assert (other.built, other.healthy, other.size_bytes, other.versions) == (False, False, 0, {"tiny": "9"})
    assert environments.health("other") == "not built"


def test_libraries_that_changed_under_an_environment_are_told(wheels: Path, environments: Environments) -> None:
    packages.wheel(wheels, "tiny", "1.2")
    lock(environments, "small", "tiny==1.2")
    facts = environments.build("small", Silent())
    site = next(facts.path.glob("lib/python*/site-packages"))

    (site / "tiny-1.2.dist-info").rename(site / "tiny-1.3.dist-info")
    metadata = site / "tiny-1.3.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.2", "1.3"))

    told = "environment small: its libraries changed under it: tiny is 1.3, pinned 1.2"
    assert environments.health("small") == told


def test_packages_that_an_import_puts_on_the_path_are_no_change(wheels: Path, environments: Environments) -> None:
    vendored = wheels.parent / "vendored" / "tiny-0.9.dist-info"
    vendored.mkdir(parents=True)
    (vendored / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 0.9\n")
    packages.wheel(wheels, "tiny", "1.2", code=f"import sys\nsys.path.append({str(vendored.parent)!r})\n")
    lock(environments, "small", "tiny==1.2")
    environments.build("small", Silent())

    assert environments.health("small") is None


def test_a_changed_pin_is_another_environment_and_remove_takes_both(wheels: Path, environments: Environments) -> None:
    packages.wheel(wheels, "tiny", "1.0")
    packages.wheel(wheels, "tiny", "2.0")
    lock(environments, "small", "tiny==1.0")
    old = environments.build("small", Silent())
    lock(environments, "small", "tiny==2.0")
    new = environments.build("small", Silent())
    assert old.digest != new.digest
    assert [(facts.path, facts.current) for facts in environments.ls()] == [(new.path, True), (old.path, False)]
    assert environments.remove("small") == old.size_bytes + new.size_bytes
    assert not old.path.exists()
    assert not new.path.exists()


def test_an_unknown_name_gets_the_nearest_known_one(environments: Environments) -> None:
    lock(environments, "gguf", "tiny==1.0")
    (environments.locks / "tapeout.txt").write_text("# The orchestrator: no tool environment.\nclick==8.5.1\n")
    assert environments.known() == ["gguf"]
    assert str(refusal(environments, "guff")) == (
        "no tool environment is named `guff`\n\nhint: did you mean `gguf`?   (tapeout envs ls)"
    )
    with pytest.raises(EnvironmentUnavailable, match="no tool environment is named `tapeout`"):
        environments.remove("tapeout")


def test_a_package_that_nobody_has_is_named_with_the_log(wheels: Path, environments: Environments) -> None:
    packages.wheel(wheels, "tiny", "1.0")
    lock(environments, "small", "tiny==3.0")
    log = environments.home / "logs" / f"environment-{environments.path('small').name}.log"
    assert str(refusal(environments, "small")) == (
        "environment small: the package registry has no tiny==3.0 for this Python and machine\n\n"
        "  ERROR: Could not find a version that satisfies the requirement tiny==3.0 (from versions: 1.0)\n"
        "  ERROR: No matching distribution found for tiny==3.0\n\n"
        f"log: {log}\n\n"
        "hint: add a registry that has it (PIP_EXTRA_INDEX_URL), or pin another version in envs/; "
        "then `tapeout envs build small`"
    )
    assert "No matching distribution found for tiny==3.0" in log.read_text()


def test_a_registry_that_cannot_be_reached_is_not_taken_for_a_missing_package(
    environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for name, value in (
            ("PIP_CONFIG_FILE", os.devnull),
            ("PIP_INDEX_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/simple"),
            ("PIP_FIND_LINKS", ""),
            ("PIP_RETRIES", "1"),
        ):
            monkeypatch.setenv(name, value)
        lock(environments, "small", "tiny==1.0")
        error = refusal(environments, "small")
    assert error.message.startswith("environment small: the package registry cannot be reached\n")
    assert "Connection refused" in error.message
    assert error.hint.startswith("check the network and pip's settings (`pip config list`, PIP_INDEX_URL, HTTPS_PROXY)")


def test_a_package_with_another_sha256_is_refused(wheels: Path, environments: Environments) -> None:
    packages.wheel(wheels, "tiny")
    lock(environments, "small", f"tiny==1.0 --hash=sha256:{'0' * 64}")
    assert refusal(environments, "small").message.startswith(
        "environment small: a package is not the one that was pinned: its sha256 differs\n"
    )


def test_a_missing_dependency_of_a_hashed_package_is_found(wheels: Path, environments: Environments) -> None:
    import hashlib

    path = packages.wheel(wheels, "tiny", requires=("absent",))
    lock(environments, "small", f"tiny==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    message = refusal(environments, "small").message
    assert message.startswith("environment small: its pins contradict each other\n")
    assert "tiny 1.0 requires absent, which is not installed." in message


def test_what_a_lock_leaves_out_is_not_missed_but_nothing_else_is_forgiven(
    wheels: Path, environments: Environments
) -> None:
    import hashlib

    path = packages.wheel(wheels, "tiny", requires=("absent",))
    pinned = f"tiny==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    lock(environments, "small", f"# left out: absent\n{pinned}")
    lock(environments, "other", f"# left out: another\n{pinned}")

    assert environments.python("small", Silent()).is_file()
    assert "tiny 1.0 requires absent, which is not installed." in refusal(environments, "other").message


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import absent_module", "it was installed, and an import fails: No module named 'absent_module'"),
        (
            "import os; os.kill(os.getpid(), 4)",
            "an import ends in an illegal instruction: a wheel was compiled for another CPU",
        ),
        ("import os; os.kill(os.getpid(), 11)", "a process crashed with signal 11"),
    ],
)
def test_an_environment_whose_imports_fail_is_removed(
    wheels: Path, environments: Environments, code: str, cause: str
) -> None:
    packages.wheel(wheels, "tiny", code=code)
    lock(environments, "small", "tiny==1.0")
    assert refusal(environments, "small").message.startswith(f"environment small: {cause}\n")


def test_two_processes_build_it_once(
    wheels: Path, environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    packages.wheel(wheels, "tiny", code=LINGER)
    lock(environments, "small", "tiny==1.0")
    outputs = [process.communicate(timeout=60)[0] for process in [builder(environments, "small") for _ in range(2)]]
    assert outputs == [f"{environments.path('small')}/bin/python\n"] * 2
    assert len(lines_of(tmp_path / "trace")) == 1


@pytest.fixture
def lingering(
    wheels: Path, environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A build that hangs in its last step: the builder and the process that hangs."""
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    packages.wheel(wheels, "tiny", code=LINGER)
    lock(environments, "small", "tiny==1.0")
    monkeypatch.setenv("LINGER_S", "600")
    process = builder(environments, "small")
    yield process, int(lines_of(tmp_path / "trace")[0])
    process.kill()
    process.communicate()


def test_an_interrupt_ends_the_build_and_leaves_nothing(
    lingering: tuple[subprocess.Popen[str], int], environments: Environments
) -> None:
    process, hanging = lingering
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert errors.endswith("KeyboardInterrupt\n")
    assert is_gone(hanging)
    assert not environments.path("small").exists()


def test_what_a_killed_build_leaves_is_no_environment_and_is_swept(
    lingering: tuple[subprocess.Popen[str], int], environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, hanging = lingering
    assert environments.path("small").exists()
    environments.sweep()
    assert environments.path("small").exists(), "a build that is under way was swept"
    process.kill()
    process.wait()
    assert is_gone(hanging)
    assert [facts.built for facts in environments.ls()] == [False]
    environments.sweep()
    assert not environments.path("small").exists()
    monkeypatch.delenv("LINGER_S")
    assert environments.python("small", Silent()).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_named_with_the_way_out(wheels: Path, tmp_path: Path) -> None:
    packages.wheel(wheels, "tiny", code=f"data = '{os.urandom(1 << 20).hex()}'")
    home, locks = tmp_path / "small-disk", tmp_path / "locks"
    home.mkdir()
    locks.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(home)], check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        environments = Environments(home, locks)
        lock(environments, "small", "tiny==1.0")
        error = refusal(environments, "small")
    finally:
        subprocess.run(["umount", str(home)], check=True)
    assert error.message.startswith("environment small: the disk is full (0.0 GB free in ")
    assert error.hint.startswith("make room (`tapeout artifacts prune`), or set TAPEOUT_HOME and TMPDIR elsewhere")


@pytest.mark.download
@pytest.mark.parametrize("pyproject", [packages.SETUPTOOLS, packages.SCIKIT_BUILD], ids=["setuptools", "cmake"])
def test_a_missing_compiler_is_named_with_the_way_out(
    environments: Environments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyproject: str
) -> None:
    packages.sdist(tmp_path / "sdists", pyproject)
    monkeypatch.setenv("PIP_FIND_LINKS", f"{os.environ.get('PIP_FIND_LINKS', '')} {tmp_path / 'sdists'}")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    lock(environments, "small", "needs-compiler==1.0", imports="needs_compiler")
    error = refusal(environments, "small")
    assert error.message.startswith(
        "environment small: needs-compiler is built from source and no C++ compiler was found\n"
    )
    assert error.hint == (
        "install one (`apt install g++`, `dnf install gcc-c++`, `xcode-select --install`) or set CC and CXX; "
        "then `tapeout envs build small`"
    )


def test_the_folder_of_an_image_can_be_apart_from_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPEOUT_ENVS", str(tmp_path / "apart"))

    assert Environments(tmp_path / "home").folder == tmp_path / "apart"
