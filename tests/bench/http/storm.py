#!/usr/bin/env python3
"""The first seconds' storm: 100 connections ask for 20,000 pages that nobody asked for before, while visits come at full speed.

The readers ask the frontend on core 0, from there; the visits come in through a second frontend, on the other cores, with the flusher
and the shards. Each round meets other pages, and a view that is full after the first. Arguments: rounds (5), pages (20000).
"""

import statistics
import threading

from rig import OTHERS, another_frontend, argument, judge, load, request, show, visitd

CONNECTIONS = 100
VISITORS = 64
MOST_P99_MS = 15.0


class Visits:
    """Visits of a hundred thousand pages at full speed, until the block is left."""

    def __init__(self, port: int):
        self._port = port
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self.counted = 0
        self.fault: Exception | None = None

    def _go(self) -> None:
        try:
            while not self._ending.is_set():
                found = load(self._port, request("POST", "/visit/visited-#####"), OTHERS, connections=VISITORS, milliseconds=500, first=self.counted)
                self.counted += int(found["requests"])
        except Exception as fault:  # noqa: BLE001 - a thread's failure must reach the bench
            self.fault = fault

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join(60)
        if self.fault is not None:
            raise self.fault


def storm(rounds: int, pages: int, flush_interval_ms: int) -> dict[str, float]:
    """Medians over the rounds."""
    rounds_seen = []
    settings = {"cache": {"entries": pages}, "flusher": {"flush_interval_ms": flush_interval_ms, "commit_interval_ms": 1000}}
    with visitd(settings) as (stack, server), another_frontend(stack, OTHERS) as entrance:
        with Visits(entrance.port) as visits:
            for number in range(rounds):
                rounds_seen.append(load(server.port, request("GET", "/visits/cold-########"), connections=CONNECTIONS, requests=pages, first=number * pages))
        stack.flush()
        assert stack.status()["spool"]["pending_visits"] == 0
    return {key: statistics.median(seen[key] for seen in rounds_seen) for key in rounds_seen[0]} | {"visits": visits.counted}


def main() -> None:
    rounds, pages = int(argument(1, 5)), int(argument(2, 20_000))
    found = storm(rounds, pages, 30_000)
    show("visits counted meanwhile", found["visits"], "visits")
    show("cold GET, 100 connections amid visits", found["rate"], f"requests/s, median {found['p50_us'] / 1000:.1f} ms")
    judge("99th percentile of cold GET, flushed as by default", found["p99_us"] / 1000, most=MOST_P99_MS, unit="ms")
    found = storm(rounds, pages, 1000)
    show("99th percentile of cold GET, all flushed every second", found["p99_us"] / 1000, f"ms, median {found['p50_us'] / 1000:.1f} ms")


if __name__ == "__main__":
    main()
