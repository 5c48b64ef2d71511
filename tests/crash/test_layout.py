"""Settings that place pages elsewhere, with visits in the spool: refused with what to do, before anything is written."""

import contextlib
import sqlite3
import unittest

from harness import PATIENCE_S, Stack, wait_for


class Layout(unittest.TestCase):
    def held_batches(self, stack: Stack) -> int:
        with contextlib.closing(sqlite3.connect(f"file:{stack.state_directory}/spool.db?immutable=1", uri=True)) as spool:
            return spool.execute("SELECT count(*) FROM batch WHERE number NOT IN (SELECT number FROM answered)").fetchone()[0]

    @contextlib.contextmanager
    def with_unanswered_batches(self):
        """Ten visits of each of 40 pages lie in batches that no shard has taken; the flusher is stopped."""
        with Stack(frontends=1, settings={"redis": {"buckets": 64}, "flusher": {"stop_flush_timeout_ms": 100}}) as stack:
            # Paused, not killed: a shard that is known to be down gets no batches.
            for shard in stack.shards:
                stack.pause(shard.name)
            for n in range(400):
                stack.post(f"page-{n % 40}")
            wait_for("batches are sealed", lambda: stack.status()["flusher"]["statistics"]["unanswered_batches"] > 10)
            stack.stop_one("flusher")
            self.assertGreater(self.held_batches(stack), 10)
            for shard in stack.shards:
                stack.kill9(shard.name)
            yield stack

    def refused(self, stack: Stack, word: str) -> None:
        before = (stack.state_directory / "spool.db").read_bytes()
        stack.start_one("flusher")
        self.assertEqual(stack.processes["flusher"].running.wait(PATIENCE_S), 1)
        self.assertIn(word, stack.processes["flusher"].text())
        self.assertEqual((stack.state_directory / "spool.db").read_bytes(), before)

    def taken(self, stack: Stack) -> None:
        for shard in stack.shards:
            stack.restart(shard.name)
        stack.start_one("flusher")
        stack.wait_for_redis({f"page-{n}": 10 for n in range(40)})
        self.assertEqual(stack.get("page-7"), 10)

    def forget_the_note(self, stack: Stack) -> None:
        """As a spool of a version that noted nothing."""
        with contextlib.closing(sqlite3.connect(stack.state_directory / "spool.db")) as spool, spool:
            self.assertEqual(spool.execute("DELETE FROM meta WHERE key = 'layout'").rowcount, 1)

    def test_other_buckets_virtual_nodes_and_shards_are_refused(self):
        with self.with_unanswered_batches() as stack:
            for buckets in (8, 4096):
                stack.settings["redis"]["buckets"] = buckets
                stack.write_settings()
                self.refused(stack, f"made with redis.buckets = 64, and the settings say {buckets}")
            stack.settings["redis"]["buckets"] = 64
            stack.settings["redis"]["virtual_nodes"] = 7
            stack.write_settings()
            self.refused(stack, "redis.virtual_nodes")
            del stack.settings["redis"]["virtual_nodes"]
            shards = stack.shards
            stack.shards = shards[:1]
            stack.write_settings()
            self.refused(stack, "Shards are added and removed with visitctl shards")
            stack.shards = shards
            stack.write_settings()
            self.taken(stack)

    def test_a_spool_without_a_note_is_not_taken_where_its_pages_would_lie_elsewhere(self):
        with self.with_unanswered_batches() as stack:
            self.forget_the_note(stack)
            for buckets in (8, 4096):
                stack.settings["redis"]["buckets"] = buckets
                stack.write_settings()
                self.refused(stack, "Set redis.buckets as it was")
            stack.settings["redis"]["buckets"] = 64
            stack.write_settings()
            self.taken(stack)


if __name__ == "__main__":
    unittest.main()
