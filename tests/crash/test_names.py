"""A shard's name that is not resolved holds up no other shard, nor the end of the flusher."""

import contextlib
import unittest

from harness import BUILD_ROOT, Stack, wait_for

SLOW_NAMES = BUILD_ROOT / "tests/crash/libslow_names.so"
PAGES = [f"page-{number}" for number in range(20)]
SETTINGS = {"cache": {"ttl_ms": 300}, "flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20, "stop_flush_timeout_ms": 0},
            "http": {"lookup_timeout_ms": 1000}, "redis": {"timeout_ms": 500}}  # fmt: skip


class SlowNames(unittest.TestCase):
    def test_a_name_that_is_not_resolved_delays_no_other_shard(self):
        stack = Stack(frontends=1, shards=2, settings=SETTINGS)
        held = stack.folder / "held"
        quick, slow = stack.shards
        quick.host, slow.host = "quick.test", "held.test"
        stack.write_settings()
        stack.preload("flusher", SLOW_NAMES, SLOW_NAMES_FILE=str(held))
        with contextlib.closing(stack), stack:
            # The deployment is made, and every page known to it.
            for page in PAGES:
                stack.post(page)
            stack.wait_for_redis(dict.fromkeys(PAGES, 1))
            of_shard = {shard.name: [page for page in PAGES if stack.redis_places()[page][0] == shard.name] for shard in stack.shards}
            self.assertTrue(all(of_shard.values()), of_shard)

            self.assertNotIn("was not resolved", stack.processes["flusher"].text())
            held.touch()
            stack.restart("flusher")
            stack.wait_shard(quick.name, "up")
            # Its pages are counted and read, while several lookups of the slow name run out of time.
            for count in range(2, 5):
                for page in PAGES:
                    stack.post(page)
                wait_for("the other shard's pages are in Redis",
                         lambda count=count: all(stack.redis_counts()[page] == count for page in of_shard[quick.name]))  # fmt: skip
                for page in of_shard[quick.name]:
                    wait_for(f"{page} is read", lambda page=page, count=count: stack.shows(page, count))
            wait_for("the name ran out of time", lambda: "was not resolved" in stack.processes["flusher"].text())
            self.assertNotEqual(stack.shard_status(slow.name)["state"], "up")
            self.assertTrue(all(stack.redis_counts()[page] == 1 for page in of_shard[slow.name]))

            # A flusher ends while a lookup hangs, and goes on with everything once the name is known.
            stack.restart("flusher")
            stack.wait_shard(quick.name, "up")
            held.unlink()
            stack.wait_for_redis(dict.fromkeys(PAGES, 4))
            for page in PAGES:
                wait_for(f"{page} is read", lambda page=page: stack.shows(page, 4))


if __name__ == "__main__":
    unittest.main()
