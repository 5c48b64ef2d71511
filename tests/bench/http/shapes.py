#!/usr/bin/env python3
"""Visits in the shape of other counters beside a visit by POST that asks for its count, of one page in use.

Arguments: rounds (5), seconds a run (2).
"""

from rig import Server, argument, cpu_s, in_turn, show, visitd, wrk

SHAPES = ["countapi", "goatcounter", "busuanzi", "vercount", "hits"]
REFERER = 'wrk.headers["Referer"] = "https://blog.example/post/"'
WAYS = {
    "POST with ?count": ("/visit/home?count", 'wrk.method = "POST"'),
    "countapi": ("/hit/blog.example/visits", ""),
    "goatcounter": ("/count?p=%2Fblog%2Fpost&b=0", ""),
    "busuanzi": ("/busuanzi?jsonpCallback=BusuanziCallback_1", REFERER),
    "vercount": ("/api/v2/log", """wrk.method = "POST"; wrk.body = '{"url":"https://blog.example/post","isNewUv":true}'"""),
    "hits": ("/dwyl/start-here.svg", ""),
}


def visit(server: Server, path: str, script: str, connections: int, seconds: int) -> dict[str, float]:
    before = cpu_s(server.pids)
    rate, requests = wrk(server.port, path, connections, seconds, script)
    return {"rate": rate, "cpu_us": (cpu_s(server.pids) - before) * 1e6 / requests}


def main() -> None:
    rounds, seconds = int(argument(1, 5)), int(argument(2, 2))
    with visitd({"http": {"shapes": SHAPES}}) as (_, server):
        for connections in (8, 64):
            medians = in_turn(rounds, {name: lambda way=way: visit(server, *way, connections, seconds) for name, way in WAYS.items()})
            plain = medians["POST with ?count"]["rate"]
            for name, found in medians.items():
                show(f"{name}, {connections} connections", found["rate"],
                     f"requests/s, {found['cpu_us']:.2f} us of CPU time each, {found['rate'] / plain:.2f} of a POST with ?count")  # fmt: skip


if __name__ == "__main__":
    main()
