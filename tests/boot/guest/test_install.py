#!/usr/bin/env python3
"""The package is installed on a Debian that runs, and counts."""

import os
import re
import time
import unittest

from guest import (EMULATED, FOLDER, FRONTENDS, LIMIT_S, PACKAGES, PRIVATE_PORT, SERVICES, TRIES, WAIT_S, ask, is_active, is_refused, journal,
                   main_pid, post, processes_of_visitd, run, show, wait_for, wait_for_count)  # fmt: skip


class Install(unittest.TestCase):
    def test_1_installing_leaves_a_counter_that_runs(self):
        run("apt-get", "install", "--yes", str(PACKAGES["current"]))
        for unit in ["visitd.target", "visitd.socket", "visitd-private.socket", *SERVICES]:
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
        post("home", 3)
        wait_for_count("home", 3)

    def test_2_it_is_confined_and_each_program_has_a_user_of_its_own(self):
        users = {unit: show(unit, "User", "Group", "NoNewPrivileges", "ProtectSystem") for unit in SERVICES}
        for unit, values in users.items():
            expected = {"f": "visit-frontend", "l": "visit-flusher", "r": "visit-redis"}
            key = "l" if "flusher" in unit else "r" if "redis" in unit else "f"
            self.assertEqual((values["User"], values["NoNewPrivileges"], values["ProtectSystem"]), (expected[key], "yes", "strict"), unit)
            self.assertNotEqual(os.stat(f"/proc/{main_pid(unit)}").st_uid, 0, unit)

    @unittest.skipIf(EMULATED, "an emulated processor says nothing about time")
    def test_3_from_the_start_of_the_target_to_the_first_counted_visit(self):
        took_s: list[float] = []
        visits = 3
        while not took_s or (min(took_s) > LIMIT_S and len(took_s) < TRIES):
            run("systemctl", "stop", "visitd.target", "visitd.socket", "visitd-private.socket", "visitd.slice")
            self.assertEqual(processes_of_visitd(), [])
            before = time.monotonic()
            # The port is there before the frontends are: a visit waits for the first of them.
            run("systemctl", "start", "--no-block", "visitd.target")
            wait_for("a visit is taken", lambda: not is_refused() and post("home") is None, pause_s=0.005)
            took_s.append(time.monotonic() - before)
            visits += 1
        print(f"\nfrom systemctl start visitd.target to the first counted visit: {', '.join(f'{one:.2f}' for one in took_s)} s", flush=True)
        self.assertLess(min(took_s), LIMIT_S, journal())
        for unit in SERVICES:
            wait_for(f"{unit} runs again", lambda unit=unit: is_active(unit))
        wait_for_count("home", visits)

    def test_4_both_frontends_are_at_work(self):
        def up() -> int:
            return len(re.findall(r'^visitd_frontend_up\{lane="\d+"\} 1$', ask("GET", "/metrics", port=PRIVATE_PORT).body.decode(), re.MULTILINE))

        wait_for("two frontends are up", lambda: up() == len(FRONTENDS))

    def test_5_the_reboot_will_start_it(self):
        for unit in ("visitd.target", "visit-redis@7070.service", "visit-redis@7071.service"):
            self.assertEqual(run("systemctl", "is-enabled", unit).strip(), "enabled", unit)
        self.assertEqual(run("systemctl", "--failed", "--plain", "--no-legend", "list-units", "visit*").strip(), "")

    def test_6_the_packages_own_test_passes(self):
        self.assertIn("four visits were counted", run(str(FOLDER / "smoke"), limit_s=10 * WAIT_S))


if __name__ == "__main__":
    unittest.main()
