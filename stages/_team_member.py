"""`python -m stages._team_member`: a further process of a team; the order is on its standard input."""

from __future__ import annotations

import os
import sys

from stages._team_start import Order
from stages.base import Context, Refused, load


def main() -> None:
    """Run the stage for its share of every step. What the stage refuses is said by the first process."""
    order = Order.model_validate_json(sys.stdin.read())
    out, scratch = order.folder / "out", order.folder / "scratch"
    for folder in (out, scratch):
        folder.mkdir(parents=True)
    context = Context(
        out=out, scratch=scratch, seed=order.seed, threads=order.threads, inputs=order.inputs, outliving=order.resume
    )
    try:
        load(order.stage).model_validate(order.fields).run(order.model, context)
    except Refused:
        return


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # the others may be gone already, and a process group closes together
