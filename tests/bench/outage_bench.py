#!/usr/bin/env python3
"""Reads and visits with the flusher running, and with it stopped, under about 20,000 visits a second; and a frontend's memory.

Needs wrk. VISITD_BUILD_ROOT names the build folder; argument: seconds a phase (30). Prints lines "name value unit".
"""

import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import Client, Stack, wait_for  # noqa: E402

PAGES = 1000
VISITS_A_SECOND = 20_000
# wrk waits whole milliseconds: this many connections that wait one between two visits come near the rate.
CONNECTIONS = 33
POSTS = """
local page = 0
request = function()
  page = (page * 7 + 13) %% %(pages)d
  return wrk.format("POST", "/visit/page-" .. page)
end
delay = function() return 1 end
"""
GETS = """
local page = 0
request = function()
  page = (page * 11 + 17) %% %(pages)d
  return wrk.format("GET", "/visits/page-" .. page)
end
delay = function() return 1 end
"""


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<66} {value:10.2f} {unit}", flush=True)


def wrk(stack: Stack, script: Path, connections: int, seconds: float) -> subprocess.Popen:
    # fmt: off
    return subprocess.Popen(["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script),
                             f"http://127.0.0.1:{stack.port}/"], stdout=subprocess.PIPE, text=True)
    # fmt: on


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def result(run: subprocess.Popen) -> tuple[float, float]:
    """Requests a second, and the 99th percentile in ms."""
    out, _ = run.communicate()
    if "Non-2xx" in out:
        raise RuntimeError(f"not all were answered 200:\n{out}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), milliseconds(re.search(r"^\s+99%\s+(\S+)", out, re.MULTILINE)[1])


def check_reads(stack: Stack, page: str, until: float, counts: dict[str, int], done: list[int]) -> None:
    """Visits and reads one page of its own, in turn: every read must be exact."""
    with Client(stack.port) as client:
        while time.monotonic() < until:
            if client.ask("POST", f"/visit/{page}").status == 200:
                counts[page] += 1
            answer = client.ask("GET", f"/visits/{page}")
            if answer.status != 200 or answer.json()["count"] != counts[page]:
                raise RuntimeError(f"{page}: {answer}, {counts[page]} were acknowledged")
            done[0] += 1
            time.sleep(0.002)


def phase(stack: Stack, scripts: tuple[Path, Path], seconds: float, counts: dict[str, int]) -> tuple[float, float, float, int]:
    """Visits a second, p99 of visits, p99 of reads, reads that were checked."""
    checked = [0]
    until = time.monotonic() + seconds
    checkers = [threading.Thread(target=check_reads, args=(stack, page, until, counts, checked)) for page in counts]
    runs = [wrk(stack, scripts[0], CONNECTIONS, seconds), wrk(stack, scripts[1], 2, seconds)]
    for checker in checkers:
        checker.start()
    (rate, post_p99), (_, get_p99) = (result(run) for run in runs)
    for checker in checkers:
        checker.join()
    return rate, post_p99, get_p99, checked[0]


def rss_anon_mib(pid: int) -> float:
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def bench_outage(seconds: float, folder: Path) -> None:
    scripts = (folder / "posts.lua", folder / "gets.lua")
    scripts[0].write_text(POSTS % {"pages": PAGES})
    scripts[1].write_text(GETS % {"pages": PAGES})
    with Stack(frontends=2, settings={"ring": {"lane_bytes": 32 << 20}, "flusher": {"flush_interval_ms": 30000, "commit_interval_ms": 1000},
                                      "cache": {"entries": 65536, "flusher_away_ms": 1000}}) as stack:  # fmt: skip
        with Client(stack.port) as client:
            for page in range(PAGES):
                client.ask("GET", f"/visits/page-{page}")
        counts = {f"own-{random.randrange(1 << 30)}": 0 for _ in range(2)}
        for page in counts:
            stack.get(page)
        phase(stack, scripts, 2, counts)
        rate, post, get, _ = phase(stack, scripts, seconds, counts)
        show("flusher running: visits", rate, "1/s")
        stack.pause("flusher")
        time.sleep(1.2)  # until the frontends see that it is away
        stopped_rate, stopped_post, stopped_get, checked = phase(stack, scripts, seconds, counts)
        stack.resume("flusher")
        show("flusher stopped: visits", stopped_rate, "1/s")
        show("p99 of POST, running", post, "ms")
        show("p99 of POST, stopped", stopped_post, "ms")
        show("p99 of POST, stopped / running (at most 2)", stopped_post / post, "x")
        show("p99 of GET, running", get, "ms")
        show("p99 of GET, stopped", stopped_get, "ms")
        show("p99 of GET, stopped / running (at most 2)", stopped_get / get, "x")
        show("reads checked while it was stopped, every one exact", checked, "reads")
        stack.flush()
        for page, count in counts.items():
            assert stack.redis_counts()[page] == count


def bench_memory(folder: Path) -> None:
    script = folder / "posts.lua"
    script.write_text((POSTS % {"pages": PAGES}).replace("delay = function() return 1 end", ""))
    with Stack(frontends=1, settings={"ring": {"lane_bytes": 32 << 20}}) as stack:
        pid = stack.processes["frontend_1"].pid
        sizes = []
        requests = 0
        while requests < 2_000_000:
            rate, _ = result(wrk(stack, script, 64, 5))
            requests += int(rate * 5)
            sizes.append((requests, rss_anon_mib(pid)))
        first = next(size for count, size in sizes if count >= 1_000_000)
        show("a frontend's own memory after a million requests (at most 12)", first, "MiB")
        show("and after two million", sizes[-1][1], "MiB")
        wait_for("the flusher has applied all", lambda: stack.status()["frontends"][0]["unapplied_bytes"] == 0, 20)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30
    with tempfile.TemporaryDirectory(prefix="visitd-bench-") as folder:
        bench_memory(Path(folder))
        bench_outage(seconds, Path(folder))


if __name__ == "__main__":
    main()
