#!/usr/bin/env python3
"""The flush of many pages to three primaries of a cluster beside that to three plain shards: in turn, the median of each.

Argument: pages of a flush (100000). Prints lines "name value unit".
"""

import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import Client, Stack  # noqa: E402
from redis_cluster import ClusterStack  # noqa: E402

FLUSHES = 9
MOST = 1.2  # times as long
# None flushes by itself meanwhile.
SETTINGS = {"ring": {"lane_bytes": 64 << 20}, "flusher": {"flush_interval_ms": 3_600_000, "commit_interval_ms": 200, "memory_limit_bytes": 1 << 30}}
LIST = 10_000


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<66} {value:10.2f} {unit}", flush=True)


def flush_s(stack: Stack, pages: int) -> float:
    with Client(stack.port) as client:
        for first in range(0, pages, LIST):
            body = json.dumps([f"page-{number}" for number in range(first, min(first + LIST, pages))]).encode()
            answer = client.ask("POST", "/visits", body)
            assert answer.status == 200, answer
    begun = time.monotonic()
    stack.visitctl("flush", limit_s=300)
    return time.monotonic() - begun


def main() -> int:
    pages = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with Stack(frontends=1, shards=3, settings=SETTINGS) as shards, ClusterStack(replicas=0, settings=SETTINGS) as cluster:
        took: dict[str, list[float]] = {"three shards": [], "three primaries": []}
        for _ in range(FLUSHES):
            took["three shards"].append(flush_s(shards, pages))
            took["three primaries"].append(flush_s(cluster, pages))
        for name, times in took.items():
            show(f"flush of {pages} pages to {name}", statistics.median(times) * 1000, "ms")
        ratio = statistics.median(took["three primaries"]) / statistics.median(took["three shards"])
        show("of a cluster, times that of shards", ratio, "")
        return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
