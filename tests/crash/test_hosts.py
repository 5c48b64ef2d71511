"""Three hosts count the same pages on the same two shards; flushers, frontends and shards are killed again and again: every
acknowledged visit is counted exactly once, and no host's reads fall."""

import os
import random
import time
import unittest

from harness import Stack, Traffic, check_sums, started_host, wait_for

# VISITD_HOSTS_SECONDS: for a longer campaign.
SECONDS = float(os.environ.pop("VISITD_HOSTS_SECONDS", "20"))
PAGES = 40
SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 500}, "redis": {"buckets": 256}}


class Hosts(unittest.TestCase):
    def test_three_hosts_on_the_same_shards_count_exactly_through_random_kills(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        first = self.enterContext(Stack(frontends=2, supervised=True, settings=SETTINGS, redis_arguments=("--appendfsync", "always")))
        hosts = [first, started_host(first, self, SETTINGS), started_host(first, self, SETTINGS)]
        traffic = [Traffic(host, clients=8, readers=2, pages=PAGES) for host in hosts]
        for one in traffic:
            one.together = traffic
            one.start()
        kills = {"flusher": 0, "frontend": 0, "redis": 0}
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.05, 0.4))
            host = chance.choice(hosts)
            name = chance.choice(["flusher"] * 5 + host.frontends * 2 + [chance.choice(first.shards).name])
            (first if name.startswith("redis_") else host).kill9(name)
            kills[name.partition("_")[0]] += 1
        for one in traffic:
            one.stop()
        for shard in first.shards:
            first.wait_for_shard(shard)
        self.check(hosts, traffic)
        acknowledged = sum(one.acknowledged.total() for one in traffic)
        self.assertGreater(min(one.acknowledged.total() for one in traffic), 100, "each host counted")
        print(f"{acknowledged} visits acknowledged, {sum(one.unanswered.total() for one in traffic)} unanswered, "
              f"{sum(one.reads for one in traffic)} reads, kills: {kills}", flush=True)  # fmt: skip

    def check(self, hosts: list[Stack], traffic: list[Traffic]) -> None:
        """No read was wrong; the shards hold what was acknowledged, and every host reads it so."""
        faults = [fault for one in traffic for fault in one.faults]
        self.assertEqual(faults[:20], [])
        for host in hosts:
            wait_for("a host carries all to Redis", lambda host=host: host.visitctl("flush", check=False).returncode == 0, 60, 0.2)
        held = hosts[0].redis_counts()
        check_sums(traffic, held)
        for host in hosts:
            for page in traffic[0].pages:
                wait_for(f"a host reads all of {page}", lambda host=host, page=page: host.shows(page, held.get(page, 0)), 10)


if __name__ == "__main__":
    unittest.main()
