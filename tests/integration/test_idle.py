#!/usr/bin/env python3
"""Who has nothing to do sleeps: a frontend wakes at most twice a second, the flusher at most five times; and a host that has nothing to
do costs a shard less than two commands a second."""

import contextlib
import time
import unittest
from pathlib import Path

from harness import Redis, Stack, wait_for

WINDOW_S = 4.0
WINDOWS = 6  # at most; the least counts, so that what else runs on the machine cannot fail it
MOST_A_SECOND = {"flusher": 5.0, "frontend_1": 2.0, "frontend_2": 2.0}
MOST_COMMANDS_A_SECOND = 2.0
COMMANDS_WINDOW_S = 25.0


def switches(pid: int) -> int:
    """How often all threads of a process gave up a processor of their own accord, which is once for each time they were woken."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += int(status.read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def commands(redis: Redis) -> dict[str, int]:
    """How often a server has executed each command, those in scripts among them; INFO as often as somebody else asked."""
    lines = redis("INFO", "commandstats").splitlines()
    return {line[len("cmdstat_"):line.index(":")]: int(line.split("calls=")[1].split(",")[0]) for line in lines if line.startswith("cmdstat_")}


class Idle(unittest.TestCase):
    def test_an_idle_host_costs_a_shard_less_than_two_commands_a_second(self):
        # Intervals as they are by default.
        with Stack(frontends=2, settings={"flusher": {"flush_interval_ms": 30_000, "commit_interval_ms": 1000}}) as stack:
            for number in range(50):
                stack.post(f"page-{number}")
            stack.flush()
            for number in range(50):
                self.assertEqual(stack.get(f"page-{number}"), 1)
            with contextlib.ExitStack() as open_clients:
                clients = {shard.name: open_clients.enter_context(shard.client()) for shard in stack.shards}
                before = {name: commands(client) for name, client in clients.items()}
                begun = time.monotonic()
                time.sleep(COMMANDS_WINDOW_S)
                after = {name: commands(client) for name, client in clients.items()}
                seconds = time.monotonic() - begun
            for name in clients:
                made = {command: count - before[name].get(command, 0) for command, count in after[name].items()}
                made = {command: count for command, count in made.items() if count}
                made["info"] -= 1  # the one before
                rate = sum(made.values()) / seconds
                print(f"{name}: {rate:.2f} commands/s: {made}", flush=True)
                self.assertLess(rate, MOST_COMMANDS_A_SECOND)
                self.assertGreater(rate, 0.2)  # it looks at the shard all the same

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
