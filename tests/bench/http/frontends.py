#!/usr/bin/env python3
"""What a second frontend adds on this machine, and what a request's CPU time is spent on.

Each frontend and its wrk are pinned to a core; flusher and shards share the last one. Arguments: rounds (5), seconds a run (2).
"""

import concurrent.futures
import os
import time
from pathlib import Path

from rig import OTHERS, SERVED, Server, another_frontend, argument, cpu_s, in_turn, show, visitd, wrk

CONNECTIONS = 64
LAST = {max(OTHERS)}
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def system_share(pid: int, before: tuple[int, int]) -> float:
    """Of the CPU time since `before`, the part spent in the kernel."""
    user, system = ticks(pid)
    return (system - before[1]) / max(1, user + system - sum(before))


def ticks(pid: int) -> tuple[int, int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def run(servers: list[tuple[Server, set[int]]], method: str, seconds: int, flusher: int) -> dict[str, float]:
    """All servers at once, each with a wrk on the given cores."""
    before = {server.port: (cpu_s(server.pids), ticks(server.pids[0])) for server, _ in servers}
    flusher_before, begin = cpu_s([flusher]), time.monotonic()
    script = f'wrk.method = "{method}"'
    with concurrent.futures.ThreadPoolExecutor() as threads:
        runs = [threads.submit(wrk, server.port, server.paths[method], CONNECTIONS, seconds, script, cores) for server, cores in servers]
        found = [one.result() for one in runs]
    took = time.monotonic() - begin
    requests = sum(count for _, count in found)
    cpu = sum(cpu_s(server.pids) - before[server.port][0] for server, _ in servers)
    return {
        "rate": sum(rate for rate, _ in found),
        "cpu_us": cpu * 1e6 / requests,
        "system": sum(system_share(server.pids[0], before[server.port][1]) for server, _ in servers) / len(servers),
        "busy": cpu / took / len(servers),
        "flusher": (cpu_s([flusher]) - flusher_before) / took,
    }


def main() -> None:
    rounds, seconds = int(argument(1, 5)), int(argument(2, 2))
    with visitd() as (stack, first), another_frontend(stack, LAST) as second:
        flusher = stack.processes["flusher"].pid
        pairs = [(first, SERVED), (second, LAST)]
        ways = {
            "one frontend and its wrk on a core": pairs[:1],
            "one frontend on a core, wrk on another": [(first, LAST)],
            "two frontends, each with its wrk on a core": pairs,
        }
        for method in ("POST", "GET"):
            medians = in_turn(rounds, {way: lambda servers=servers: run(servers, method, seconds, flusher) for way, servers in ways.items()})
            for way, found in medians.items():
                show(f"{method}: {way}", found["rate"], f"requests/s, {found['cpu_us']:.2f} us of CPU time each, {found['system']:.0%} of it in the "
                     f"kernel; frontend {found['busy']:.0%} busy, flusher {found['flusher']:.0%}")  # fmt: skip
            one, _, two = (found["rate"] for found in medians.values())
            show(f"{method}: two frontends / one", two / one, "x")


if __name__ == "__main__":
    main()
