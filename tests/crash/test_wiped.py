"""The state directory is wiped while the ring lives: what was durable once is not counted again, and nothing in a lane is skipped."""

import shutil
import time
import unittest

from harness import Stack, segments, wait_for
from test_segments import noted, remove_segment


class Wiped(unittest.TestCase):
    def prepared(self, **settings) -> Stack:
        return Stack(frontends=2, shards=1, settings={"cache": {"ttl_ms": 200}, **settings}, redis_arguments=("--appendfsync", "always"))

    def count_in_redis(self, stack: Stack, visits: int) -> None:
        """All of them have left the spool, so that a wiped spool costs none; a page as long as they come makes lanes go round."""
        for _ in range(visits):
            self.assertEqual(stack.post("home" * 50).status, 200)
        stack.wait_for_redis({"home" * 50: visits})

    def wipe(self, stack: Stack) -> None:
        shutil.rmtree(stack.state_directory)

    def remove_cache(self, stack: Stack) -> None:
        """As ipcrm and a cleaned runtime directory do."""
        remove_segment(noted(stack, "cache")[-1])
        (stack.runtime_directory / "cache").unlink()

    def goes_on(self, stack: Stack, visits: int) -> None:
        """Exactly these, and one more."""
        wait_for("home is read", lambda: stack.read("home" * 50).status == 200)
        self.assertEqual(stack.get("home" * 50), visits)
        stack.post("home" * 50)
        stack.wait_for_redis({"home" * 50: visits + 1})
        time.sleep(1)  # what was taken twice would have arrived by now
        self.assertEqual(stack.redis_counts(), {"home" * 50: visits + 1})
        self.assertNotIn("damaged record", stack.processes["flusher"].text())

    def test_the_cache_still_says_what_was_durable(self):
        with self.prepared() as stack:
            self.count_in_redis(stack, 50)
            stack.kill9("flusher")
            self.wipe(stack)
            stack.start_one("flusher")
            self.goes_on(stack, 50)
            self.assertIn("up to which a cache says that a former spool held everything", stack.processes["flusher"].text())

    def test_a_removed_cache_that_frontends_still_see_says_it(self):
        with self.prepared() as stack:
            self.count_in_redis(stack, 50)
            stack.kill9("flusher")
            self.wipe(stack)
            self.remove_cache(stack)
            stack.start_one("flusher")
            self.goes_on(stack, 50)
            self.assertIn("up to which a cache says", stack.processes["flusher"].text())

    def test_without_any_cache_the_ring_says_it(self):
        for end in ("stop", "kill"):
            with self.subTest(end), self.prepared() as stack:
                self.count_in_redis(stack, 50)
                cache = noted(stack, "cache")[-1]
                if end == "kill":
                    time.sleep(2.2)  # two heartbeats of the frontends
                for name in stack.frontends:
                    stack.stop_one(name) if end == "stop" else stack.kill9(name)
                stack.kill9("flusher")
                self.wipe(stack)
                self.remove_cache(stack)
                wait_for("the cache is gone", lambda: cache not in [s["shmid"] for s in segments()])
                for name in stack.frontends:
                    stack.start_one(name)
                stack.start_one("flusher")
                self.goes_on(stack, 50)
                self.assertIn("what the lane's frontend noted as freed", stack.processes["flusher"].text())

    def test_a_lane_that_has_gone_round_is_read_on_whole(self):
        with self.prepared(ring={"lane_bytes": 65536}) as stack:
            self.count_in_redis(stack, 700)
            stack.kill9("flusher")
            for _ in range(20):
                stack.post("home" * 50)  # only the lanes hold these
            for name in stack.frontends:
                stack.kill9(name)
            self.wipe(stack)
            self.remove_cache(stack)
            for name in stack.frontends:
                stack.start_one(name)
            stack.start_one("flusher")
            # What the frontends had not noted yet when they were killed may come twice, and the log says so; nothing is skipped.
            wait_for("the lanes are read", lambda: stack.redis_counts()["home" * 50] >= 720)
            self.assertNotIn("damaged record", stack.processes["flusher"].text())


if __name__ == "__main__":
    unittest.main()
