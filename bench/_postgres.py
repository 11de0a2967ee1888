"""A PostgreSQL of its own on a private port, for the length of a block."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.stack.ports import free_port

ACCOUNT, START_LIMIT_S = "postgres", 60.0
INSTALLED = "usr/lib/postgresql"


class Cluster:
    """A server in a folder; `url` names the database `tapeout`, which both servers put theirs beside."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `tapeout up --postgres`."""
        return f"postgresql://{ACCOUNT}@127.0.0.1:{self.port}/{ACCOUNT}"

    def start(self) -> None:
        """Return when it takes connections.

        Raises:
            SystemExit: it did not within a minute.
        """
        options = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "postgres.log").open("ab") as log:
            self._process = subprocess.Popen(
                as_account([program("postgres"), *options]), stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + START_LIMIT_S
        while subprocess.run([program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"PostgreSQL did not start:\n{(self.folder / 'postgres.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End it at once, as a machine that fails does: connections are cut, what was committed is kept."""
        if self._process and self._process.poll() is None:
            leader = int((self.folder / "data/postmaster.pid").read_text().split()[0])
            os.kill(leader, signal.SIGQUIT)
            self._process.wait()


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A fresh cluster that trusts this machine, in a folder of its account's own: it cannot enter those of others."""
    with tempfile.TemporaryDirectory(prefix="tapeout-postgres-") as scratch:
        folder = Path(scratch)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(ACCOUNT)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        made = [program("initdb"), "-D", str(folder / "data"), "-U", ACCOUNT, "-A", "trust", "--no-sync"]
        subprocess.run(as_account(made), check=True, capture_output=True, cwd=folder)
        server = Cluster(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def as_account(command: Sequence[str]) -> list[str]:
    """The command as PostgreSQL's own user: it refuses to run as root."""
    return ["runuser", "-u", ACCOUNT, "--", *command] if os.geteuid() == 0 else list(command)


def program(name: str) -> str:
    """The path of one of PostgreSQL's programs, of the latest version that is installed."""
    return str(sorted(installed())[-1] / "bin" / name)


def installed() -> list[Path]:
    """A folder for each version of the server on this machine; Debian keeps them out of PATH."""
    return [path for path in Path("/", INSTALLED).glob("*") if (path / "bin/initdb").is_file()]
