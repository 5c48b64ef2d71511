"""Two live copies of one flusher write into the same shards under one name: neither takes the other's visits for its own."""

import contextlib
import json
import shutil
import sqlite3
import unittest

from harness import BUILD_ROOT, Stack, wait_for

COPIED_RANDOM = BUILD_ROOT / "tests/crash/libcopied_random.so"


class Clone(unittest.TestCase):
    def start_with_copied_random(self, stack: Stack) -> None:
        stack.preload("flusher", COPIED_RANDOM)
        stack.start_one("flusher")

    def last_life(self, stack: Stack) -> tuple:
        with contextlib.closing(sqlite3.connect(stack.state_directory / "spool.db")) as spool:
            return spool.execute("SELECT number, random FROM incarnation ORDER BY number DESC LIMIT 1").fetchone()

    def forget_rings(self, stack: Stack) -> None:
        """Another machine has another's segments."""
        with contextlib.closing(sqlite3.connect(stack.state_directory / "spool.db")) as spool, spool:
            spool.execute("UPDATE ring SET finished = 1")

    def test_equal_visits_of_two_live_copies_are_not_taken_for_one_batch(self):
        never = {"flusher": {"flush_interval_ms": 600_000, "stop_flush_timeout_ms": 0}, "redis": {"held_recheck_ms": 200}}
        with Stack(frontends=1, shards=1, settings=never) as one:
            for _ in range(10):
                one.post("home")
            one.flush()
            self.assertEqual(one.stop_one("flusher"), 0)
            other = Stack(frontends=1, shards=0, settings=never)
            try:
                other.shards = one.shards
                other.write_settings()
                shutil.rmtree(other.state_directory)
                shutil.copytree(one.state_directory, other.state_directory)
                self.forget_rings(other)
                for stack in (one, other):
                    self.start_with_copied_random(stack)
                other.start_one("frontend_1")
                for stack in (one, other):
                    wait_for("home is read", lambda stack=stack: stack.read("home").status == 200)
                    for _ in range(3):
                        stack.post("home")
                one.flush()
                self.assertEqual(one.redis_counts(), {"home": 13})
                flushed = other.visitctl("flush", "--timeout", "3", check=False)
                self.assertNotEqual(flushed.returncode, 0, "the shard took the copy's batch for the original's")

                def held():
                    report = json.loads(other.visitctl("status", "--json", check=False).stdout)
                    return report["shards"][0]["state"] == "held" and report["shards"][0]["reason"]

                self.assertIn("clone", wait_for("the copy's shard is held", held))
                # Nothing of the copy's was counted, and nothing of it is lost.
                self.assertEqual(one.redis_counts(), {"home": 13})
                self.assertEqual(other.status()["flusher"]["statistics"]["pending_visits"], 3)
                for stack in (one, other):
                    stack.stop_one("flusher")
                self.assertEqual(self.last_life(one), self.last_life(other))
            except BaseException:
                other.print_logs()
                raise
            finally:
                other.close()


if __name__ == "__main__":
    unittest.main()
