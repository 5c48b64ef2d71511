#!/usr/bin/env python3
"""After the reboot: everything started by itself, and what was pending is counted."""

import unittest

from guest import SERVICES, flush, is_active, journal, post, redis_count, remembered, wait_for, wait_for_count


class Rebooted(unittest.TestCase):
    def test_everything_starts_by_itself_and_what_was_pending_is_counted(self):
        for unit in ["visitd.target", "visitd.socket", "visitd-private.socket", *SERVICES]:
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
        for page, visits in remembered().items():
            wait_for_count(page, visits)
        flush()
        for page, visits in remembered().items():
            self.assertEqual(redis_count(page), visits, journal())
        post("rebooted")
        wait_for_count("rebooted", remembered()["rebooted"] + 1)


if __name__ == "__main__":
    unittest.main()
