"""Two machines and one store on S3: what the first made, the second finds.

    python -m bench.shared_store

Two Prefect workers on one server, each with a pool and a Tapeout home of its own that share nothing but the tool
environments and fetched data, run one config as deployments, one after the other, with `store:` in a bucket of moto's
server, which runs here, too. A third worker finds that server gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moto.server import ThreadedMotoServer
from pydantic import JsonValue

from bench._homes import latest_record, new_home
from bench._processes import BIN, TAPEOUT, prefect_server, run, variables
from bench._results import Goal, finish, parser_of
from pipelines.records import RunRecord
from stages.base import ROOT

CONFIG = ROOT / "configs/digits/onnxruntime_int8.yaml"
STORE = "store=s3://models/digits"


def carried_out(home: Path, api: str) -> tuple[RunRecord, float]:
    """The run of a deployment by a worker of its own; seconds as the run counts them."""
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])  # deployments are carried out by the `python` on it
    own = variables(home, PREFECT_API_URL=api, PREFECT_HOME=str(home / "prefect"), PATH=path)
    pool = ["--pool", home.name, "--dist", str(home / "dist")]
    run([TAPEOUT, "deploy", str(CONFIG), f"name=digits-{home.name}", STORE, *pool], own, home).checked()
    with worker(home, own):
        run([str(BIN / "prefect"), "deployment", "run", f"tapeout/digits-{home.name}", "--watch"], own, home)
    record = latest_record(home)
    return record, record.seconds


@contextmanager
def worker(home: Path, own: dict[str, str]) -> Iterator[None]:
    """Prefect's own worker of the pool that is named like the home."""
    command = [str(BIN / "prefect"), "--no-prompt", "worker", "start", "--pool", home.name, "--type", "process"]
    with (home / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, env=own, stdout=log, stderr=log, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def cached(record: RunRecord) -> int:
    return sum(stage.cached for stage in record.stages)


def main() -> int:
    arguments = parser_of(__doc__).parse_args()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    import fsspec

    fsspec.filesystem("s3").mkdir("models")
    with tempfile.TemporaryDirectory(prefix="tapeout-shared-") as folder:
        scratch = Path(folder)
        homes = [new_home(scratch / name) for name in ("one", "other", "third")]
        with prefect_server(scratch / "prefect-server") as api:
            (one, first_s), (other, second_s) = (carried_out(home, api) for home in homes[:2])
            server.stop()
            third, third_s = carried_out(homes[2], api)
    stages = len(one.stages)
    differing = sum(mine.artifact != theirs.artifact for mine, theirs in zip(one.stages, other.stages, strict=True))
    runs: list[tuple[RunRecord, float]] = [(one, first_s), (other, second_s), (third, third_s)]
    details: list[JsonValue] = [
        {"status": record.status, "seconds": round(seconds, 1), "stages": stages, "cached": cached(record)}
        for record, seconds in runs
    ]
    goals = [
        Goal(what="stages of the first that were cached", value=cached(one), at_most=0, unit="stages"),
        Goal(what="stages that the second made again", value=stages - cached(other), at_most=0, unit="stages"),
        Goal(what="artifacts that differ", value=differing, at_most=0, unit="artifacts"),
        Goal(what="second's time", value=second_s / first_s, at_most=0.5, unit="of the first's"),
        Goal(what="runs that failed, one without the server", value=_failed(runs), at_most=0, unit="runs"),
    ]
    return finish(arguments.results, "shared_store", "Two machines, one store on S3", goals, {"runs": details})


def _failed(runs: list[tuple[RunRecord, float]]) -> int:
    return sum(record.status not in ("passed", "halted") for record, _ in runs)


if __name__ == "__main__":
    sys.exit(main())
