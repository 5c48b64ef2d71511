"""The spool's disk is full: visits are refused once the lanes are full, none is lost, and it goes on by itself when there is room."""

import collections
import contextlib
import time
import unittest

from harness import Client, Stack, fill, mounted, wait_for


class Disk(unittest.TestCase):
    def test_a_full_disk_refuses_and_loses_nothing(self):
        stack = Stack(frontends=1, settings={"ring": {"lanes": 1, "lane_bytes": 1 << 17}, "flusher": {"flush_interval_ms": 60000}})
        with contextlib.closing(stack), mounted(stack.state_directory, "size=1m"), stack:
            ballast = fill(stack.state_directory)
            recorded: collections.Counter[str] = collections.Counter()
            refused = 0
            with Client(stack.port) as client:
                for n in range(60_000):
                    page = f"page-{n % 500}"
                    answer = client.ask("POST", f"/visit/{page}")
                    if answer.status == 200:
                        recorded[page] += 1
                        continue
                    self.assertEqual(answer.status, 503)
                    self.assertIn("Retry-After", answer.headers)
                    refused += 1
                    if refused == 20:
                        break
                self.assertEqual(refused, 20, "the lane never filled")
                # Reads go on, exactly.
                for page in ("page-1", "page-77"):
                    wait_for("the page is known", lambda page=page: client.ask("GET", f"/visits/{page}").status == 200)
                    self.assertEqual(client.ask("GET", f"/visits/{page}").json()["count"], recorded[page])
            self.assertIn("full", stack.processes["flusher"].text())
            ballast.unlink()
            wait_for("visits are taken again", lambda: stack.ask("POST", "/visit/page-0").status == 200)
            recorded["page-0"] += 1
            time.sleep(0.2)
            stack.flush()
            self.assertEqual(stack.redis_counts(), dict(recorded))
            print(f"{sum(recorded.values())} visits recorded, {refused} refused")


if __name__ == "__main__":
    unittest.main()
