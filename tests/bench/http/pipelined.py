#!/usr/bin/env python3
"""Requests sent 16 at a time, beside the same frontend's rate with one at a time.

Arguments: rounds (5), seconds a run (1).
"""

from rig import argument, in_turn, judge, show, visitd, wrk

DEPTH = 16
LEAST = 8
SCRIPT = """
local requests
init = function() requests = string.rep(wrk.format("%s", "%s"), %d) end
request = function() return requests end
"""


def main() -> None:
    rounds, seconds = int(argument(1, 5)), int(argument(2, 1))
    with visitd() as (_, server):
        for method, path in server.paths.items():
            for connections in (8, 64):

                def rate(depth: int) -> dict[str, float]:
                    return {"rate": wrk(server.port, path, connections, seconds, SCRIPT % (method, path, depth))[0]}

                medians = in_turn(rounds, {"one": lambda: rate(1), "many": lambda: rate(DEPTH)})
                what = f"{method}, {connections} connections"
                show(f"{what}: one at a time", medians["one"]["rate"], "requests/s")
                show(f"{what}: {DEPTH} at a time", medians["many"]["rate"], "requests/s")
                judge(f"{what}: {DEPTH} at a time / one", medians["many"]["rate"] / medians["one"]["rate"], LEAST)


if __name__ == "__main__":
    main()
