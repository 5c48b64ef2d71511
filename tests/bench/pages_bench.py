#!/usr/bin/env python3
"""How long `visitctl export`, `top` and `total` take for a million pages, next to HSCAN of the same hashes by a plain client in the
same run; which part of their time the shards spend on it; what the buckets' field of the sum takes of their memory; and what
keeping it costs the batch script, next to the script of another commit.

    VISITD_BUILD_ROOT=build python3 tests/bench/pages_bench.py [PAGES [COMMIT]]
"""

import json
import os
import signal
import statistics
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "integration"), str(Path(__file__).parents[1] / "lib")]

from harness import SOURCE_ROOT, VISITCTL, Stack  # noqa: E402

PAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
COMMIT = sys.argv[2] if len(sys.argv) > 2 else None  # whose batch.lua is compared
SCRIPT = "flusher/redis/batch.lua"
SUM = "\x01sum"
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


def asked(stack: Stack, command: str, argument: str = "") -> float:
    """Milliseconds until the flusher has answered, as a frontend or visitctl asks it; after the shards have rested."""
    time.sleep(2.5)
    request = {"command": command, "timeout_ms": 600_000} | ({"argument": argument} if argument else {})
    begun = time.monotonic()
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(stack.runtime_directory / "flusher.sock"))
        control.sendall(json.dumps(request).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            line += control.recv(1 << 20)
    answer = json.loads(line)
    assert answer["ok"] and answer["unknown"] == 0, answer
    return 1000 * (time.monotonic() - begun)


def memory(stack: Stack) -> tuple[int, int]:
    """Bytes of all buckets with the field of the sum, and without; the fields are gone afterwards."""
    sizes = []
    for _ in range(2):
        size = 0
        for shard in stack.shards:
            with shard.client() as redis:
                keys = redis("KEYS", "visits:{*}")
                for start in range(0, len(keys), 512):
                    size += sum(redis.pipeline([("MEMORY", "USAGE", key, "SAMPLES", "0") for key in keys[start : start + 512]]))
                    redis.pipeline([("HDEL", key, SUM) for key in keys[start : start + 512]])
        sizes.append(size)
    return sizes[0], sizes[1]


def script_us(redis, script: str, names: list[str], pages: int, held: int, with_sum: bool) -> float:
    """Microseconds of the server's time for a batch of so many pages, of a bucket that holds so many."""
    key, mark = "visits:{1}", "1-0000000000000abc {} 0000000000000000"
    redis("DEL", key)
    redis("HSET", key, "\x01id", "id 2", "\x01w:a", mark.format(0), *(word for page in range(held) for word in (f"blog/2026/page-{page}", "12345")))
    if with_sum:
        redis("HSET", key, SUM, f"{held + 3} 0 {12345 * held} 12345")
    digest = redis("SCRIPT", "LOAD", script)
    redis("CONFIG", "RESETSTAT")
    for answer in redis.pipeline([("EVALSHA", digest, "1", key, mark.format(seq), mark.format(seq + 1), "id 2", "", *["3"] * pages, *names,
                                   *(f"blog/2026/page-{page}" for page in range(pages))) for seq in range(100)]):  # fmt: skip
        assert answer.startswith("OK "), answer
    line = next(line for line in redis("INFO", "commandstats").splitlines() if line.startswith("cmdstat_evalsha:"))
    return float(line.split("usec_per_call=")[1].split(",")[0])


def compare_scripts(stack: Stack) -> None:
    """The least of 25 rounds, in which the scripts take turns."""
    names = ["\x01id", "\x01w:a", "\x01moved", "\x01moving", "\x01fix"]
    ours = (SOURCE_ROOT / SCRIPT).read_text()
    former = subprocess.run(["git", "-C", str(SOURCE_ROOT), "show", f"{COMMIT}:{SCRIPT}"], capture_output=True, text=True, check=True).stdout
    scripts = [(former, names, False), (ours, [*names, SUM], False), (ours, [*names, SUM], True)]
    with stack.shards[0].client() as redis:
        redis("FLUSHALL")
        for pages, held in ((12, 122), (1000, 1000)):
            rounds = [[script_us(redis, script, words, pages, held, with_sum) for script, words, with_sum in scripts] for _ in range(25)]
            before, without, kept = (min(times) for times in zip(*rounds))
            print(f"a batch of {pages} pages, bucket of {held}: {before:.0f} us with the script of {COMMIT}, {without / before:.2f} times as long "
                  f"without a field of the sum, {kept / before:.2f} times with one", flush=True)  # fmt: skip


def main() -> None:
    with Stack(frontends=1, settings={"redis": {"buckets": 8192}}) as stack:
        fill(stack, [f"visits:{{{bucket}}}" for bucket in range(8192)])
        scan_s, fields = scanned(stack)
        print(f"HSCAN of {fields} fields by a plain Python client: {scan_s:.2f} s", flush=True)
        for rate in (80_000, 100_000_000):
            took, share = exported(stack, rate)
            print(f"visitctl export of {PAGES} pages, flusher.scan_pages_per_s {rate}: {took:.2f} s, {took / scan_s:.2f} times as long; "
                  f"a shard spent {100 * share:.1f} % of its time on it", flush=True)  # fmt: skip
        stack.settings["flusher"]["scan_pages_per_s"] = 80_000
        stack.write_settings()
        os.kill(stack.processes["flusher"].pid, signal.SIGHUP)
        print(f"first total, which makes the fields: {asked(stack, 'total') / 1000:.1f} s", flush=True)
        for command, argument in (("total", ""), ("top", "100"), ("top", "1000")):
            times = [asked(stack, command, argument) for _ in range(5)]
            print(f"{command} {argument}: {statistics.median(times):.0f} ms (of five: {min(times):.0f} to {max(times):.0f})", flush=True)
        with_sum, without = memory(stack)
        print(f"the fields take {100 * (with_sum / without - 1):.1f} % more memory of the buckets", flush=True)
        if COMMIT:
            os.kill(stack.processes["flusher"].pid, signal.SIGSTOP)
            compare_scripts(stack)
            os.kill(stack.processes["flusher"].pid, signal.SIGCONT)


if __name__ == "__main__":
    main()
