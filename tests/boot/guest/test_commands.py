#!/usr/bin/env python3
"""The commands that the documents name for an operator of the package, as they stand there, and what follows when settings are wrong."""

import os
import re
import unittest
from pathlib import Path

from guest import FRONTENDS, WAIT_S, Traffic, is_active, journal, main_pid, post, run, show, wait_for, wait_for_count

SETTINGS = Path("/etc/visitd/visitd.toml")
POLICY = Path("/usr/sbin/policy-rc.d")
ROLLING_RESTART = "/usr/libexec/visitd/rolling-restart"
RUNNING = ["visit-flusher.service", *FRONTENDS]
# One that fails as long as the settings are wrong starts again after 5 s; in this long it may not write more than a few lines.
LOOK_S = 10
LINES_LIMIT = 40  # of a unit; a fast loop wrote 400


def pids() -> dict[str, int]:
    return {unit: main_pid(unit) for unit in RUNNING}


class Commands(unittest.TestCase):
    def setUp(self):
        before = SETTINGS.read_text()
        self.addCleanup(SETTINGS.write_text, before)
        self.addCleanup(POLICY.unlink, missing_ok=True)

    def set(self, *lines: str) -> None:
        SETTINGS.write_text("\n".join(lines) + "\n")

    def test_1_a_reload_lets_all_of_them_read_their_settings_again(self):
        before = pids()
        self.set("[http]", "retry_after_s = 7", "[redis]", "held_recheck_ms = 777")
        run("systemctl", "reload", "visit-frontend@*", "visit-flusher")
        for unit, key in ((FRONTENDS[0], "http.retry_after_s"), (FRONTENDS[1], "http.retry_after_s"), ("visit-flusher", "redis.held_recheck_ms")):
            wait_for(f"{unit} read {key}", lambda unit=unit, key=key: re.search(rf"read the settings again: .*{key}", journal(unit)))
        self.assertEqual(pids(), before)
        # Wrong ones are told to whoever asks, and nobody is asked to read them.
        self.set("[ring]", "lanes = 0")
        for unit in ("visit-flusher", FRONTENDS[0]):
            run("systemctl", "reload", unit, check=False)
            self.assertEqual(show(unit, "ReloadResult")["ReloadResult"], "exit-code")
            wait_for("the journal names the setting", lambda unit=unit: "ring.lanes" in journal(unit))
        self.assertEqual(pids(), before)

    def test_2_the_journal_knows_warnings_from_the_rest(self):
        self.set("[ring]", "lanes = 4")  # cannot change while it runs
        run("systemctl", "reload", "visit-frontend@*", "visit-flusher")
        warnings = ("journalctl", "--no-pager", "-b", "-o", "cat", "-u", "visit*", "-p", "warning")
        wait_for("a warning", lambda: "ring.lanes" in run(*warnings))
        self.assertNotIn("serving as lane", run(*warnings))
        said = run("journalctl", "--no-pager", "-b", "-o", "cat", "-u", "visit*")
        self.assertRegex(said, re.compile(r"^serving as lane", re.MULTILINE))

    def test_3_a_restart_of_all_of_it_checks_the_settings_first(self):
        before = pids()
        self.set("[ring]", "lanes = 0")
        said = run(ROLLING_RESTART, check=False)
        self.assertIn("nothing was restarted", said)
        self.assertIn("lanes", said)
        self.assertEqual(pids(), before)

    def test_4_a_restart_of_all_of_it_goes_from_the_flusher_to_the_frontends_and_refuses_nobody(self):
        before = pids()
        run("systemctl", "stop", FRONTENDS[1])
        with Traffic("rolled") as traffic:
            traffic.wait_for_more()
            run(ROLLING_RESTART)
            traffic.wait_for_more()
        self.assertEqual((traffic.refused_connections, traffic.not_taken), (0, {}), journal())
        self.assertFalse(is_active(FRONTENDS[1]), "a unit that was stopped was started")
        run("systemctl", "start", FRONTENDS[1])
        since = {unit: int(show(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"]) for unit in RUNNING}
        self.assertLess(since["visit-flusher.service"], since[FRONTENDS[0]])
        self.assertEqual([unit for unit, pid in pids().items() if pid == before[unit]], [])

    def test_5_an_upgrade_restarts_nothing_that_the_policy_keeps(self):
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
        before = pids()
        run(ROLLING_RESTART, "--upgrade")
        self.assertEqual(pids(), before)
        POLICY.unlink()
        run(ROLLING_RESTART, "--upgrade")
        self.assertEqual([unit for unit, pid in pids().items() if pid == before[unit]], [])

    def test_6_a_disabled_frontend_stays_so(self):
        run("systemctl", "disable", "--now", "visit-frontend@2")
        run("systemctl", "restart", "visitd.target")
        wait_for("frontend 1 runs", lambda: is_active(FRONTENDS[0]))
        run(ROLLING_RESTART)
        run("dpkg-reconfigure", "visitd", check=False)
        self.assertFalse(is_active(FRONTENDS[1]))
        run("systemctl", "enable", "--now", "visit-frontend@2")
        self.assertTrue(is_active(FRONTENDS[1]))

    def test_7_wrong_settings_make_no_fast_loop_and_right_ones_are_taken_by_themselves(self):
        post("mended", 3)
        wait_for_count("mended", 3)
        self.set("[ring]", "lanes = 0")
        for unit in RUNNING:
            run("systemctl", "kill", "--signal=KILL", unit)
        with self.subTest("pace"):
            os.sync()
            wait_for("the flusher failed", lambda: "ring.lanes" in journal("visit-flusher"))
            since = run("date", "+%s").strip()
            wait_for("a look", lambda: int(run("date", "+%s")) >= int(since) + LOOK_S, limit_s=WAIT_S + LOOK_S, pause_s=0.5)
            for unit in RUNNING:
                lines = run("journalctl", "--no-pager", "-o", "cat", "--since", f"@{since}", "-u", unit).splitlines()
                self.assertLess(len(lines), LINES_LIMIT, "\n".join(lines))
                print(f"\n{unit}: {len(lines)} lines in {LOOK_S} s of wrong settings", flush=True)
        self.set("")
        for unit in RUNNING:
            wait_for(f"{unit} runs again", lambda unit=unit: is_active(unit))
        wait_for_count("mended", 3)


if __name__ == "__main__":
    unittest.main()
