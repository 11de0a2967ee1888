"""The watch: look, remember, announce the oldest open checkpoint, see to those whose run was killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines.config import LoadedConfig
from pipelines.errors import SourceError, UserError
from pipelines.watching.address import UrlFinder
from pipelines.watching.finding import Finder, FolderFinder
from pipelines.watching.incoming import prune
from pipelines.watching.ledger import Checkpoint, Ledger, now
from pipelines.watching.lost import Announced
from pipelines.watching.pace import pause_left_s
from pipelines.watching.remote import HubFinder, MlflowFinder
from pipelines.watching.source import overrides_for
from pipelines.watching.trigger import FolderTrigger, HfTrigger, MlflowTrigger, UrlTrigger


class Watcher:
    """Watches one config's trigger. `announce` starts a run for a checkpoint, now or soon; `waits` tells whether one
    that was announced will be taken up without another word.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        home: Path,
        announce: Callable[[Checkpoint], str],
        say: Callable[[str], None],
        waits: Callable[[Checkpoint], bool] = lambda _: False,
    ) -> None:
        self._loaded, self._announce, self._say = loaded, announce, say
        self.ledger = Ledger(home, loaded.config.name)
        self.finder = finder_of(loaded, home)
        self._announced = Announced(self.ledger, loaded.path, waits, say)
        self._trouble, self._unannounced = "", ""
        self._paused = "", 0

    def step(self) -> None:
        """One look. What cannot be read now, or remembered, is said once, and looked for again."""
        try:
            self._step()
        except OSError as error:
            self._trouble_with(f"{self.ledger.folder}: cannot be written: {error.strerror}")

    def _step(self) -> None:
        self._find()
        self._settle_killed()
        prune(self.ledger.folder / "incoming", self.ledger.all())
        head = next((checkpoint for checkpoint in self.ledger.all() if checkpoint.open), None)
        if head and (not self._is_paused(head) if head.state == "waiting" else self._is_lost(head)):
            self._start(head)

    def _start(self, head: Checkpoint) -> None:
        self._say(f"{head.name}: starting, attempt {head.attempts + 1}")
        self.ledger.update(head.digest, state="announced", announced=now())
        if problem := self._announce(head):
            self.ledger.update(head.digest, state="waiting")
            self._trouble_with(problem)
        else:
            self._unannounced = ""

    def _find(self) -> None:
        trouble = ""
        try:
            for found in self.finder.look():
                overrides = overrides_for(self._loaded.config, found.path, found.digest)
                new = self.ledger.add(found.digest, found.name, overrides)
                what = "new" if new else f"the same bytes as {self.ledger.again(found.digest, overrides).name}"
                self._say(f"{found.name}: {what}, sha256 {found.digest[:12]}")
        except SourceError as error:
            trouble = error.message
        if trouble != self._trouble:
            self._say(trouble or f"{self._loaded.config.name}: can be watched again")
        self._trouble = trouble

    def _trouble_with(self, problem: str) -> None:
        if problem != self._unannounced:
            self._say(problem)
            self._unannounced = problem

    def _settle_killed(self) -> None:
        for checkpoint in self.ledger.all():
            if checkpoint.state == "running" and not self.ledger.is_claimed(checkpoint.digest):
                settled = self._killed(checkpoint)
                self._say(f"{checkpoint.name}: its run was killed; now {settled.state}")

    def _killed(self, checkpoint: Checkpoint) -> Checkpoint:
        fresh = self.ledger.get(checkpoint.digest)  # it may have been settled between the two looks
        if fresh is None or fresh.state != "running" or self.ledger.is_claimed(fresh.digest):
            return fresh or checkpoint
        return self.ledger.failed(fresh, fresh.reason or "its run was killed")

    def _is_lost(self, checkpoint: Checkpoint) -> bool:
        try:
            return self._announced.is_lost(checkpoint)
        except UserError as error:
            self._trouble_with(error.message)
            return False

    def _is_paused(self, head: Checkpoint) -> bool:
        trigger = self._loaded.config.trigger
        left = pause_left_s(head.attempts, head.failed, trigger.retry_after_s) if trigger else 0.0
        if left and self._paused != (head.digest, head.attempts):
            reason = head.reason.partition("\n")[0]
            self._say(f"{head.name}: attempt {head.attempts + 1} in {left:.0f} s, after: {reason}")
            self._paused = head.digest, head.attempts
        return left > 0


def finder_of(loaded: LoadedConfig, home: Path) -> Finder:
    """What looks for the config's trigger.

    Raises:
        UserError: the config has none.
    """
    trigger = loaded.config.trigger
    if trigger is None:
        raise UserError(f"{loaded.path}: there is no `trigger` to watch", "trigger: {folder: checkpoints}")
    if isinstance(trigger, FolderTrigger):
        return FolderFinder(trigger, loaded.folder)
    incoming = home / "watch" / loaded.config.name / "incoming"
    match trigger:
        case UrlTrigger():
            return UrlFinder(trigger, incoming)
        case HfTrigger():
            return HubFinder(trigger, incoming)
        case MlflowTrigger():
            return MlflowFinder(trigger, home, incoming)
