#!/usr/bin/env python3
"""One frontend beside the least that an epoll loop can do, nginx counting in Lua, and webdis before a Redis server.

Arguments: rounds (5), seconds a run (2).
"""

import contextlib

from rig import OTHERS, SERVED, Server, argument, cpu_s, floor, in_turn, judge, nginx, show, visitd, webdis, wrk

# By the rate, and by the server's CPU time a request.
LEAST = {"floor": (0.9, None), "nginx": (1.2, 1.35), "webdis": (2.5, 2.5), "webdis, Redis elsewhere": (None, None)}


def ask(server: Server, method: str, connections: int, seconds: int) -> dict[str, float]:
    script = 'wrk.method = "POST"' if method == "POST" and server.visit_method == "POST" else ""
    before = cpu_s(server.pids)
    rate, requests = wrk(server.port, server.paths[method], connections, seconds, script)
    return {"rate": rate, "cpu_us": (cpu_s(server.pids) - before) * 1e6 / requests}


def main() -> None:
    rounds, seconds = int(argument(1, 5)), int(argument(2, 2))
    with contextlib.ExitStack() as all_of_them:
        _, ours = all_of_them.enter_context(visitd())
        floors = {method: all_of_them.enter_context(floor(method.lower())) for method in ("POST", "GET")}
        others = {
            "nginx": all_of_them.enter_context(nginx()),
            # Its server is two processes: on one core like the others, and with a second core that they do not get.
            "webdis": all_of_them.enter_context(webdis(SERVED)),
            "webdis, Redis elsewhere": all_of_them.enter_context(webdis(OTHERS)),
        }
        for method in ("POST", "GET"):
            for connections in (8, 64):
                servers = {"floor": floors[method], "visitd": ours} | others
                medians = in_turn(rounds, {name: lambda server=server: ask(server, method, connections, seconds)
                                           for name, server in servers.items()})  # fmt: skip
                what = f"{method}, {connections} connections"
                for name, found in medians.items():
                    show(f"{what}: {name}", found["rate"], f"requests/s, {found['cpu_us']:.2f} us of CPU time each")
                us = medians["visitd"]
                for name, (least, least_by_cpu) in LEAST.items():
                    compare(f"{what}: visitd / {name}", us["rate"] / medians[name]["rate"], least)
                    compare(f"{what}: visitd / {name} by CPU time", medians[name]["cpu_us"] / us["cpu_us"], least_by_cpu)


def compare(name: str, ratio: float, least: float | None) -> None:
    if least is None:
        show(name, ratio, "x")
    else:
        judge(name, ratio, least)


if __name__ == "__main__":
    main()
