#!/usr/bin/env python3
"""How long `visitctl export` takes for a million pages, next to HSCAN of the same hashes by a plain client in the same run; and
which part of their time the shards spend on it.

    VISITD_BUILD_ROOT=build python3 tests/bench/pages_bench.py [PAGES]
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "integration"), str(Path(__file__).parents[1] / "lib")]

from harness import VISITCTL, Stack  # noqa: E402

PAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
AT_ONCE = 64


def fill(stack: Stack, buckets: list[str]) -> None:
    """Each page in some bucket: a list takes them from where they are."""
    places = {}
    for shard in stack.shards:
        with shard.client() as redis:
            for key in redis("KEYS", "visits:{*}"):
                places.setdefault(key, shard)
    number = 0
    each = -(-PAGES // len(buckets))
    for shard in stack.shards:
        with shard.client() as redis:
            keys = [key for key in buckets if places[key] is shard]
            for start in range(0, len(keys), AT_ONCE):
                commands = []
                for key in keys[start : start + AT_ONCE]:
                    pages = range(number, min(number + each, PAGES))
                    number += each
                    if pages:
                        commands.append(("HSET", key, *(word for page in pages for word in (f"blog/2026/page-{page}", str(page % 1000)))))
                redis.pipeline(commands)


def scanned(stack: Stack) -> tuple[float, int]:
    """Seconds and fields of HSCAN over all hashes, one client a shard, one shard after the other."""
    begun, fields = time.monotonic(), 0
    for shard in stack.shards:
        with shard.client() as redis:
            keys = [key for key in redis("KEYS", "visits:{*}")]
            for start in range(0, len(keys), AT_ONCE):
                for cursor, some in redis.pipeline([("HSCAN", key, "0", "COUNT", "500") for key in keys[start : start + AT_ONCE]]):
                    assert cursor == "0", "a bucket is larger than this compares"
                    fields += len(some) // 2
    return time.monotonic() - begun, fields


def busy_us(stack: Stack) -> list[int]:
    """Microseconds that each shard has spent on HSCAN and HMGET."""
    spent = []
    for shard in stack.shards:
        with shard.client() as redis:
            lines = redis("INFO", "commandstats").splitlines()
        spent.append(sum(int(line.split("usec=")[1].split(",")[0]) for line in lines if line.startswith(("cmdstat_hscan", "cmdstat_hmget"))))
    return spent


def exported(stack: Stack, rate: int) -> tuple[float, float]:
    """Seconds of an export, and the largest part of its time that a shard spent on it."""
    stack.settings["flusher"]["scan_pages_per_s"] = rate
    stack.write_settings()
    os.kill(stack.processes["flusher"].pid, signal.SIGHUP)
    time.sleep(1)
    before, begun = busy_us(stack), time.monotonic()
    with (stack.folder / "export.csv").open("wb") as out:
        subprocess.run([str(VISITCTL), "--config", str(stack.settings_file), "export", "--format", "csv"], stdout=out, check=True)
    took = time.monotonic() - begun
    with (stack.folder / "export.csv").open("rb") as lines:
        pages = sum(line.startswith(b'"') for line in lines)
    assert pages == PAGES, f"{pages} pages instead of {PAGES}"
    return took, max(after - spent for spent, after in zip(before, busy_us(stack))) / 1e6 / took


def main() -> None:
    with Stack(frontends=1, settings={"redis": {"buckets": 8192}}) as stack:
        fill(stack, [f"visits:{{{bucket}}}" for bucket in range(8192)])
        scan_s, fields = scanned(stack)
        print(f"HSCAN of {fields} fields by a plain Python client: {scan_s:.2f} s", flush=True)
        for rate in (80_000, 100_000_000):
            took, share = exported(stack, rate)
            print(f"visitctl export of {PAGES} pages, flusher.scan_pages_per_s {rate}: {took:.2f} s, {took / scan_s:.2f} times as long; "
                  f"a shard spent {100 * share:.1f} % of its time on it", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
