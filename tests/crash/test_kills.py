"""Frontends, the flusher and a shard are killed again and again under load: every acknowledged visit is counted exactly once."""

import os
import random
import time
import unittest

from harness import Stack, Traffic


# VISITD_KILL_SECONDS: for a longer campaign.
SECONDS = float(os.environ.pop("VISITD_KILL_SECONDS", "20"))


class Kills(unittest.TestCase):
    def test_twenty_thousand_visits_through_random_kills_are_counted_exactly(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        with Stack(frontends=2, supervised=True, settings={"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}},
                   redis_arguments=("--appendfsync", "always")) as stack:  # fmt: skip
            traffic = Traffic(stack, clients=32, readers=4, pages=60).start()
            kills = {"flusher": 0, "frontend": 0, "redis": 0}
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or traffic.acknowledged.total() < 20_000:
                time.sleep(rng.uniform(0.05, 0.4))
                name = rng.choice(["flusher"] * 5 + stack.frontends * 2 + [rng.choice(stack.shards).name])
                stack.kill9(name)
                kills[name.partition("_")[0]] += 1
                self.assertLess(time.monotonic(), end + 120, "20,000 visits take too long")
            traffic.stop()
            for shard in stack.shards:
                stack.wait_for_shard(shard)
            traffic.check(60)
            print(f"{traffic.acknowledged.total()} visits acknowledged, {traffic.unanswered.total()} unanswered, {traffic.reads} reads, kills: {kills}")


if __name__ == "__main__":
    unittest.main()
