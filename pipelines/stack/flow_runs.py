"""Flow runs whose process is gone: Prefect is told, which would wait for them for ever and start no other meanwhile.

One that had come to its end while Prefect was away gets the state it ended in; the others are crashed.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.home import try_lock
from pipelines.stack.taken import Ended, files, remembered

GRACE_S, LIMIT_S = 60.0, 5.0
KILLED, UNTAKEN = "its process was killed", "the worker that had taken it was killed"


@dataclass
class FlowRuns:
    """Those of a stack: in a home, on the server of an API, of a work pool."""

    home: Path
    api: str
    pool: str
    _lost: list[tuple[datetime, float]] = field(default_factory=list)

    def worker_was_killed(self) -> None:
        """What it had taken and not yet begun is nobody's: crashed unless another worker begins it within a minute."""
        self._lost.append((datetime.now(UTC), time.monotonic() + GRACE_S))

    def settle(self) -> list[str]:
        """Each that is ended by this, and how. A server that is away is asked again at the next look."""
        try:
            return [*self._gone(), *self._untaken()]
        except (OSError, ValueError):
            return []

    def _gone(self) -> Iterator[str]:
        for file in files(self.home).glob("*"):
            with try_lock(file) as free:
                if not free:
                    continue
                for run in self._unfinished({"id": {"any_": [file.name]}}, {}, "RUNNING", "PENDING", "CANCELLING"):
                    yield self._end(run, remembered(file) or crashed(KILLED))
                file.unlink(missing_ok=True)

    def _untaken(self) -> Iterator[str]:
        if not self._lost or time.monotonic() < self._lost[0][1]:
            return
        for run in self._unfinished({}, {"work_pools": {"name": {"any_": [self.pool]}}}, "PENDING"):
            if datetime.fromisoformat(run["state"]["timestamp"]) < self._lost[0][0]:
                yield self._end(run, crashed(UNTAKEN))
        del self._lost[0]

    def _unfinished(self, which: dict[str, Any], of: dict[str, Any], *types: str) -> list[Any]:
        wanted = {"flow_runs": {"state": {"type": {"any_": types}}, **which}, **of}
        found: list[Any] = self._asked("flow_runs/filter", wanted)
        return found

    def _end(self, run: Any, state: Ended) -> str:
        self._asked(f"flow_runs/{run['id']}/set_state", {"state": state.model_dump(), "force": True})
        return f"{run['name']}: {state.message or state.name}"

    def _asked(self, path: str, body: dict[str, Any]) -> Any:
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}/{path}", json.dumps(body).encode(), kind)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=LIMIT_S) as answer:
            return json.load(answer)


def crashed(why: str) -> Ended:
    """The state of a flow run that nobody carries out any more."""
    return Ended(type="CRASHED", name="Crashed", message=why)
