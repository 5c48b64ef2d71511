#!/usr/bin/env python3
"""Counting into a cluster that moves slots, loses primaries and goes away: exact, no read falls, no process is started again."""
import os
import time
import unittest

from harness import Traffic, wait_for
from redis_cluster import ClusterNode, ClusterStack

FAST = {"flusher": {"flush_interval_ms": 200, "commit_interval_ms": 50}, "cache": {"ttl_ms": 300}}
# How long the nodes stay away: a minute in the campaign.
AWAY_S = float(os.environ.get("VISITD_AWAY_S", "5"))
RECOVERY_S = 5.0


def all_up(stack: ClusterStack) -> bool:
    shards = stack.status()["shards"]
    return bool(shards) and all(shard["state"] == "up" for shard in shards)


def wait_until_up(stack: ClusterStack, since: float) -> float:
    """Waits until the flusher has found its way, and returns how long it took since the cluster was well."""
    wait_for("every primary is up", lambda: all_up(stack), 30, 0.02)
    return time.monotonic() - since


class Cluster(unittest.TestCase):
    def test_counts_into_a_cluster_from_any_seed(self):
        with ClusterStack() as stack:
            traffic = Traffic(stack, pages=200, visits=2000).start()
            traffic.wait()
            held = traffic.check()
            self.assertEqual(sum(held.values()), 2000)
            self.assertEqual(len({place for place, _ in stack.redis_places().values()}), 3)
            self.assertEqual(sorted(shard["name"] for shard in stack.status()["shards"]),
                             [f"127.0.0.1:{port}" for port in stack.primary_ports()])  # fmt: skip


if __name__ == "__main__":
    unittest.main()
