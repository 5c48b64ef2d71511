#!/usr/bin/env python3
"""The 99th percentile at half of the greatest rate, ours beside nginx's, while the flusher flushes 100,000 pages again and again.

load-client sends each request when it is due, whether or not others were answered, and counts its latency from then. Each server is
asked at half of what it reached in the same run, in turn; the flusher is as busy beside nginx as beside us. The pages that are
flushed come in through a second frontend, on the flusher's core. A run is longer than a count's TTL: the page that is read falls due
in each, in the midst of a flush. Arguments: rounds (5), milliseconds a run (5500).
"""

import json
import os
import threading
import time

from rig import OTHERS, Client, Server, Stack, another_frontend, argument, in_turn, judge, load, nginx, pin, request, show, visitd

PAGES = 100_000
PAGES_A_BODY = 1000
CONNECTIONS = 64
PAUSE_S = 0.004  # between two bodies: what is measured is the flush, not a burst of visits
SHORT_MS = 1000  # a run that finds the greatest rate, or the latency at rest
MOST = 2.0


class Flushing:
    """Records visits of 100,000 pages and has them flushed, until the block is left."""

    def __init__(self, stack: Stack, entrance: Server):
        self._stack, self._port = stack, entrance.port
        self._bodies = [json.dumps([f"flushed-{number}" for number in range(begin, begin + PAGES_A_BODY)]).encode()
                        for begin in range(0, PAGES, PAGES_A_BODY)]  # fmt: skip
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self.seconds: list[float] = []
        self.faults: list[str] = []

    def _go(self) -> None:
        with Client(self._port, timeout_s=30) as client:
            while not self._ending.is_set():
                for body in self._bodies:
                    answer = client.ask("POST", "/visits", body)
                    if answer.status != 200:
                        self.faults.append(repr(answer))
                        return
                    time.sleep(PAUSE_S)
                begin = time.monotonic()
                self._stack.flush()
                self.seconds.append(time.monotonic() - begin)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join(60)
        assert not self.faults, self.faults


def main() -> None:
    rounds, milliseconds = int(argument(1, 5)), int(argument(2, 5500))
    with visitd({"flusher": {"flush_interval_ms": 60_000}}) as (stack, ours), another_frontend(stack, OTHERS) as entrance, nginx() as other:
        servers = {"visitd": ours, "nginx": other}
        # This program's own threads stay out of the way too; clients are placed when they are started.
        pin(os.getpid(), OTHERS)
        for method in ("POST", "GET"):

            def ask(name: str, rate: float, milliseconds: int) -> dict[str, float]:
                server = servers[name]
                return load(server.port, request(method, server.paths[method]), connections=CONNECTIONS, milliseconds=milliseconds, rate=rate)

            greatest = in_turn(rounds, {name: lambda name=name: ask(name, 0, SHORT_MS) for name in servers})
            half = {name: found["rate"] / 2 for name, found in greatest.items()}
            rest = in_turn(rounds, {name: lambda name=name: ask(name, half[name], SHORT_MS) for name in servers})
            with Flushing(stack, entrance) as flushing:
                busy = in_turn(rounds, {name: lambda name=name: ask(name, half[name], milliseconds) for name in servers})
            for name in servers:
                show(f"{method}: {name}, greatest rate", greatest[name]["rate"], "requests/s")
                show(f"{method}: {name}, p99 at half of it, flusher at rest", rest[name]["p99_us"], f"us (median {rest[name]['p50_us']:.0f} us)")
                show(f"{method}: {name}, p99 at half of it, while flushing", busy[name]["p99_us"], f"us (median {busy[name]['p50_us']:.0f} us)")
            show(f"{method}: flushes of 100,000 pages meanwhile", len(flushing.seconds), f"of {sum(flushing.seconds) / len(flushing.seconds):.2f} s")
            judge(f"{method}: p99 of visitd / nginx, while flushing", busy["visitd"]["p99_us"] / busy["nginx"]["p99_us"], most=MOST)
            show(f"{method}: p99 of visitd while flushing / nginx at rest", busy["visitd"]["p99_us"] / rest["nginx"]["p99_us"], "x")


if __name__ == "__main__":
    main()
