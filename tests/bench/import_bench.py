#!/usr/bin/env python3
"""How long `visitctl import` takes for a million pages: to read them alone, until they are counted, and until Redis has them; and which
processor time visitctl and the flusher spend on it.

    VISITD_BUILD_ROOT=build python3 tests/bench/import_bench.py [PAGES [FORMAT]]
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "integration"), str(Path(__file__).parents[1] / "lib")]

from harness import VISITCTL, Stack  # noqa: E402

PAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
FORMAT = sys.argv[2] if len(sys.argv) > 2 else "csv"


def cpu_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(stack: Stack, *words: str) -> tuple[float, float, float]:
    """Seconds that visitctl takes, and processor time of visitctl and of the flusher meanwhile."""
    flusher = stack.processes["flusher"].pid
    before, own, begun = cpu_s(flusher), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([str(VISITCTL), "--config", str(stack.settings_file), *words], stdout=subprocess.DEVNULL, check=True)
    took, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime, cpu_s(flusher) - before


def main() -> None:
    # Both intervals as they are shipped.
    with Stack(frontends=1, settings={"redis": {"buckets": 8192}, "flusher": {"flush_interval_ms": 30_000, "commit_interval_ms": 1000}}) as stack:
        file = stack.folder / "counts"
        line = '"blog/2026/page-{0}",{1}\n' if FORMAT == "csv" else '{{"page":"blog/2026/page-{0}","count":{1}}}\n'
        with file.open("w") as out:
            out.writelines(line.format(number, number % 1000 + 1) for number in range(PAGES))
        steps = {
            "read, and count nothing": ("import", str(file), "--from", FORMAT, "--dry-run"),
            "import": ("import", str(file), "--from", FORMAT),
            "until Redis has it": ("flush", "--timeout", "300"),
            "import once more": ("import", str(file), "--from", FORMAT),
            "import --overwrite": ("import", str(file), "--from", FORMAT, "--overwrite", "--yes", "--timeout", "300"),
            "export": ("export", "--format", FORMAT),
        }
        for step, words in steps.items():
            took, own, flusher = timed(stack, *words)
            print(f"{PAGES} pages, {FORMAT}, {step}: {took:.2f} s; processor time of visitctl {own:.2f} s, of the flusher {flusher:.2f} s", flush=True)


if __name__ == "__main__":
    main()
