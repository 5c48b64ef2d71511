#!/usr/bin/env python3
"""A deployment is backed up and put back with the very commands of docs/operate.md: on a machine that was just installed, and on
the same one, which goes back in time."""

import os
import unittest
from pathlib import Path

from guest import FOLDER, PACKAGES, SERVICES, Traffic, do, flush, is_active, journal, post, redis_count, run, status, wait_for, wait_for_count, wait_for_shards

BACKUP = Path("/var/backups/visitd.tar.gz")


def wait_for_all() -> None:
    for unit in SERVICES:
        wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
    wait_for_shards("up")


class Backup(unittest.TestCase):
    def test_1_a_backup_stops_no_frontend(self):
        post("kept", 6)
        with Traffic("kept-too") as traffic:
            traffic.wait_for_more()
            do("operate.md", "Back up")
            traffic.wait_for_more()
        self.assertEqual((traffic.refused_connections, traffic.not_taken), (0, {}), journal())
        wait_for_all()
        traffic.check_redis()
        self.assertEqual(os.stat(BACKUP).st_mode & 0o777, 0o600)
        post("kept", 3)  # after the backup: not in it

    def test_2_put_back_on_the_same_machine_it_goes_on_from_there(self):
        flush()
        self.assertEqual(redis_count("kept"), 9)
        do("operate.md", "Put it back")
        wait_for_all()
        wait_for_count("kept", 6)
        post("kept", 1)
        wait_for_count("kept", 7)
        flush()
        self.assertEqual(redis_count("kept"), 7, journal())

    def test_3_put_back_on_a_machine_that_was_just_installed_it_goes_on_from_there(self):
        elsewhere = FOLDER / "backup.tar.gz"
        elsewhere.write_bytes(BACKUP.read_bytes())
        run("dpkg", "--purge", "visitd")
        run("dpkg", "--install", str(PACKAGES["current"]))
        for unit in SERVICES:
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
        post("kept", 2)  # of a deployment that is given up
        BACKUP.write_bytes(elsewhere.read_bytes())
        do("operate.md", "Put it back")
        wait_for_all()
        wait_for_count("kept", 6)
        post("kept", 4)
        flush()
        self.assertEqual(redis_count("kept"), 10, journal())

    def test_4_shards_that_are_put_back_without_the_spool_are_found_out(self):
        run("systemctl", "stop", "visit-flusher", "visit-redis@7070", "visit-redis@7071")
        run("tar", "--extract", "--gzip", "--directory=/", f"--file={BACKUP}", "var/lib/visitd-redis-7070", "var/lib/visitd-redis-7071")
        run("systemctl", "start", "visit-redis@7070", "visit-redis@7071", "visit-flusher")
        # What the kept batches still hold is sent again, and what they do not makes the shard held: nothing is guessed.
        wait_for_shards("up", "held")
        if all(shard["state"] == "up" for shard in status()["shards"]):
            flush()
            self.assertEqual(redis_count("kept"), 10, journal())


if __name__ == "__main__":
    unittest.main()
