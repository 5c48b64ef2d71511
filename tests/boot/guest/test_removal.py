#!/usr/bin/env python3
"""Removed, it stops and keeps the counts; installed again, it goes on with them; purged, nothing of it is left."""

import grp
import os
import pwd
import unittest
from pathlib import Path

from guest import FOLDER, PACKAGES, SERVICES, is_active, is_refused, post, processes_of_visitd, run, wait_for, wait_for_count

# Drop-ins of tests/boot/boot.py for an emulated machine.
OF_THE_TESTS = ("visit-.service.d", "visit-flusher.service.d", "visit-frontend@.service.d")
PLACES = ("/etc", "/run", "/usr", "/var/lib", "/var/log", "/var/cache")


def named_after_visitd() -> list[str]:
    """Files and folders outside of these tests and of dpkg's own notes whose name is ours."""
    found = []
    for place in PLACES:
        for folder, folders, files in os.walk(place):
            if folder == "/var/lib/dpkg":
                folders.clear()
                continue
            names = [name for name in (*folders, *files) if name.startswith(("visit-", "visitd", "visitctl", "_visitctl"))]
            found += [os.path.join(folder, name) for name in names if not (name.startswith("visitd-boot-tests") or name in OF_THE_TESTS)]
            folders[:] = [name for name in folders if Path(folder, name) != FOLDER]
    return sorted(found)


class Removal(unittest.TestCase):
    def test_1_removed_it_stops_and_keeps_the_counts(self):
        self.assertTrue(named_after_visitd())
        post("removed", 4)
        run("dpkg", "--remove", "visitd")
        self.assertEqual(processes_of_visitd(), [])
        self.assertTrue(is_refused())
        self.assertTrue(Path("/etc/visitd/visitd.toml").exists())
        self.assertTrue(Path("/var/lib/visitd/spool.db").exists())

    def test_2_installed_again_it_goes_on_with_the_counts(self):
        run("dpkg", "--install", str(PACKAGES["following"]))
        for unit in SERVICES:
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
        wait_for_count("removed", 4)
        post("removed")
        wait_for_count("removed", 5)

    def test_3_purged_nothing_of_it_is_left(self):
        run("dpkg", "--purge", "visitd")
        self.assertEqual(processes_of_visitd(), [])
        self.assertTrue(is_refused())
        self.assertEqual(named_after_visitd(), [])
        self.assertEqual([entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith("visit")], [])
        self.assertEqual([entry.gr_name for entry in grp.getgrall() if entry.gr_name.startswith("visit")], [])
        self.assertEqual(Path("/proc/sysvipc/shm").read_text().splitlines()[1:], [])
        run("systemctl", "daemon-reload")
        left = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "visit*").strip().splitlines()
        # A failed unit of the same name would be shown: nothing failed on its way out. These tests' own unit is there.
        self.assertEqual([line for line in left if not line.startswith("visitd-boot-tests")], [])
        self.assertEqual(run("dpkg-query", "--show", "--showformat", "${Package}\n", "visit*", check=False).count("visitd\n"), 0)


if __name__ == "__main__":
    unittest.main()
