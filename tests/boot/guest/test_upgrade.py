#!/usr/bin/env python3
"""The package is upgraded while visits come, to a version with other layouts of shared memory and spool: no connection is refused, nothing
is lost, and the new programs run."""

import os
import unittest
from pathlib import Path

from guest import FRONTENDS, PACKAGES, PRIVATE_PORT, SERVICES, Traffic, ask, is_active, journal, main_pid, run, show, wait_for


SEGMENTS = [Path("/run/visitd/rings"), Path("/run/visitd/cache")]


def since(unit: str) -> int:
    return int(show(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"])


class Upgrade(unittest.TestCase):
    def test_an_upgrade_under_load_refuses_no_connection_and_loses_nothing(self):
        before = {unit: main_pid(unit) for unit in SERVICES}
        segments = [path.read_text() for path in SEGMENTS]
        version = run("dpkg-deb", "--field", str(PACKAGES["following"]), "Version").strip()
        with Traffic("upgraded", pages=4) as traffic:
            traffic.wait_for_more()
            said = run("dpkg", "--install", str(PACKAGES["following"]))
            traffic.wait_for_more()
        self.assertEqual(traffic.refused_connections, 0, said)
        # A frontend that leaves the ring of the version before puts visits off, until it is started again.
        self.assertEqual([reason for reason in traffic.not_taken if not reason.startswith("503 ")], [], journal())
        print(f"\nupgraded: {traffic.total} visits, put off: {sum(traffic.not_taken.values())}", flush=True)
        traffic.check_redis()
        for path, former in zip(SEGMENTS, segments):
            self.assertNotEqual(path.read_text(), former, f"{path}: the layouts are equal")
        for unit in [*FRONTENDS, "visit-flusher.service"]:
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
        # Frontends leave the former ring after the flusher: not before.
        self.assertLess(since("visit-flusher.service"), min(since(unit) for unit in FRONTENDS))
        for unit in [*FRONTENDS, "visit-flusher.service"]:
            self.assertNotEqual(main_pid(unit), before[unit], f"{unit} was not restarted: {said}")
            self.assertNotIn("(deleted)", os.readlink(f"/proc/{main_pid(unit)}/exe"), unit)
        for unit in ("visit-redis@7070.service", "visit-redis@7071.service"):
            self.assertEqual(main_pid(unit), before[unit], f"{unit} was restarted: {said}")
        self.assertIn(f'visitd_build_info{{version="{version}"}} 1', ask("GET", "/metrics", port=PRIVATE_PORT).body.decode())


if __name__ == "__main__":
    unittest.main()
