#!/usr/bin/env python3
"""What clients notice while shards are added and removed.

16 connections visit, others read pages in use, and pages for which a shard is asked; all at steady rates, in
turn with and without buckets that move. Percentiles are those of all requests of a kind of phase together. How far
chance moves them is shown by the phases in which nothing moves: every second one beside the others. Frontends and
clients run on core 0; the flusher, all shards and what adds and removes them run on the others, with their files in
memory: the kernel would write them to a disk on core 0, too, and that is what clients would notice. No core sleeps,
see rig.awake.

Arguments: seconds of a phase (10), rounds (4), kills a second (0): of the flusher, the shards and visitctl, in
both kinds of phases. VISITD_BUILD_ROOT names the build folder. Prints lines "name value unit", and ends with an
error if a visit is lost or counted twice.
"""

import concurrent.futures
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "http"))
from rig import OTHERS, SERVED, SETTINGS, VISITCTL, Shard, Stack, argument, awake, judge, load, pin, request, show, wait_for  # noqa: E402

PAGES = 10_000
OTHER_PAGES = 300_000  # that move too, and that nobody visits
LIST = 10_000
VISITS_A_SECOND, READS_A_SECOND = 2000, 250
FIGURES = {"POST": "post", "GET of pages in use": "warm", "GET of pages that nobody read before": "cold"}
MOST = 1.1
MOST_WAIT_S = 5.0
# By figure, every latency of a phase.
Latencies = dict[str, list[float]]


class Moves(threading.Thread):
    """Adds a shard and removes it again, until it is told to stop. Whatever of that is killed meanwhile, it goes on."""

    def __init__(self, stack: Stack):
        super().__init__()
        self.stack = stack
        self.over = threading.Event()
        self.changes = 0
        self.spare: Shard | None = None
        self.visitctl: subprocess.Popen | None = None

    def run(self) -> None:
        while not self.over.is_set():
            self.spare = spare = self.stack.spare()
            self.change("add", f"{spare.name}=redis://{spare.host}:{spare.port}")
            self.change("remove", spare.name)
            self.spare = None
            self.stack.stop_one(spare.name)

    def change(self, *words: str) -> None:
        before = self.version()
        deadline = time.monotonic() + 120
        while self.version() < before + 2:
            if time.monotonic() > deadline:
                raise RuntimeError(f"visitctl shards {' '.join(words)} comes to no end")
            self.visitctl = subprocess.Popen([str(VISITCTL), "--config", str(self.stack.settings_file), "shards", *words], stdout=subprocess.DEVNULL)
            if self.visitctl.wait(120) != 0:
                time.sleep(0.1)
        self.changes += 1

    def version(self) -> int:
        """Of the layout: a change makes two. Waits until the flusher says it."""
        while (said := self.stack.visitctl("shards", "moves", "--json", check=False)).returncode != 0:
            time.sleep(0.05)
        return json.loads(said.stdout)["version"]


class Kills(threading.Thread):
    """Kills flusher, shards, and who adds and removes them, so many a second, until it is told to stop."""

    def __init__(self, stack: Stack, a_second: float, moves: Moves | None):
        super().__init__()
        self.stack, self.pause_s, self.moves = stack, 1 / a_second, moves
        self.over = threading.Event()
        self.kills = 0

    def run(self) -> None:
        while not self.over.wait(self.pause_s * random.uniform(0.5, 1.5)):
            spare = self.moves.spare if self.moves else None
            name = random.choice(["flusher", "visitctl", *(shard.name for shard in self.stack.shards), *([spare.name] if spare else [])])
            self.kills += 1
            if name != "visitctl":
                self.stack.kill9(name)
            elif self.moves and self.moves.visitctl:
                self.moves.visitctl.kill()


class Waits(threading.Thread):
    """How long the oldest batch without an answer has waited at most, until it is told to stop."""

    PAUSE_S = 0.5

    def __init__(self, stack: Stack):
        super().__init__()
        self.stack = stack
        self.over = threading.Event()
        self.longest_s = 0.0

    def run(self) -> None:
        while not self.over.wait(self.PAUSE_S):
            said = self.stack.visitctl("shards", "list", "--json", check=False)
            if said.returncode == 0:
                waits = [row.get("oldest_wait_ms") or 0 for row in json.loads(said.stdout)["shards"]]
                self.longest_s = max(self.longest_s, *(wait / 1000 for wait in waits))


class Phases:
    def __init__(self, stack: Stack, seconds: float, kills_a_second: float):
        self.stack = stack
        self.milliseconds = int(1000 * seconds)
        self.kills_a_second = kills_a_second
        self.kills = 0
        self.unknown: dict[str, list[int]] = {"nothing moves": [], "buckets move": []}  # reads without a count
        self.longest_wait_s: dict[str, float] = {}
        self.visits = 0  # that were acknowledged
        self.changes = 0

    def run_load(self) -> tuple[Latencies, int]:
        """Returns also how many reads got no count."""
        latencies: Latencies = {key: [] for key in FIGURES.values()}
        with concurrent.futures.ThreadPoolExecutor() as threads:
            post = threads.submit(load, self.stack.port, request("POST", "/visit/page-####"), SERVED, latencies_us=latencies["post"],
                                  connections=16, milliseconds=self.milliseconds, rate=VISITS_A_SECOND, first=self.visits)  # fmt: skip
            reads = [threads.submit(load, self.stack.port, request("GET", path), SERVED, all_200=self.kills_a_second == 0,
                                    latencies_us=latencies[key], connections=4, milliseconds=self.milliseconds, rate=READS_A_SECOND)
                     for key, path in (("warm", "/visits/page-00##"), ("cold", "/visits/page-####"))]  # fmt: skip
            self.visits += int(post.result()["requests"])
            found = [read.result() for read in reads]
        return latencies, sum(int(read["requests"] - read.get("status_200", 0)) for read in found)

    def run(self, moves: Moves | None = None) -> Latencies:
        killer = Kills(self.stack, self.kills_a_second, moves) if self.kills_a_second else None
        waits = Waits(self.stack)
        others = [thread for thread in (killer, moves, waits) if thread]
        for thread in others:
            thread.start()
        latencies, unknown = self.run_load()
        for thread in others:  # the last change comes to its end undisturbed
            thread.over.set()
            thread.join()
        phase = "buckets move" if moves else "nothing moves"
        self.changes += moves.changes if moves else 0
        self.kills += killer.kills if killer else 0
        self.unknown[phase].append(unknown)
        self.longest_wait_s[phase] = max(self.longest_wait_s.get(phase, 0.0), waits.longest_s)
        return latencies

    def wrong(self) -> int:
        """Visits that were lost, or counted twice."""
        held = self.stack.redis_counts()
        expected = {f"page-{page:04}": 1 + (self.visits - page + PAGES - 1) // PAGES for page in range(PAGES)}
        return sum(abs(held.get(page, 0) - count) for page, count in expected.items())


def percentile(phases: list[list[float]], percent: int) -> float:
    """Of all their latencies together, in milliseconds."""
    together = sorted(latency for phase in phases for latency in phase)
    return together[min(len(together) * percent // 100, len(together) - 1)] / 1000


def fill(stack: Stack) -> None:
    names = [f"page-{page:04}" for page in range(PAGES)] + [f"other/{page:08}" for page in range(OTHER_PAGES)]
    for first in range(0, len(names), LIST):
        answer = stack.ask("POST", "/visits", json.dumps(names[first : first + LIST]).encode())
        assert answer.status == 200, answer
    stack.flush()


def main() -> None:
    seconds, rounds, kills_a_second = argument(1, 10), int(argument(2, 4)), argument(3, 0)
    settings = SETTINGS | {"flusher": {"flush_interval_ms": 1000, "commit_interval_ms": 200}}
    os.sched_setaffinity(0, OTHERS)  # and so whatever is started from here
    tempfile.tempdir = "/dev/shm"
    with Stack(frontends=2, settings=settings, supervised=True) as stack:
        for name in ("frontend_1", "frontend_2"):
            pin(stack.processes[name].pid, SERVED)
        fill(stack)
        phases = Phases(stack, seconds, kills_a_second)
        with awake(60 + rounds * (2 * seconds + 120)):
            phases.run_load()
            pairs = [(phases.run(), phases.run(Moves(stack))) for _ in range(rounds)]
        wait_for("a flush", lambda: stack.visitctl("flush", check=False).returncode == 0, 60)
        wrong = phases.wrong()
    show("shards added or removed", phases.changes, "changes")
    if kills_a_second:
        show("killed", phases.kills, "times")
        for phase, unknown in phases.unknown.items():
            show(f"reads without a count, {phase}", sum(unknown), f"of {2 * rounds * int(seconds * READS_A_SECOND)}")
    for name, key in FIGURES.items():
        alone, beside = ([phase[key] for phase in side] for side in zip(*pairs))
        for percent in (50, 99):
            figure = f"{name}: p{percent}"
            show(f"{figure}, nothing moves", percentile(alone, percent), "ms")
            show(f"{figure}, buckets move", percentile(beside, percent), "ms")
            judge(f"{figure}, buckets move / nothing moves", percentile(beside, percent) / percentile(alone, percent), most=MOST)
            if rounds > 1:
                show(f"{figure}, nothing moves, every second phase / others", percentile(alone[1::2], percent) / percentile(alone[::2], percent), "x")
    for phase, longest_s in phases.longest_wait_s.items():
        judge(f"longest wait of a batch, {phase}", longest_s, most=MOST_WAIT_S, unit="s")
    show("visits lost, or counted twice", wrong, f"visits of {phases.visits}")
    if wrong:
        raise SystemExit("the counts are not exact")


if __name__ == "__main__":
    main()
