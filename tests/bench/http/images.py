#!/usr/bin/env python3
"""The pixel beside a visit by POST, and a badge beside a read, of one page in use.

Arguments: rounds (5), seconds a run (2).
"""

from rig import Server, argument, cpu_s, in_turn, judge, show, visitd, wrk

WAYS = {
    "POST": ("POST", "/visit/home"),
    "pixel": ("GET", "/pixel/home.gif"),
    "GET": ("GET", "/visits/home"),
    "badge": ("GET", "/badge/home.svg?label=hits&color=4c1&locale=de"),
}
LEAST = (("pixel", "POST", 0.9), ("badge", "GET", 0.6))


def ask(server: Server, method: str, path: str, connections: int, seconds: int) -> dict[str, float]:
    before = cpu_s(server.pids)
    rate, requests = wrk(server.port, path, connections, seconds, f'wrk.method = "{method}"')
    return {"rate": rate, "cpu_us": (cpu_s(server.pids) - before) * 1e6 / requests}


def main() -> None:
    rounds, seconds = int(argument(1, 5)), int(argument(2, 2))
    with visitd() as (_, server):
        for connections in (8, 64):
            medians = in_turn(rounds, {name: lambda way=way: ask(server, *way, connections, seconds) for name, way in WAYS.items()})
            for name, found in medians.items():
                show(f"{name}, {connections} connections", found["rate"], f"requests/s, {found['cpu_us']:.2f} us of CPU time each")
            for name, beside, least in LEAST:
                judge(f"{name} / {beside}, {connections} connections", medians[name]["rate"] / medians[beside]["rate"], least)


if __name__ == "__main__":
    main()
