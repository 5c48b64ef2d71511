#!/usr/bin/env python3
"""One of two shards is killed and stays away while 5,000 visits a second come: what is lost, what clients and the pages of the other
shard notice, and how soon the shard has caught up after its return. No core sleeps, see rig.awake.

VISITD_BUILD_ROOT names the build folder, VISITD_OUTAGE_S says how long the shard is away (20). Prints lines "name value unit", and ends
with an error if a visit is lost or counted twice, or the shard takes too long to catch up.
"""

import concurrent.futures
import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "http"))
from rig import SETTINGS, Stack, awake, judge, load, request, show, wait_for  # noqa: E402

AWAY_S = float(os.environ.pop("VISITD_OUTAGE_S", "20"))
# Of the time with both shards, before and after.
BESIDE_S = min(AWAY_S / 2, 60.0)
FLUSH_INTERVAL_S = min(30.0, AWAY_S / 10)
CATCH_UP_S = 30.0
PAGES = 10_000
VISITS_A_SECOND, READS_A_SECOND = 5000, 250
# Pages that are read come in families, "read-17-0" to "read-17-9": of some thousands, one has all its pages on one shard.
FAMILY, FAMILIES_AT_ONCE, MOST_FAMILIES = 10, 2000, 40_000
CORES = set(range(os.cpu_count() or 1))


@dataclass
class Found:
    """What a phase was like."""

    post: dict[str, float] = field(default_factory=dict)
    living: dict[str, float] = field(default_factory=dict)  # reads of pages of the shard that stays
    away: dict[str, float] = field(default_factory=dict)
    oldest_wait_ms: float = 0.0  # of the shard that stays, the longest


class Outage:
    def __init__(self, stack: Stack):
        self.stack = stack
        self.away, self.living = stack.shards
        self.visits = 0  # that were acknowledged
        self.families: dict[str, str] = {}  # by the shard's name, how the names of its pages begin

    def choose_families(self) -> None:
        """One family of pages on each shard; all their counts are known from now on."""
        for first in range(0, MOST_FAMILIES, FAMILIES_AT_ONCE):
            numbers = range(first, first + FAMILIES_AT_ONCE)
            names = [f"read-{number}-{member}" for number in numbers for member in range(FAMILY)]
            for begin in range(0, len(names), 1000):
                answer = self.stack.ask("POST", "/visits", json.dumps(names[begin : begin + 1000]).encode())
                assert answer.status == 200, answer
            self.stack.flush()
            places = {page: shard for page, (shard, _) in self.stack.redis_places().items()}
            for number in numbers:
                shards = {places[f"read-{number}-{member}"] for member in range(FAMILY)}
                if len(shards) == 1:
                    self.families[shards.pop()] = f"read-{number}-"
            if len(self.families) == len(self.stack.shards):
                break
        for name in self.families.values():
            for member in range(FAMILY):
                wait_for("a count is known", lambda page=f"{name}{member}": self.stack.shows(page, 1))

    def shard_row(self, name: str) -> dict:
        return next(row for row in self.stack.status("shards", "list")["shards"] if row["name"] == name)

    def phase(self, seconds: float) -> Found:
        """Visits, and reads of pages of both shards, at steady rates; all must be answered with success."""
        milliseconds = int(1000 * seconds)
        found = Found()

        def read(shard) -> dict[str, float]:
            return load(self.stack.port, request("GET", f"/visits/{self.families[shard.name]}#"), CORES, connections=4,
                        milliseconds=milliseconds, rate=READS_A_SECOND)  # fmt: skip

        with concurrent.futures.ThreadPoolExecutor() as threads:
            post = threads.submit(load, self.stack.port, request("POST", "/visit/page-####"), CORES, connections=16,
                                  milliseconds=milliseconds, rate=VISITS_A_SECOND, first=self.visits)  # fmt: skip
            living, away = threads.submit(read, self.living), threads.submit(read, self.away)
            while not post.done():
                time.sleep(min(2.0, FLUSH_INTERVAL_S / 4))
                found.oldest_wait_ms = max(found.oldest_wait_ms, self.shard_row(self.living.name).get("oldest_wait_ms") or 0)
            found.post, found.living, found.away = post.result(), living.result(), away.result()
        self.visits += int(found.post["requests"])
        return found

    def expected(self, visits: int) -> dict[str, int]:
        return {f"page-{page:04}": (visits - page + PAGES - 1) // PAGES for page in range(PAGES) if visits > page}

    def held(self) -> dict[str, int]:
        return {page: count for page, count in self.stack.redis_counts().items() if page.startswith("page-")}

    def catch_up(self, visits: int) -> float:
        """Starts the shard again, and returns how long it took from its first answer until it holds what was counted before.

        Not what the other shard is to hold, which comes there at its own flush.
        """
        self.stack.start_one(self.away.name)
        self.stack.wait_for_shard(self.away)
        returned = time.monotonic()
        expected = self.expected(visits)

        def has_all_of_before() -> bool:
            places = self.stack.redis_places()
            its_own = {page: count for page, (shard, count) in places.items() if shard == self.away.name}
            return all(its_own[page] >= count for page, count in expected.items() if page in its_own)

        wait_for("the shard holds what was counted before", has_all_of_before, 300, 0.25)
        return time.monotonic() - returned

    def run(self) -> None:
        self.choose_families()
        self.phase(2.0)
        before = self.phase(BESIDE_S)
        self.stack.kill9(self.away.name)
        during = self.phase(AWAY_S)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            counted = self.visits
            phase = threads.submit(self.phase, BESIDE_S)
            caught_up_s = self.catch_up(counted)
            after = phase.result()
        self.stack.flush()
        held, expected = self.held(), self.expected(self.visits)
        show("visits counted", self.visits, "visits")
        show("visits lost", sum(max(0, count - held.get(page, 0)) for page, count in expected.items()), "visits")
        show("visits counted twice", sum(max(0, count - expected.get(page, 0)) for page, count in held.items()), "visits")
        show("visits counted while the shard was away", during.post["requests"], "visits")
        self.compare(before, during, after)
        judge("caught up after the shard's return", caught_up_s, most=CATCH_UP_S, unit="s")
        if held != expected:
            raise SystemExit("the counts are not exact")
        if caught_up_s > CATCH_UP_S:
            raise SystemExit("the shard took too long to catch up")

    def compare(self, before: Found, during: Found, after: Found) -> None:
        """Nothing of the living shard, and no visit, has to be slower meanwhile."""
        show("visits a second, both shards up", before.post["rate"], "1/s")
        judge("visits a second, shard away / both up", during.post["rate"] / before.post["rate"], least=0.9)
        for name in ("post", "living", "away"):
            what = {"post": "POST", "living": "GET of the living shard's pages", "away": "GET of the other's (known, stale)"}[name]
            first, second, third = (getattr(found, name) for found in (before, during, after))
            for figure in ("p50", "p99"):
                show(f"{what}: {figure}, both up", first[f"{figure}_us"] / 1000, "ms")
                judge(f"{what}: {figure}, shard away / both up", second[f"{figure}_us"] / first[f"{figure}_us"], most=1.1)
            show(f"{what}: p99 after its return", third["p99_us"] / 1000, "ms")
        show("the living shard's oldest wait, both up", before.oldest_wait_ms / 1000, "s")
        show("the living shard's oldest wait, shard away", during.oldest_wait_ms / 1000, "s")


def main() -> None:
    settings = SETTINGS | {"flusher": {"flush_interval_ms": int(1000 * FLUSH_INTERVAL_S), "commit_interval_ms": 1000}}
    with Stack(frontends=2, settings=settings) as stack, awake(120 + 3 * AWAY_S):
        Outage(stack).run()


if __name__ == "__main__":
    main()
