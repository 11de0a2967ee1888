"""Two machines and one store on S3: what the first made, the second finds.

    python -m bench.shared_store

Two homes that share nothing but the tool environments and fetched data run one config, one after the other, with
`store:` in a bucket of moto's server, which runs here, too. A third run finds that server gone.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from moto.server import ThreadedMotoServer
from pydantic import JsonValue

from bench._homes import latest_record, new_home
from bench._processes import TAPEOUT, run, variables
from bench._results import Goal, finish, parser_of
from pipelines.records import RunRecord
from stages.base import ROOT

CONFIG = ROOT / "configs/digits/onnxruntime_int8.yaml"


def carried_out(home: Path, *overrides: str) -> tuple[RunRecord, float]:
    command = [TAPEOUT, "run", str(CONFIG), *overrides, "--no-mlflow", "--no-prefect", "--dist", str(home / "dist")]
    begin = time.monotonic()
    run(command, variables(home), home)
    return latest_record(home), time.monotonic() - begin


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
    with tempfile.TemporaryDirectory(prefix="tapeout-shared-") as scratch:
        homes = [new_home(Path(scratch, name)) for name in ("one", "other", "third")]
        (one, first_s), (other, second_s) = (carried_out(home, "store=s3://models/digits") for home in homes[:2])
        server.stop()
        third, third_s = carried_out(homes[2], "store=s3://models/digits")
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
