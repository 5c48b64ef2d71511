#!/usr/bin/env python3
"""Counts of pages that nobody asked for before, beside redis-benchmark's GET with as many connections.

In both the client has core 0, with the frontend where there is one; Redis, with the flusher where there is one, has the others.
Half of the pages are known to Redis. Arguments: rounds (5), reads a run (100000).
"""

import json
import os
import subprocess

from rig import OTHERS, SERVED, argument, cpu_s, in_turn, judge, load, redis, request, show, visitd

CONNECTIONS = 64
LEAST = 0.6


def redis_benchmark(port: int, requests: int) -> dict[str, float]:
    done = subprocess.run(["redis-benchmark", "-p", str(port), "-c", str(CONNECTIONS), "-n", str(requests), "-r", "1000000", "--csv", "-t", "get"],
                          capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, SERVED))  # fmt: skip
    return {"rate": float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))}


def main() -> None:
    rounds, requests = int(argument(1, 5)), int(argument(2, 100_000))
    # As many entries as pages: what is measured is the asking, not the making of room.
    with visitd({"cache": {"entries": 1 << 20}}) as (stack, server), redis(OTHERS) as other, redis(SERVED) as beside:
        first = 0
        shards = [stack.processes[shard.name].pid for shard in stack.shards]
        ours = {"frontend": server.pids, "flusher": [stack.processes["flusher"].pid], "shards": shards}
        total = rounds * requests
        for begin in range(0, total, 40_000):
            body = json.dumps([f"cold-{number:08}" for number in range(begin, min(begin + 40_000, total), 2)]).encode()
            assert stack.ask("POST", "/visits", body).status == 200
        stack.flush()

        def cold() -> dict[str, float]:
            nonlocal first
            before = {name: cpu_s(pids) for name, pids in ours.items()}
            found = load(server.port, request("GET", "/visits/cold-########"), connections=CONNECTIONS, requests=requests, first=first)
            first += requests
            return found | {name: (cpu_s(pids) - before[name]) * 1e6 / requests for name, pids in ours.items()}

        medians = in_turn(rounds, {
            "cold": cold,
            "redis": lambda: redis_benchmark(other.port, requests),
            "redis, same core": lambda: redis_benchmark(beside.port, requests),
        })  # fmt: skip
        assert stack.get(f"cold-{total - 2:08}") == 1
    found = medians["cold"]
    show("cold GET, 64 connections: visitd", found["rate"], f"requests/s, median {found['p50_us']:.0f} us, p99 {found['p99_us']:.0f} us")
    for name in ours:
        show(f"cold GET: CPU time of the {name}", found[name], "us/request")
    show("redis-benchmark GET, server on a core of its own", medians["redis"]["rate"], "requests/s")
    show("redis-benchmark GET, server on the client's core", medians["redis, same core"]["rate"], "requests/s")
    # Which of the two is faster is the machine's doing.
    judge("cold GET: visitd / redis-benchmark, each on two cores", found["rate"] / medians["redis"]["rate"], LEAST)
    judge("cold GET: visitd / redis-benchmark on one core", found["rate"] / medians["redis, same core"]["rate"], LEAST)


if __name__ == "__main__":
    main()
