#!/usr/bin/env python3
"""Who has nothing to do sleeps: a frontend wakes at most twice a second, the flusher at most five times."""

import time
import unittest
from pathlib import Path

from harness import Stack, wait_for

WINDOW_S = 4.0
WINDOWS = 6  # at most; the least counts, so that what else runs on the machine cannot fail it
MOST_A_SECOND = {"flusher": 5.0, "frontend_1": 2.0, "frontend_2": 2.0}


def switches(pid: int) -> int:
    """How often all threads of a process gave up a processor of their own accord, which is once for each time they were woken."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += int(status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


class Idle(unittest.TestCase):
    def test_who_has_nothing_to_do_sleeps(self):
        with Stack(frontends=2, settings={"flusher": {"flush_interval_ms": 30_000, "commit_interval_ms": 1000}, "redis": {}}) as stack:
            stack.post("home")
            stack.flush()
            self.assertEqual(stack.get("home"), 1)
            pids = {name: stack.processes[name].pid for name in MOST_A_SECOND}
            least = dict.fromkeys(MOST_A_SECOND, float("inf"))
            for _ in range(WINDOWS):
                begun = time.monotonic()
                before = {name: switches(pid) for name, pid in pids.items()}
                time.sleep(WINDOW_S)
                after = {name: switches(pid) for name, pid in pids.items()}
                seconds = time.monotonic() - begun
                for name in MOST_A_SECOND:
                    least[name] = min(least[name], (after[name] - before[name]) / seconds)
                if all(least[name] <= most for name, most in MOST_A_SECOND.items()):
                    break
            print({name: f"{rate:.2f}/s" for name, rate in least.items()}, flush=True)
            for name, most in MOST_A_SECOND.items():
                self.assertLessEqual(least[name], most, f"{name} wakes too often")
            # They sleep, and are not stuck: a visit wakes them.
            stack.post("home")
            self.assertEqual(stack.get("home"), 2)
            stack.flush()
            wait_for("it is counted", lambda: stack.redis_counts() == {"home": 2}, 20)


if __name__ == "__main__":
    unittest.main()
