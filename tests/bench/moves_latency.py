#!/usr/bin/env python3
"""What clients notice while shards are added and removed.

16 connections visit, others read pages in use, and pages for which a shard is asked; all at steady rates, in
turn with and without buckets that move. Frontends and clients run on core 0; the flusher, all shards and what
adds and removes them run on the others.

Arguments: seconds of a phase (10), rounds (3). VISITD_BUILD_ROOT names the build folder. Prints lines
"name value unit", and ends with an error if a visit is lost or counted twice.
"""

import concurrent.futures
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "http"))
from rig import OTHERS, SERVED, SETTINGS, Stack, argument, judge, load, pin, request, show  # noqa: E402

PAGES = 10_000
OTHER_PAGES = 300_000  # that move too, and that nobody visits
LIST = 10_000
VISITS_A_SECOND, READS_A_SECOND = 2000, 250
FIGURES = {"POST": "post", "GET of pages in use": "warm", "GET of pages that nobody read before": "cold"}
MOST = 1.1


class Moves(threading.Thread):
    """Adds a shard and removes it again, until it is told to stop."""

    def __init__(self, stack: Stack):
        super().__init__()
        self.stack = stack
        self.over = threading.Event()
        self.changes = 0

    def run(self) -> None:
        while not self.over.is_set():
            spare = self.stack.spare()
            self.change("add", f"{spare.name}=redis://{spare.host}:{spare.port}")
            self.change("remove", spare.name)
            self.stack.stop_one(spare.name)

    def change(self, *words: str) -> None:
        # After a change the flusher begins anew, and is asked again until it has.
        deadline = time.monotonic() + 30
        while (done := self.stack.visitctl("shards", *words, check=False, limit_s=120)).returncode != 0:
            if time.monotonic() > deadline:
                raise RuntimeError(f"visitctl shards {' '.join(words)}: {done.stdout}{done.stderr}")
            print(f"visitctl shards {' '.join(words)}: {done.stdout}{done.stderr}", file=sys.stderr)
            time.sleep(0.1)
        self.changes += 1


class Phases:
    def __init__(self, stack: Stack, seconds: float):
        self.stack = stack
        self.milliseconds = int(1000 * seconds)
        self.visits = 0  # that were acknowledged
        self.changes = 0

    def run(self) -> dict[str, dict[str, float]]:
        with concurrent.futures.ThreadPoolExecutor() as threads:
            post = threads.submit(load, self.stack.port, request("POST", "/visit/page-####"), SERVED, connections=16,
                                  milliseconds=self.milliseconds, rate=VISITS_A_SECOND, first=self.visits)  # fmt: skip
            warm, cold = (threads.submit(load, self.stack.port, request("GET", path), SERVED, connections=4,
                                         milliseconds=self.milliseconds, rate=READS_A_SECOND)
                          for path in ("/visits/page-00##", "/visits/page-####"))  # fmt: skip
            found = {"post": post.result(), "warm": warm.result(), "cold": cold.result()}
        self.visits += int(found["post"]["requests"])
        return found

    def run_beside_moves(self) -> dict[str, dict[str, float]]:
        moves = Moves(self.stack)
        moves.start()
        found = self.run()
        moves.over.set()
        moves.join()
        self.changes += moves.changes
        return found

    def wrong(self) -> int:
        """Visits that were lost, or counted twice."""
        held = self.stack.redis_counts()
        expected = {f"page-{page:04}": 1 + (self.visits - page + PAGES - 1) // PAGES for page in range(PAGES)}
        return sum(abs(held.get(page, 0) - count) for page, count in expected.items())


def fill(stack: Stack) -> None:
    names = [f"page-{page:04}" for page in range(PAGES)] + [f"other/{page:08}" for page in range(OTHER_PAGES)]
    for first in range(0, len(names), LIST):
        answer = stack.ask("POST", "/visits", json.dumps(names[first : first + LIST]).encode())
        assert answer.status == 200, answer
    stack.flush()


def main() -> None:
    seconds, rounds = argument(1, 10), int(argument(2, 3))
    settings = SETTINGS | {"flusher": {"flush_interval_ms": 1000, "commit_interval_ms": 200}}
    os.sched_setaffinity(0, OTHERS)  # and so whatever is started from here
    with Stack(frontends=2, settings=settings) as stack:
        for name in ("frontend_1", "frontend_2"):
            pin(stack.processes[name].pid, SERVED)
        fill(stack)
        phases = Phases(stack, seconds)
        phases.run()
        pairs = [(phases.run(), phases.run_beside_moves()) for _ in range(rounds)]
        stack.flush()
        wrong = phases.wrong()
    show("shards added or removed", phases.changes, "changes")
    for name, key in FIGURES.items():
        for figure in ("p50", "p99"):
            alone, beside = ([pair[side][key][f"{figure}_us"] for pair in pairs] for side in (0, 1))
            show(f"{name}: {figure}, nothing moves", statistics.median(alone) / 1000, "ms")
            show(f"{name}: {figure}, buckets move", statistics.median(beside) / 1000, "ms")
            judge(f"{name}: {figure}, buckets move / nothing moves", statistics.median(second / first for first, second in zip(alone, beside)), most=MOST)
    show("visits lost, or counted twice", wrong, f"visits of {phases.visits}")
    if wrong:
        raise SystemExit("the counts are not exact")


if __name__ == "__main__":
    main()
