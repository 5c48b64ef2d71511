"""A shard that was emptied, replaced or restored from an old copy, and a spool that was: found out, held, reported, put right."""

import contextlib
import shutil
import time
import unittest

from harness import PATIENCE_S, Stack, wait_for
from test_segments import noted, remove_segment


class Restored(unittest.TestCase):
    def wait_held(self, stack: Stack, name: str, word: str) -> None:
        stack.wait_shard(name, "held")
        self.assertIn(word, stack.shard_status(name)["reason"])
        self.assertIn(f"visitctl --config {stack.settings_file} accept ", stack.processes["flusher"].text())

    @contextlib.contextmanager
    def prepared(self, **settings):
        """One shard, whose page 'home' has 10 visits in Redis and is known to the frontends."""
        with Stack(frontends=1, shards=1, settings={"cache": {"ttl_ms": 200}, "redis": {"held_recheck_ms": 200}, **settings},
                   redis_arguments=("--appendfsync", "always")) as stack:  # fmt: skip
            for _ in range(10):
                stack.post("home")
            stack.wait_for_redis({"home": 10})
            self.assertEqual(stack.get("home"), 10)
            yield stack

    def check_never_less(self, stack: Stack, least: int) -> None:
        for _ in range(20):
            answer = stack.read("home")
            self.assertTrue(answer.status == 503 or answer.json()["count"] >= least, answer)
        answer = stack.read("other")
        self.assertEqual(answer.status, 503, answer)
        time.sleep(0.3)

    def accept(self, stack: Stack, name: str) -> None:
        stack.visitctl("accept", name, "--yes")
        stack.wait_shard(name, "up")

    def test_a_shard_that_was_flushed_empty(self):
        with self.prepared(flusher={"flush_interval_ms": 100, "commit_interval_ms": 20, "keep_batches_s": 0}) as stack:
            shard = stack.shards[0]
            shard.client()("FLUSHALL")
            stack.post("home")
            self.wait_held(stack, shard.name, "emptied")
            self.check_never_less(stack, 11)
            self.assertEqual(stack.redis_counts(), {})
            self.accept(stack, shard.name)
            stack.wait_for_redis({"home": 1})
            stack.post("home")
            stack.wait_for_redis({"home": 2})
            wait_for("the count is that of the shard", lambda: stack.get("home") == 2)

    def test_a_shard_that_was_replaced_by_an_empty_one(self):
        with self.prepared() as stack:
            shard = stack.shards[0]
            stack.kill9(shard.name)
            shutil.move(shard.folder, f"{shard.folder}.aside")
            shard.folder.mkdir()
            stack.post("home")
            stack.restart(shard.name)
            self.wait_held(stack, shard.name, "emptied or replaced")
            self.check_never_less(stack, 11)
            # The data comes back: nothing has to be accepted.
            stack.kill9(shard.name)
            shutil.rmtree(shard.folder)
            shutil.move(f"{shard.folder}.aside", shard.folder)
            stack.restart(shard.name)
            stack.wait_for_redis({"home": 11})
            self.assertEqual(stack.get("home"), 11)

    def test_a_shard_restored_from_a_copy_younger_than_the_kept_batches_is_made_whole(self):
        with self.prepared() as stack:
            shard = stack.shards[0]
            stack.kill9(shard.name)
            shutil.copytree(shard.folder, f"{shard.folder}.copy")
            stack.restart(shard.name)
            for _ in range(5):
                stack.post("home")
            stack.wait_for_redis({"home": 15})
            stack.kill9(shard.name)
            shutil.rmtree(shard.folder)
            shutil.move(f"{shard.folder}.copy", shard.folder)
            stack.restart(shard.name)
            stack.wait_for_redis({"home": 15})
            self.assertEqual(stack.get("home"), 15)

    def test_a_page_that_cannot_be_counted_again_is_put_aside_and_the_rest_is_made_whole(self):
        # All pages in one bucket: what the shard lost of them comes again in the same batches.
        with self.prepared(redis={"held_recheck_ms": 200, "buckets": 1}) as stack:
            shard = stack.shards[0]
            stack.post("damaged")
            stack.wait_for_redis({"home": 10, "damaged": 1})
            stack.kill9(shard.name)
            shutil.copytree(shard.folder, f"{shard.folder}.copy")
            stack.restart(shard.name)
            for count in range(1, 4):  # several batches, each with both pages
                stack.post("home")
                stack.post("damaged")
                stack.wait_for_redis({"home": 10 + count, "damaged": 1 + count})
            stack.pause("flusher")
            stack.kill9(shard.name)
            shutil.rmtree(shard.folder)
            shutil.move(f"{shard.folder}.copy", shard.folder)
            stack.restart(shard.name)
            with shard.client() as redis:
                self.assertEqual(redis("HGET", "visits:{0}", "damaged"), "1")
                redis("HSET", "visits:{0}", "damaged", "no number")
            stack.resume("flusher")

            def home() -> int:
                with shard.client() as redis:
                    return int(redis("HGET", "visits:{0}", "home"))

            wait_for("the other page is made whole", lambda: home() == 13)
            stack.wait_shard(shard.name, "up")
            wait_for("home is read", lambda: stack.shows("home", 13))
            wait_for("what is put aside is said", lambda: stack.status("page", "damaged")["redis"].get("set_aside") == 3)
            self.assertEqual(stack.read("damaged").status, 503)
            # Both go on, once the field is mended.
            with shard.client() as redis:
                redis("HSET", "visits:{0}", "damaged", "4")
            stack.post("home")
            wait_for("the shard takes batches", lambda: home() == 14)
            wait_for("it is counted again", lambda: stack.shows("damaged", 4))
            self.assertEqual(stack.shard_status(shard.name)["state"], "up")

    def test_a_shard_restored_from_a_copy_older_than_the_kept_batches_is_held(self):
        with self.prepared(flusher={"flush_interval_ms": 100, "commit_interval_ms": 20, "keep_batches_s": 0}) as stack:
            shard = stack.shards[0]
            stack.kill9(shard.name)
            shutil.copytree(shard.folder, f"{shard.folder}.copy")
            stack.restart(shard.name)
            for n in range(5):
                stack.post("home")
                stack.wait_for_redis({"home": 11 + n})
            stack.post("elsewhere")  # its commit forgets the batches that were answered
            stack.wait_for_redis({"home": 15, "elsewhere": 1})
            time.sleep(0.3)
            stack.kill9(shard.name)
            shutil.rmtree(shard.folder)
            shutil.move(f"{shard.folder}.copy", shard.folder)
            stack.restart(shard.name)
            stack.post("home")
            self.wait_held(stack, shard.name, "older than the batches that are kept")
            self.check_never_less(stack, 16)
            self.accept(stack, shard.name)
            # What the copy lacks and nobody keeps is gone, and that was said; from here on it counts.
            wait_for("the new visit is there", lambda: stack.redis_counts()["home"] >= 11)

    def test_a_spool_restored_from_an_old_copy_is_refused_by_the_ring(self):
        with self.prepared() as stack:
            stack.stop_one("flusher")
            shutil.copytree(stack.state_directory, f"{stack.state_directory}.copy")
            stack.restart("flusher")
            stack.wait_ready()
            stack.post("home")
            stack.wait_for_redis({"home": 11})
            stack.stop_one("flusher")
            shutil.rmtree(stack.state_directory)
            shutil.move(f"{stack.state_directory}.copy", stack.state_directory)
            stack.start_one("flusher")
            self.assertEqual(stack.processes["flusher"].running.wait(PATIENCE_S), 1)
            self.assertIn("the spool is older than the ring", stack.processes["flusher"].text())
            self.assertIn("--renew-spool", stack.processes["flusher"].text())
            stack.post("home")
            stack.processes["flusher"].argv.append("--renew-spool")
            stack.start_one("flusher")
            stack.processes["flusher"].argv.remove("--renew-spool")
            stack.wait_for_redis({"home": 12})
            wait_for("home is read from its shard", lambda: stack.read("home").status == 200)
            self.assertEqual(stack.get("home"), 12)

    def test_a_spool_older_than_its_shard_is_held(self):
        with self.prepared() as stack:
            # Stopped with everything answered; then the same positions, but an older spool: a flush without visits in between.
            shard = stack.shards[0]
            stack.stop_one("flusher")
            shutil.copytree(stack.state_directory, f"{stack.state_directory}.copy")
            stack.stop_one("frontend_1")
            stack.restart("frontend_1")
            stack.restart("flusher")
            stack.wait_ready()
            stack.post("home")
            stack.wait_for_redis({"home": 11})
            stack.stop_one("flusher")
            stack.stop_one("frontend_1")
            shutil.rmtree(stack.state_directory)
            shutil.move(f"{stack.state_directory}.copy", stack.state_directory)
            # No ring and no cache that could say more: as after a reboot.
            for segment in {*noted(stack, "rings"), *noted(stack, "cache")}:
                remove_segment(segment)
            shutil.rmtree(stack.runtime_directory)
            stack.runtime_directory.mkdir()
            stack.start_one("frontend_1")
            stack.start_one("flusher")
            self.wait_held(stack, shard.name, "spool")
            self.assertEqual(stack.redis_counts(), {"home": 11})
            self.accept(stack, shard.name)
            wait_for("home is read again", lambda: stack.read("home").status == 200)


if __name__ == "__main__":
    unittest.main()
