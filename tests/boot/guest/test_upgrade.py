#!/usr/bin/env python3
"""The package is upgraded while visits come: no connection is refused, nothing is lost, and the new programs run."""

import os
import unittest

from guest import FRONTENDS, PACKAGES, PRIVATE_PORT, SERVICES, Traffic, ask, is_active, journal, main_pid, run, wait_for


class Upgrade(unittest.TestCase):
    def test_an_upgrade_under_load_refuses_no_connection_and_loses_nothing(self):
        before = {unit: main_pid(unit) for unit in SERVICES}
        version = run("dpkg-deb", "--field", str(PACKAGES["following"]), "Version").strip()
        with Traffic("upgraded", pages=4) as traffic:
            traffic.wait_for_more()
            said = run("dpkg", "--install", str(PACKAGES["following"]))
            traffic.wait_for_more()
        self.assertEqual(traffic.refused_connections, 0, said)
        self.assertEqual(traffic.not_taken, {}, journal())
        traffic.check_redis()
        for unit in [*FRONTENDS, "visit-flusher.service"]:
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
            self.assertNotEqual(main_pid(unit), before[unit], f"{unit} was not restarted: {said}")
            self.assertNotIn("(deleted)", os.readlink(f"/proc/{main_pid(unit)}/exe"), unit)
        for unit in ("visit-redis@7070.service", "visit-redis@7071.service"):
            self.assertEqual(main_pid(unit), before[unit], f"{unit} was restarted: {said}")
        self.assertIn(f'visitd_build_info{{version="{version}"}} 1', ask("GET", "/metrics", port=PRIVATE_PORT).body.decode())


if __name__ == "__main__":
    unittest.main()
