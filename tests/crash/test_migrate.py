"""A deployment goes from shards into a cluster, and back, while two hosts count: every acknowledged visit is counted exactly once and
no read falls; also where flushers, shards, nodes and visitctl are killed meanwhile."""

import json
import os
import random
import subprocess
import time
import unittest

from harness import VISITCTL, Redis, Shard, Stack, Traffic, check_sums, free_port, wait_for
from redis_cluster import ClusterStack

SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 500},
            "redis": {"buckets": 256, "check_interval_ms": 500}}  # fmt: skip
# VISITD_MIGRATIONS: ways in and back that are disturbed; a campaign makes 5.
MIGRATIONS = int(os.environ.pop("VISITD_MIGRATIONS", "1"))


def url(shard: Shard) -> str:
    return f"{shard.name}=redis://{shard.host}:{shard.port}"


def hashes(port: int) -> list[dict[str, str]]:
    """Every bucket that the server holds."""
    with Redis(port) as redis:
        keys = redis("KEYS", "visits:{*}")
        return [dict(zip(fields[::2], fields[1::2])) for fields in redis.pipeline([("HGETALL", key) for key in keys])]


class Migrating(Stack):
    """Hosts that count into shards, and a cluster into which their deployment may go."""

    def __init__(self, cluster: ClusterStack, shards: list[Shard] | None = None, **others):
        super().__init__(frontends=1, shards=2 if shards is None else 0, settings=SETTINGS, supervised=True, **others)
        self.cluster = cluster
        if shards is not None:
            self.shards = list(shards)
            self.write_settings()

    def redis_places(self) -> dict[str, tuple[str, int]]:
        places: dict[str, tuple[str, int]] = {}
        for port in [shard.port for shard in self.shards] + [node.port for node in self.cluster.nodes]:
            for fields in hashes(port):
                if "\x01moved" in fields:
                    continue  # what has moved counts where it went
                for page, count in fields.items():
                    if page.startswith("\x01"):
                        continue
                    assert page not in places, f"{page!r} is on {places[page][0]} and on {port}"
                    places[page] = (str(port), int(count))
        return places

    def moves(self) -> dict:
        """How far buckets have moved; empty while the flusher begins anew."""
        said = self.visitctl("shards", "moves", "--json", check=False)
        return json.loads(said.stdout) if said.returncode == 0 else {}

    def is_at(self, version: int) -> bool:
        said = self.moves()
        return bool(said) and said["version"] >= version and said["moving"] == 0

    def arguments_to(self, where: str) -> list[str]:
        """Of visitctl migrate."""
        places = [",".join(node.address for node in self.cluster.nodes[:2])] if where == "cluster" else [url(shard) for shard in self.shards]
        return ["migrate", "--to", where, *places]


class Migrations(unittest.TestCase):
    def setUp(self):
        self.cluster = ClusterStack(replicas=0, frontends=0)
        self.enterContext(self.cluster.only_servers())
        self.cluster.supervise()

    def left(self, ports: list[int]) -> set[tuple[str, ...]]:
        """The fields of buckets on these servers."""
        return {tuple(sorted(fields)) for port in ports for fields in hashes(port)}

    def start_second(self, first: Migrating, counting: bool = True) -> Migrating:
        second = Migrating(self.cluster, first.shards)
        self.addCleanup(second.close)
        if counting:
            for name in ["flusher", *second.frontends]:
                second.start_one(name)
            second.wait_ready()
            second.supervise()
        return second

    def count_on(self, *hosts: Migrating) -> list[Traffic]:
        traffic = [Traffic(host, clients=4, readers=2, pages=40) for host in hosts]
        for one in traffic:
            one.together = traffic
            one.start()
        return traffic

    def check(self, traffic: list[Traffic]) -> None:
        for one in traffic:
            one.stop()
            self.assertEqual(one.faults, [])
        for one in traffic:
            wait_for("a flush", lambda host=one.stack: host.visitctl("flush", check=False).returncode == 0, 60)
        held = traffic[0].stack.redis_counts()
        check_sums(traffic, held)
        for one in traffic:
            for page in one.pages:
                wait_for(f"{page} is read everywhere", lambda h=one.stack, p=page: h.shows(p, held[p]))

    def test_shards_go_into_a_cluster_and_come_back_while_two_hosts_count(self):
        first = self.enterContext(Migrating(self.cluster))
        second = self.start_second(first)
        late = self.start_second(first, counting=False)
        traffic = self.count_on(first, second)
        time.sleep(0.5)
        plan = first.visitctl(*first.arguments_to("cluster"), "--dry-run").stdout
        self.assertIn("nothing was changed", plan)
        self.assertEqual(first.moves()["version"], 1)
        made = first.visitctl(*first.arguments_to("cluster"), "--yes")
        self.assertIn("256 of 256 buckets move", made.stdout)
        self.assertIn('redis.mode = "cluster"', made.stdout)
        wait_for("the other host knows", lambda: second.is_at(3))
        self.assertEqual(self.left([shard.port for shard in first.shards]), {("\x01id", "\x01moved")}, "only markers stay")
        # One that was off all the time, and whose settings name the shards.
        for name in ["flusher", *late.frontends]:
            late.start_one(name)
        late.wait_ready()
        wait_for("the late host knows", lambda: late.is_at(3))
        late.post("late")
        late.visitctl("flush")
        time.sleep(0.5)
        first.visitctl(*first.arguments_to("shards"), "--yes", "--rate", "200")
        for host in (second, late):
            wait_for("the other host knows", lambda h=host: h.is_at(5))
        self.assertEqual(self.left([node.port for node in self.cluster.nodes]), {("\x01id", "\x01moved")}, "only markers stay")
        self.assertEqual(first.redis_counts()["late"], 1)
        self.check(traffic)


if __name__ == "__main__":
    unittest.main()
