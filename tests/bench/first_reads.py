#!/usr/bin/env python3
"""How long the first reads wait after a start: of the flusher, of a frontend, of both, and of a flusher that was killed.

A client asks for a page that nobody asked for before as soon as a frontend listens and the flusher's process runs; the figure is
from there to the answer, the start of the flusher's process included where it is what starts. Argument: starts of each kind (20).
"""

import http.client
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import Client, Stack, remove_segments_of, wait_for  # noqa: E402

MOST_MS = 50.0


def first_read_ms(stack: Stack, page: str) -> float:
    """Until the count is known; refusals are asked again at once, as no client would, and count as waiting."""
    begun = time.monotonic()
    while True:
        try:
            with Client(stack.port) as client:
                status = client.ask("GET", f"/visits/{page}").status
        except (OSError, http.client.HTTPException):
            status = 0
        if status == 200:
            return (time.monotonic() - begun) * 1000
        assert time.monotonic() < begun + 30, f"no count within 30 s: {status}"


def wait_until_listening(stack: Stack) -> None:
    process = stack.processes["frontend_1"]
    wait_for("the frontend listens", lambda: stack.listens(process.pid), pause_s=0.001)


def end(stack: Stack, *names: str) -> None:
    for name in names:
        stack.kill9(name)


def forget(stack: Stack) -> None:
    """The ring and the cache are gone, as after a boot."""
    for path in stack.runtime_directory.iterdir():
        path.unlink()
    remove_segments_of(stack._pids)


def measure(stack: Stack, starts: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"flusher": [], "frontend": [], "both, frontend first": [], "both, flusher first": [], "killed flusher": []}
    for number in range(starts):
        for kind, times in found.items():
            page = f"{kind.replace(' ', '-').replace(',', '')}-{number}"
            if kind == "frontend":
                end(stack, "frontend_1")
                stack.start_one("frontend_1")
            elif kind == "killed flusher":
                end(stack, "flusher")
                stack.start_one("flusher")
            else:
                end(stack, "flusher", "frontend_1")
                forget(stack)
                order = ["flusher", "frontend_1"] if kind == "both, flusher first" else ["frontend_1", "flusher"]
                stack.start_one(order[0])
                if kind == "flusher":
                    wait_until_listening(stack)
                    time.sleep(0.1 + number % 10 / 10)  # at any moment of the frontend's second
                stack.start_one(order[1])
            wait_until_listening(stack)
            times.append(first_read_ms(stack, page))
    return found


def main() -> None:
    starts = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    failed = False
    with Stack(frontends=1, settings={"flusher": {"flush_interval_ms": 30_000, "commit_interval_ms": 1000}}) as stack:
        for kind, times in measure(stack, starts).items():
            median, most = statistics.median(times), max(times)
            failed |= median > MOST_MS
            print(f"{'first read after a start of: ' + kind:60} median {median:6.1f} ms, most {most:6.1f} ms (median at most {MOST_MS:.0f})", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
