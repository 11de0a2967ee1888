import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import tiny_packages as packages

from pipelines import doctor
from pipelines.doctor import Check
from pipelines.environments import Environments
from pipelines.progress import Silent


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environments:
    """One environment, `small`, whose wheel is at hand."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    packages.wheel(tmp_path / "wheels", "tiny")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "small.txt").write_text("# Small.\n# imports: tiny\ntiny==1.0\n")
    return Environments(tmp_path / "home", tmp_path / "locks")


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)


@pytest.mark.usefixtures("no_compiler")
def test_a_machine_without_compiler_gets_the_way_to_one() -> None:
    assert doctor.compiler(["gguf", "gptq"], some_built=False) == Check(
        name="compiler",
        ok="problem",
        finding="no C++ compiler found; gguf and gptq cannot be built",
        hint="install one (`apt install g++`, `dnf install gcc-c++`, `xcode-select --install`) or set CC and CXX",
    )


@pytest.mark.usefixtures("no_compiler")
def test_an_image_whose_chosen_environments_are_built_is_fit_without_compiler() -> None:
    some = doctor.compiler(["gptq"], some_built=True)
    assert (some.ok, some.finding) == ("warning", "no C++ compiler found; gptq cannot be built")
    assert doctor.compiler([], some_built=True).ok == "ok"


@pytest.mark.usefixtures("no_compiler")
def test_an_environment_of_an_older_pinned_file_is_none_that_is_built(
    environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = environments.locks / "small.txt"
    lock.write_text("# Small.\n# imports: tiny\n# compiler: required\ntiny==1.0\n")
    monkeypatch.setattr(doctor, "registry", lambda: Check(name="registry", ok="ok", finding=""))
    environments.build("small", Silent())
    assert doctor.checks(environments.home, environments)[0].ok == "ok"
    lock.write_text(lock.read_text() + "# anew\n")
    assert doctor.checks(environments.home, environments)[0].ok == "problem"


def test_a_compiler_that_does_not_compile_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken-c++"
    broken.write_text("#!/bin/sh\necho 'cc1plus: no such program' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    check = doctor.compiler([], some_built=False)
    assert (check.ok, check.finding) == ("problem", f"{broken} does not compile: cc1plus: no such program")


def test_the_compiler_of_this_machine_compiles() -> None:
    assert doctor.compiler([], some_built=False).ok == "ok"


def test_disk_is_judged_where_the_home_will_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "not" / "yet"
    monkeypatch.setattr(doctor, "ENOUGH_DISK_GB", 1_000_000)
    assert doctor.disk(missing).ok == "warning"
    monkeypatch.setattr(doctor, "LEAST_DISK_GB", 1_000_000)
    check = doctor.disk(missing)
    assert check.ok == "problem"
    assert check.finding.endswith(f" GB free in {missing}")
    assert check.hint == "1000000 GB are comfortable: `tapeout artifacts prune`, or set TAPEOUT_HOME elsewhere"


def test_an_environment_is_checked_by_its_imports(environments: Environments) -> None:
    (facts,) = environments.ls()
    assert doctor.environment(environments, facts) == Check(
        name="environment small",
        ok="ok",
        finding="not built yet",
        hint="the first run builds it, or `tapeout envs build small`",
    )
    facts = environments.build("small", Silent())
    assert doctor.environment(environments, facts).finding == f"its imports work, 0.0 GB in {facts.path}"
    next(facts.path.glob("lib/python*/site-packages/tiny.py")).unlink()
    check = doctor.environment(environments, facts)
    assert check.ok == "problem"
    assert check.finding.startswith("it was installed, and an import fails: No module named 'tiny' (log: ")
    assert check.hint == "`tapeout envs rm small`, then `tapeout envs build small`"


def test_a_registry_that_pip_cannot_reach_is_a_problem(environments: Environments) -> None:
    check = doctor.registry()
    assert (check.name, check.ok) == ("registry", "problem")
    assert check.finding == "pip cannot fetch six==1.17.0: ERROR: No matching distribution found for six==1.17.0"


@pytest.mark.download
def test_the_registry_of_this_machine_is_reached_with_pips_own_settings() -> None:
    assert doctor.registry() == Check(name="registry", ok="ok", finding="pip can fetch six==1.17.0")


def test_unset_addresses_mean_an_embedded_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert [(check.name, check.ok, check.finding) for check in doctor.servers()] == [
        ("prefect", "ok", "PREFECT_API_URL is not set: Tapeout keeps its own database"),
        ("mlflow", "ok", "MLFLOW_TRACKING_URI is sqlite:///runs.db"),
    ]


def test_an_address_that_nobody_answers_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        check = next(doctor.servers())
    assert check.ok == "problem"
    assert check.finding.startswith(f"PREFECT_API_URL is {address}, which does not answer: ")
    assert check.hint == "start that server, or unset PREFECT_API_URL"


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def test_a_server_that_answers_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), _Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        *_, check = doctor.servers()
        server.shutdown()
    assert check == Check(name="mlflow", ok="ok", finding=f"{address} answers")


def test_every_check_says_what_it_found(environments: Environments, tmp_path: Path) -> None:
    found = doctor.checks(tmp_path / "home", environments)
    assert [check.name for check in found] == [
        "compiler", "disk", "memory", "cpu", "gpu", "registry", "environment small", "prefect", "mlflow",
    ]  # fmt: skip
    assert all(check.finding for check in found)
    assert all(check.hint for check in found if check.ok != "ok")
