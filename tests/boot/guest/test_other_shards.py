#!/usr/bin/env python3
"""Other Redis servers take the place of the package's own shards, with the commands of docs/install.md."""

import unittest
from pathlib import Path

from guest import do, flush, is_active, post, run, status, wait_for_count, wait_for_shards

SETTINGS = Path("/etc/visitd/visitd.toml")
OTHERS = (7170, 7171)
OWN = ("visit-redis@7070", "visit-redis@7071")


class OtherShards(unittest.TestCase):
    def setUp(self):
        before = SETTINGS.read_text()
        self.addCleanup(self.go_back, before)

    def go_back(self, before: str) -> None:
        SETTINGS.write_text(before)
        run("systemctl", "enable", *OWN)
        run("systemctl", "stop", *(f"visit-redis@{port}" for port in OTHERS))
        run("sh", "-ec", "systemctl stop visitd.target visitd.socket visitd-private.socket visitd.slice; rm -rf /var/lib/visitd/* /var/lib/visitd-redis-*; systemctl start visitd.target")
        wait_for_shards("up")

    def test_they_are_taken_before_there_are_counts_and_the_packages_own_stay_stopped(self):
        SETTINGS.write_text(f"[redis]\nshards = {[f'redis://127.0.0.1:{port}' for port in OTHERS]}\n".replace("'", '"'))
        do("install.md", "Redis on other hosts")
        run("systemctl", "start", *(f"visit-redis@{port}" for port in OTHERS))
        wait_for_shards("up")
        self.assertEqual({shard["name"] for shard in status()["shards"]}, {f"redis_{port}" for port in OTHERS})
        self.assertEqual([unit for unit in OWN if is_active(f"{unit}.service")], [])
        post("elsewhere", 3)
        wait_for_count("elsewhere", 3)
        flush()


if __name__ == "__main__":
    unittest.main()
