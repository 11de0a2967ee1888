"""Seconds until `tapeout plan` has answered, as a whole process.

    python -m bench.plan

The question is the worked scenario of a chat service on four A100s: interpreter, imports and answer are all in it.
"""

from __future__ import annotations

import sys

from bench._processes import TAPEOUT, timed, variables
from bench._results import Goal, Spread, finish, parser_of
from pipelines.home import home

CHAT = "llama-3-8b --hardware a100-80 --count 4 --prompt 500 --shared 300 --output 150 --rate 500 --json"


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=11, help="counted runs, after one that is not")
    parser.add_argument("--goal-s", type=float, default=0.5)
    options = parser.parse_args()
    command = [TAPEOUT, "plan", *CHAT.split()]
    taken = Spread.of([timed(command, variables(home())) for _ in range(options.runs + 1)][1:])
    goal = Goal(what="tapeout plan", value=taken.median, at_most=options.goal_s, unit="s", detail=taken.shown())
    return finish(options.results, "plan", "tapeout plan", [goal], {"runs": list(taken.values)})


if __name__ == "__main__":
    sys.exit(main())
