#!/usr/bin/env python3
"""What a plain POST pays for rules of names, for limits of what comes from outside, and for all of them.

One frontend a case, in turn, beside the floor server, which shows how fast this machine is just now. Two of them have nothing on:
their ratio is that of chance. Arguments: rounds (8), seconds a run (1); beyond 15 s altogether the client's burst ends.
"""

import contextlib

from rig import SERVED, Server, another_frontend, argument, cpu_s, floor, in_turn, judge, pin, show, visitd, wrk

MOST = 1.10
RULES = "drop query utm_*,drop index-file,drop trailing-slash,lower-case"
OFF = "off"
# Of a client that a proxy on this host names, so that it is from outside; the limits are never reached.
FROM_OUTSIDE = 'wrk.headers["X-Forwarded-For"] = "192.0.2.7"'
RATE = {"VISITD_HTTP_ADDRESS_VISITS_PER_MINUTE": "1000000", "VISITD_HTTP_ADDRESS_VISITS_BURST": "1000000"}
CASES = {
    OFF: ({}, "/visit/blog/post"),
    "off, in another process": ({}, "/visit/blog/post"),
    "rules, none changes the id": ({"VISITD_PAGES_RULES": RULES}, "/visit/blog/post"),
    "rules, three change the id": ({"VISITD_PAGES_RULES": RULES}, "/visit/Blog/Post/index.html"),
    "new pages": ({"VISITD_HTTP_PUBLIC_NEW_PAGES_PER_MINUTE": "1000"}, "/visit/blog/post"),
    "rate of a client": (RATE, "/visit/blog/post"),
    "patterns of pages": ({"VISITD_PAGES_ALLOWED": "about,blog/*"}, "/visit/blog/post"),
}


def visit(server: Server, path: str, seconds: int) -> dict[str, float]:
    before = cpu_s(server.pids)
    script = f'wrk.method = "POST"\n{FROM_OUTSIDE}'
    rate, requests = wrk(server.port, path, 32, seconds, script)
    return {"rate": rate, "cpu_us": (cpu_s(server.pids) - before) * 1e6 / requests}


def main() -> None:
    rounds, seconds = int(argument(1, 8)), int(argument(2, 1))
    with visitd({"ring": {"lanes": 8, "lane_bytes": 64 << 20}}) as (stack, _), contextlib.ExitStack() as running:
        floor_server = running.enter_context(floor("post"))
        runs = {"floor": lambda: visit(floor_server, "/visit/blog/post", seconds)}
        for name, (environment, path) in CASES.items():
            server = running.enter_context(another_frontend(stack, SERVED, environment))
            for pid in server.pids:
                pin(pid, SERVED)
            runs[name] = lambda server=server, path=path: visit(server, path, seconds)
        medians = in_turn(rounds, runs)
        for name, found in medians.items():
            show(name, found["rate"], f"requests/s, {found['cpu_us']:.2f} us of CPU time each")
        off = medians[OFF]["cpu_us"]
        judge("off / floor, by CPU time", off / medians["floor"]["cpu_us"], most=1.5)
        for name in list(CASES)[1:]:
            judge(f"{name} / off, by CPU time", medians[name]["cpu_us"] / off, most=MOST)


if __name__ == "__main__":
    main()
