#!/usr/bin/env python3
"""Kept batches that wait for the replicas of a shard (redis.wait_replicas, redis.wait_aof): they stay while replicas are behind."""

import re
import shutil
import subprocess
import time
import unittest

from harness import REDIS_SERVER, VISITCTL, Shard, Stack, free_port, wait_for
from redis_cluster import ClusterNode, ClusterStack

# What docs/configure.md says that a user needs for it is checked in tests/integration/test_acl.py.
SETTINGS = {"flusher": {"flush_interval_ms": 50, "commit_interval_ms": 20, "keep_batches_s": 0}, "redis": {"wait_replicas": 1, "check_interval_ms": 100}}


class ReplicatedStack(Stack):
    """One shard, and one replica of it: the process "replica"."""

    def __init__(self, **redis):
        super().__init__(frontends=1, shards=1, settings={**SETTINGS, "redis": SETTINGS["redis"] | redis})
        self.replicated: Shard | None = self.shards[0]
        self.replica_folder = self.folder / "replica"
        self.replica_folder.mkdir()

    def start_servers(self) -> None:
        super().start_servers()
        if self.replicated:
            self.follow(self.replicated)

    def follow(self, shard: Shard) -> None:
        """The replica is this shard's."""
        self.replicated = shard
        self.say("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        self._add("replica", [*REDIS_SERVER, "--bind", "127.0.0.1", "--port", str(free_port()), "--dir", str(self.replica_folder),
                              "--appendonly", "yes", "--save", "", "--replicaof", f"127.0.0.1 {shard.port}"])  # fmt: skip
        self.start_one("replica")
        wait_for("the replica follows", lambda: "state=online" in self.say("INFO", "replication"))

    def promote(self) -> None:
        """The shard ends, and the replica has its place: it must not get what the socket still holds for it."""
        self.kill9("replica")
        self.kill9(self.replicated.name)
        shutil.rmtree(self.replicated.folder)
        shutil.copytree(self.replica_folder, self.replicated.folder)
        self.start_one(self.replicated.name)

    def say(self, *words: str):
        with self.replicated.client() as redis:
            return redis(*words)

    def log(self) -> str:
        return self.processes["flusher"].text()

    def listed(self) -> dict:
        return self.status("shards", "list")["shards"][0]

    def count_many(self, pages: int, prefix: str) -> None:
        """So many pages, one after another, that each batch is answered."""
        for number in range(pages):
            self.post(f"{prefix}-{number}")
        wait_for("they are on the shard", lambda: sum(page.startswith(prefix + "-") for page in self.redis_counts()) == pages)


def statistic(stack: Stack, name: str) -> int:
    return stack.status()["flusher"]["statistics"][name]


def overdue(stack: Stack) -> int:
    return statistic(stack, "kept_overdue_batches")


class Replicas(unittest.TestCase):
    def started(self, **redis) -> ReplicatedStack:
        stack = ReplicatedStack(**redis)
        self.addCleanup(stack.close)
        return stack.start()

    def wait_until_nothing_is_kept(self, stack: Stack, most: int = 4) -> None:
        def kept() -> int:
            stack.post("again")  # what is old goes with the next commit
            return statistic(stack, "kept_batches")

        wait_for("batches go once the replica has them", lambda: kept() <= most, pause_s=0.1)

    def test_batches_stay_while_the_replica_is_behind(self):
        stack = self.started()
        stack.count_many(10, "early")
        self.wait_until_nothing_is_kept(stack)
        wait_for("the list says so", lambda: stack.listed()["replicas"] == 1)
        self.assertEqual(stack.listed()["replicas_wanted"], 1)

        stack.pause("replica")
        stack.count_many(20, "late")
        wait_for("it is told", lambda: "0 of the 1 replicas that redis.wait_replicas wants have what it answered" in stack.log(), 30)
        wait_for("batches are overdue", lambda: overdue(stack) > 0)
        self.assertGreaterEqual(statistic(stack, "kept_batches"), 10)
        wait_for("the list says so", lambda: stack.listed()["replicas"] == 0 and stack.listed()["replicas_behind_ms"] > 3000)
        self.assertRegex(stack.visitctl("shards", "list").stdout, r"0 of 1, \S+ s behind")
        # WAIT takes 3 s for its answer (redis.timeout_ms), and no read waits for it.
        slowest = 0.0
        for number in range(100):
            begun = time.monotonic()
            self.assertEqual(stack.get(f"never-{number}"), 0)
            slowest = max(slowest, time.monotonic() - begun)
            time.sleep(0.05)
        print(f"slowest of 100 reads of the shard, while its replica is behind: {1000 * slowest:.0f} ms", flush=True)
        self.assertLess(slowest, 1.5)

        stack.resume("replica")
        wait_for("it is told", lambda: "its replicas have what it answered again" in stack.log(), 30)
        self.wait_until_nothing_is_kept(stack)
        self.assertEqual(overdue(stack), 0)
        self.assertEqual(statistic(stack, "kept_dropped_batches"), 0)

    def test_what_a_promoted_replica_lacks_comes_again_however_far_it_is_behind(self):
        stack = self.started()
        stack.count_many(10, "early")
        self.wait_until_nothing_is_kept(stack)
        stack.pause("replica")
        stack.count_many(20, "late")
        stack.kill9("flusher")  # what is kept is kept over a restart
        stack.start_one("flusher")
        wait_for("the flusher can be asked", lambda: stack.status("shards", "list").get("flusher_error", "") is None)
        wait_for("the batches are overdue", lambda: stack.post("more") and overdue(stack) > 10)
        stack.flush()
        expected = stack.redis_counts()
        stack.promote()
        stack.wait_for_redis(expected, 30)
        self.assertEqual({page: stack.get(page) for page in expected}, expected)

    def test_a_bucket_stays_at_its_former_shard_until_the_replicas_of_the_next_one_have_it(self):
        stack = ReplicatedStack(wait_replicas=0)
        self.addCleanup(stack.close)
        stack.replicated = None  # the one that is added
        stack.start()
        expected = {f"page-{number}": 1 for number in range(500)}
        for page in expected:
            stack.post(page)
        stack.flush()
        spare = stack.spare()
        stack.follow(spare)
        stack.pause("replica")
        with subprocess.Popen([str(VISITCTL), "--config", str(stack.settings_file), "shards", "add", f"{spare.name}=redis://127.0.0.1:{spare.port}"]) as adding:
            problem = r"shard redis_\d+: a replica lacks \d+ bytes of its stream; until it has them, the former shards keep what moved there"
            wait_for("it is told", lambda: re.search(problem, stack.visitctl("shards", "moves").stdout), 30)
            self.assertIsNone(adding.poll())
            stack.promote()
            self.assertEqual(adding.wait(60), 0)
        stack.shards.append(spare)
        places = stack.redis_places()
        self.assertEqual({page: count for page, (_, count) in places.items()}, expected)
        self.assertGreater(sum(shard == spare.name for shard, _ in places.values()), 100)
        self.assertEqual({page: stack.get(page) for page in expected}, expected)

    def test_without_room_batches_go_unconfirmed_and_it_is_told(self):
        stack = ReplicatedStack()
        self.addCleanup(stack.close)
        stack.settings["flusher"]["keep_batches_bytes"] = 4096
        stack.write_settings()
        stack.start()
        stack.pause("replica")
        stack.count_many(60, "late")
        wait_for("batches are dropped", lambda: stack.post("more") and statistic(stack, "kept_dropped_batches") > 0)
        wait_for("it is told", lambda: "flusher.keep_batches_bytes is full" in stack.log())
        stack.resume("replica")

    def test_disks_are_asked_where_the_server_can_be(self):
        stack = self.started(wait_aof=True)
        version = [int(part) for part in re.search(r"redis_version:(\d+)\.(\d+)", stack.say("INFO", "server")).groups()]
        stack.count_many(100, "early")
        self.wait_until_nothing_is_kept(stack, 50)  # those of the last seconds are not on the disks yet
        if version >= [7, 2]:
            self.assertNotIn("WAITAOF", stack.log())
            self.assertGreater(int(re.search(r"cmdstat_waitaof:calls=(\d+)", stack.say("INFO", "commandstats"))[1]), 0)
        else:
            wait_for("it is told", lambda: "refuses WAITAOF" in stack.log())
            self.assertEqual(stack.log().count("refuses WAITAOF"), 1)
            self.assertGreater(int(re.search(r"cmdstat_wait:calls=(\d+)", stack.say("INFO", "commandstats"))[1]), 0)
        # Replicas are waited for all the same.
        stack.pause("replica")
        stack.count_many(20, "late")
        wait_for("it is told", lambda: "0 of the 1 replicas that redis.wait_replicas wants have what it answered" in stack.log())
        wait_for("batches are overdue", lambda: stack.post("more") and overdue(stack) > 0)
        stack.resume("replica")
        self.wait_until_nothing_is_kept(stack, 50)

    def test_in_a_cluster_each_node_is_asked(self):
        stack = ClusterStack(primaries=3, replicas=1, frontends=1, settings=SETTINGS)
        self.addCleanup(stack.close)
        stack.start()
        for number in range(20):
            stack.post(f"early-{number}")
        stack.flush()
        self.wait_until_nothing_is_kept(stack)
        wait_for("all were asked", lambda: [shard["replicas"] for shard in stack.status("shards", "list")["shards"]] == [1, 1, 1])
        replicas = [node for node in stack.nodes if "role:slave" in self.info(node)]
        self.assertEqual(len(replicas), 3)
        for node in replicas:
            stack.pause(node.name)
        for number in range(20):
            stack.post(f"late-{number}")
        stack.flush()
        wait_for("batches are overdue", lambda: stack.post("more") and overdue(stack) > 10)
        for node in replicas:
            stack.resume(node.name)
        wait_for("none is", lambda: stack.post("more") and overdue(stack) == 0)

    def info(self, node: ClusterNode) -> str:
        with node.client() as redis:
            return redis("INFO", "replication")

    def test_a_reload_begins_and_ends_the_waiting(self):
        stack = self.started(wait_replicas=0)
        stack.pause("replica")
        stack.count_many(10, "late")
        self.wait_until_nothing_is_kept(stack)
        self.assertIsNone(stack.listed()["replicas_wanted"])
        for replicas, is_overdue in ((1, True), (0, False)):
            stack.settings["redis"]["wait_replicas"] = replicas
            stack.write_settings()
            stack.processes["flusher"].running.send_signal(1)
            wait_for("it takes effect", lambda is_overdue=is_overdue: stack.post("more") and (overdue(stack) > 0) == is_overdue)
        self.wait_until_nothing_is_kept(stack)
        stack.resume("replica")


if __name__ == "__main__":
    unittest.main()
