#!/usr/bin/env python3
"""A million pages from two shards to three, beside MIGRATE of the same keys by itself, in turn; and the Redis memory of a
page beside that of a string key of the same name. All of it in one run.

Argument: pages (1000000). Prints lines "name value unit".
"""

import json
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import Client, Shard, Stack  # noqa: E402

MOST_TIME = 1.5  # times MIGRATE
MOST_MEMORY = 0.5  # of a string key
SETTINGS = {"ring": {"lane_bytes": 64 << 20}, "flusher": {"flush_interval_ms": 3_600_000, "commit_interval_ms": 200, "memory_limit_bytes": 1 << 30}}
LIST = 10_000
KEYS_OF_A_MIGRATE = 10  # as redis-cli --cluster reshard does it
MIGRATE_TIMEOUT_MS = 60_000
ROUNDS = 3
SETTLE_S = 2


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<66} {value:10.2f} {unit}", flush=True)


def page(number: int) -> str:
    return f"articles/2026/{number:018d}"  # 32 bytes


def used(shard: Shard) -> int:
    with shard.client() as redis:
        return int(next(line for line in redis("INFO", "memory").splitlines() if line.startswith("used_memory:")).split(":")[1])


def count(stack: Stack, pages: int) -> None:
    with Client(stack.port) as client:
        for first in range(0, pages, LIST):
            body = json.dumps([page(number) for number in range(first, min(first + LIST, pages))]).encode()
            answer = client.ask("POST", "/visits", body)
            assert answer.status == 200, answer
    stack.visitctl("flush", limit_s=600)


def string_bytes(server: Shard, pages: int) -> int:
    before = used(server)
    with server.client() as redis:
        for first in range(0, pages, LIST):
            redis.pipeline([("SET", page(number), "1") for number in range(first, min(first + LIST, pages))])
    taken = used(server) - before
    with server.client() as redis:
        redis("FLUSHALL")
    return taken


def migrate_s(source: Shard, target: Shard) -> tuple[float, int]:
    """Copies what is there now to an empty server, bucket by bucket as MIGRATE does it."""
    with source.client() as redis:
        keys = redis("KEYS", "visits:{*}")
        begun = time.monotonic()
        for first in range(0, len(keys), KEYS_OF_A_MIGRATE):
            redis("MIGRATE", "127.0.0.1", target.port, "", 0, MIGRATE_TIMEOUT_MS, "COPY", "KEYS", *keys[first : first + KEYS_OF_A_MIGRATE])
        return time.monotonic() - begun, len(keys)


class Arrivals(threading.Thread):
    """Notes when a server's keys grew for the first and for the last time."""

    def __init__(self, server: Shard):
        super().__init__()
        self.server = server
        self.keys = 0
        self.first = self.last = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        with self.server.client() as redis:
            while not self.over.wait(0.005):
                keys = int(redis("DBSIZE"))
                if keys <= self.keys:
                    continue
                self.keys, self.last = keys, time.monotonic()
                self.first = self.first or self.last

    def end(self) -> None:
        self.over.set()
        self.join()


def one_round(stack: Stack, peer: Shard) -> float:
    """Adds a third shard, and does with MIGRATE what came to it; then removes the shard. Returns how many times MIGRATE it took."""
    third = stack.spare()
    begun = time.monotonic()
    arrivals = Arrivals(third)
    arrivals.start()
    stack.visitctl("shards", "add", f"{third.name}=redis://{third.host}:{third.port}", limit_s=600)
    took_s = time.monotonic() - begun
    arrivals.end()
    moved_s = arrivals.last - arrivals.first
    alone_s, buckets = migrate_s(third, peer)
    show(f"{buckets} buckets to a third shard, until all are there", moved_s, "s")
    show("  the same keys by MIGRATE alone", alone_s, "s")
    show("  times MIGRATE", moved_s / alone_s, "")
    show("  the command as a whole, with the wait for the disk", took_s, "s")
    with peer.client() as redis:
        redis("FLUSHALL")
    stack.visitctl("shards", "remove", third.name, limit_s=600)
    time.sleep(SETTLE_S)  # the flusher begins anew with the two shards
    return moved_s / alone_s


def main() -> int:
    pages = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with Stack(frontends=1, shards=2, settings=SETTINGS) as stack:
        peer = stack.spare()
        as_strings = string_bytes(peer, pages)
        before = sum(map(used, stack.shards))
        count(stack, pages)
        ours = sum(map(used, stack.shards)) - before
        show(f"Redis memory of {pages} pages, each in a string key", as_strings / pages, "bytes a page")
        show("  counted by visitd", ours / pages, "bytes a page")
        show("  of a string key", ours / as_strings, "")
        times = [one_round(stack, peer) for _ in range(ROUNDS)]
    times_migrate = statistics.median(times)
    show(f"times MIGRATE, median of {ROUNDS}", times_migrate, "")
    return 0 if ours / as_strings <= MOST_MEMORY and times_migrate <= MOST_TIME else 1


if __name__ == "__main__":
    sys.exit(main())
