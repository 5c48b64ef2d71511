#!/usr/bin/env python3
"""Whatever dies or stands still is back by itself, and every count is exact."""

import os
import signal
import unittest

from guest import BACK_LIMIT_S, SERVICES, Traffic, is_active, journal, main_pid, show, wait_for


class Heals(unittest.TestCase):
    def test_1_each_process_that_is_killed_is_back_with_exact_counts(self):
        with Traffic("killed") as traffic:
            for unit in SERVICES:
                with self.subTest(unit):
                    traffic.wait_for_more()
                    pid = main_pid(unit)
                    os.kill(pid, signal.SIGKILL)
                    wait_for(f"{unit} is back", lambda unit=unit, pid=pid: is_active(unit) and main_pid(unit) not in (0, pid))
                    # By systemd's own clock, which no slow test stands beside.
                    times = show(unit, "InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic", "ActiveExitTimestampMonotonic")
                    took_s = (int(times["ActiveEnterTimestampMonotonic"]) - int(times["ActiveExitTimestampMonotonic"])) / 1e6
                    print(f"\n{unit}: back after {took_s:.2f} s", flush=True)
                    self.assertGreater(took_s, 0, times)
                    self.assertLess(took_s, BACK_LIMIT_S, journal(unit))
            traffic.wait_for_more()
        traffic.check_redis()

    def test_2_a_flusher_that_stands_still_is_ended_and_the_next_one_counts_on(self):
        unit = "visit-flusher.service"
        with Traffic("stopped") as traffic:
            traffic.wait_for_more()
            pid = main_pid(unit)
            restarts = int(show(unit, "NRestarts")["NRestarts"])
            os.kill(pid, signal.SIGSTOP)
            # Visits go on meanwhile: they wait for no dead process.
            traffic.wait_for_more(30)
            wait_for("the watchdog starts another flusher", lambda: is_active(unit) and main_pid(unit) not in (0, pid))
            self.assertEqual(int(show(unit, "NRestarts")["NRestarts"]), restarts + 1)
            self.assertFalse(os.path.exists(f"/proc/{pid}/exe"), "the old flusher is still there")
            self.assertIn("watchdog", journal(unit).lower())
            traffic.wait_for_more()
        traffic.check_redis()


if __name__ == "__main__":
    unittest.main()
