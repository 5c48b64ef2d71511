#!/usr/bin/env python3
"""A visit that asks for its page's count, beside a visit that does not, of one page in use.

Arguments: rounds (5), seconds a run (2).
"""

from rig import Server, argument, cpu_s, in_turn, judge, show, visitd, wrk

LEAST = 0.85
PATHS = {"POST": "/visit/home", "POST with ?count": "/visit/home?count"}


def visit(server: Server, path: str, connections: int, seconds: int) -> dict[str, float]:
    before = cpu_s(server.pids)
    rate, requests = wrk(server.port, path, connections, seconds, 'wrk.method = "POST"')
    return {"rate": rate, "cpu_us": (cpu_s(server.pids) - before) * 1e6 / requests}


def main() -> None:
    rounds, seconds = int(argument(1, 5)), int(argument(2, 2))
    with visitd() as (_, server):
        for connections in (8, 64):
            medians = in_turn(rounds, {name: lambda path=path: visit(server, path, connections, seconds) for name, path in PATHS.items()})
            for name, found in medians.items():
                show(f"{name}, {connections} connections", found["rate"], f"requests/s, {found['cpu_us']:.2f} us of CPU time each")
            plain, counted = (medians[name] for name in PATHS)
            judge(f"POST with ?count / POST, {connections} connections", counted["rate"] / plain["rate"], LEAST)
            judge(f"POST with ?count / POST by CPU time, {connections} connections", plain["cpu_us"] / counted["cpu_us"], LEAST)


if __name__ == "__main__":
    main()
