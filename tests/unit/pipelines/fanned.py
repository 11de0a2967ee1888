"""Orders over the dummy target, and a whole fan-out of them as a process: `python fanned.py RUNNER CONFIG...`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from dummies import CONFIG, TEXT

from pipelines.fanout.order import Order

HERE = Path(__file__).parent


def order(folder: Path, name: str, *overrides: str, number: int = 1) -> Order:
    """A dummy config of that name, and the order to run it."""
    folder.mkdir(exist_ok=True)
    for file, text in (
        ("text.txt", TEXT),
        ("model.dummy", ""),
        (f"{name}.yaml", CONFIG.replace("dummy\n", f"{name}\n", 1)),
    ):
        if not (folder / file).exists():
            (folder / file).write_text(text)
    return Order(
        name=name,
        config=folder / f"{name}.yaml",
        overrides=overrides,
        dist=folder / "dist",
        tracked=False,
        cwd=folder,
        folder=folder / "fan" / f"{number}-{name}",
        module="dummy_child",
    )


def main() -> None:
    from pipelines.fanout.child import interrupt
    from pipelines.fanout.flow import fan_out
    from pipelines.fanout.workers import Fanning
    from pipelines.home import home

    signal.signal(signal.SIGTERM, interrupt)
    runner, folder, *names = sys.argv[1:]
    orders = [order(Path(folder), name, "steps.dummy.fail=hang", number=n) for n, name in enumerate(names, 1)]
    for ended in fan_out(home(), orders, Fanning(2, runner)):  # type: ignore[arg-type]
        sys.stdout.write(f"{ended.problem.message if ended.problem else 'passed'}\n")


if __name__ == "__main__":
    main()
