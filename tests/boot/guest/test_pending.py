#!/usr/bin/env python3
"""The last before the reboot: visits that no shard has, for the shards are away."""

import unittest

from guest import flush, post, redis_count, remember, run, wait_for_count


class Pending(unittest.TestCase):
    def test_visits_wait_for_the_reboot(self):
        post("rebooted", 5)
        wait_for_count("rebooted", 5)
        flush()
        self.assertEqual(redis_count("rebooted"), 5)
        run("systemctl", "stop", "visit-redis@7070.service", "visit-redis@7071.service")
        post("rebooted", 20)
        post("only-pending", 7)
        wait_for_count("rebooted", 25)
        remember(rebooted=25, **{"only-pending": 7})


if __name__ == "__main__":
    unittest.main()
