"""Counting into a cluster that moves slots, loses primaries and goes away: exact, no read falls, no process is started again."""
import collections
import json
import os
import threading
import time
import unittest

from harness import Stack, Traffic, check_sums, wait_for
from redis_cluster import ClusterNode, ClusterStack

FAST = {"flusher": {"flush_interval_ms": 200, "commit_interval_ms": 50}, "cache": {"ttl_ms": 300}}
# How long the nodes stay away: a minute in the campaign.
AWAY_S = float(os.environ.get("VISITD_AWAY_S", "5"))
FAILOVERS = int(os.environ.get("VISITD_FAILOVERS", "2"))
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
        with ClusterStack(settings=FAST) as stack:
            traffic = Traffic(stack, pages=200, visits=2000).start()
            traffic.wait()
            held = traffic.check()
            self.assertEqual(sum(held.values()), 2000)
            self.assertEqual(len({place for place, _ in stack.redis_places().values()}), 3)
            self.assertEqual(sorted(shard["name"] for shard in stack.status()["shards"]),
                             [f"127.0.0.1:{port}" for port in stack.primary_ports()])  # fmt: skip

    def test_follows_a_live_reshard(self):
        with ClusterStack(settings=FAST) as stack:
            traffic = Traffic(stack, pages=300).start()
            ports = stack.primary_ports()
            first, second, third = (stack.node_at(port) for port in ports)
            stack.reshard(first, second, 1000)
            stack.reshard(second, third, 2000)
            stack.reshard(third, first, 1000)
            since = stack.wait_for_cluster()
            took = wait_until_up(stack, since)
            traffic.stop()
            traffic.check()
            self.assertLess(took, RECOVERY_S)
            self.assertEqual(stack.processes["flusher"].starts, 1)

    def test_counts_are_corrected_while_slots_move(self):
        with ClusterStack(settings=FAST) as stack:
            traffic = Traffic(stack, pages=60, readers=0).start()
            first, second, _ = (stack.node_at(port) for port in stack.primary_ports())
            reshard = threading.Thread(target=stack.reshard, args=(first, second, 2000))
            reshard.start()
            for number in range(0, 60, 6):
                stack.visitctl("set", f"page-{number}", "1000", "--yes")
                stack.visitctl("rename", f"page-{number + 1}", f"page-{number + 2}", "--yes")
                stack.visitctl("add", f"page-{number + 3}", "50")
            reshard.join()
            traffic.stop()
            stack.flush()
            held = collections.Counter(stack.redis_counts())
            for row in stack.status("corrections", "--limit", "1000")["corrections"]:
                difference = (row["gained"] or 0) - (row["lost"] or 0)
                held[row["page"]] -= difference
                if row["into"] is not None:
                    held[row["into"]] += difference
            check_sums([traffic], held)
            for number in range(0, 60, 6):
                self.assertGreaterEqual(stack.get(f"page-{number}"), 1000)

    def test_follows_to_a_primary_that_joins_and_from_one_that_leaves(self):
        with ClusterStack(settings=FAST) as stack:
            traffic = Traffic(stack, pages=300).start()
            joined = ClusterNode(len(stack.nodes), stack.folder / "joined")
            stack.nodes.append(joined)
            stack.add_node(joined)
            stack.start_one(joined.name)
            stack.wait_for_node(joined)
            stack.redis_cli("--cluster", "add-node", joined.address, stack.nodes[0].address)
            stack.wait_for_cluster()
            first = stack.node_at(stack.primary_ports()[0])
            if first is joined:
                first = stack.node_at(stack.primary_ports()[1])
            has = sum(last - start + 1 for start, last, port in stack.slots() if port == first.port)
            stack.reshard(first, joined, has)
            since = stack.wait_for_cluster()
            wait_for("the primaries are those of the cluster", lambda: [shard["name"] for shard in stack.status()["shards"]]
                     == sorted(f"127.0.0.1:{port}" for port in stack.primary_ports()), 30)  # fmt: skip
            self.assertLess(wait_until_up(stack, since), 2 * RECOVERY_S)
            self.assertIn(joined.port, stack.primary_ports())
            self.assertNotIn(first.port, stack.primary_ports())
            traffic.stop()
            traffic.check()
            self.assertEqual(stack.processes["flusher"].starts, 1)

    def test_follows_a_failover(self):
        with ClusterStack(settings=FAST) as stack:
            traffic = Traffic(stack, pages=300).start()
            for _ in range(FAILOVERS):
                stack.wait_for_agreement()
                primary = stack.node_at(stack.primary_ports()[0])
                stack.kill9(primary.name)
                wait_for("a replica is promoted", lambda gone=primary: gone.port not in stack.primary_ports(), 30)
                since = stack.wait_for_cluster()
                took = wait_until_up(stack, since)
                print(f"up {took:.2f} s after the cluster was well", flush=True)
                self.assertLess(took, RECOVERY_S)
                stack.start_one(primary.name)
                stack.wait_for_node(primary)
            traffic.stop()
            traffic.check()
            self.assertEqual(stack.processes["flusher"].starts, 1)

    def test_goes_on_when_all_nodes_come_back(self):
        self.check_return(self.start_all)

    def test_goes_on_when_all_nodes_come_back_at_other_addresses(self):
        self.check_return(lambda stack: stack.move_all())

    def start_all(self, stack: ClusterStack) -> None:
        for node in stack.nodes:
            stack.start_one(node.name)
        for node in stack.nodes:
            stack.wait_for_node(node)

    def check_return(self, come_back) -> None:
        with ClusterStack(settings=FAST) as stack:
            traffic = Traffic(stack, pages=300).start()
            stack.wait_for_agreement()
            for node in stack.nodes:
                stack.kill9(node.name)
            wait_for("the flusher says so", lambda: not any(shard["state"] == "up" for shard in stack.status()["shards"]))
            time.sleep(AWAY_S)
            come_back(stack)
            since = stack.wait_for_cluster()
            names = [f"127.0.0.1:{port}" for port in stack.primary_ports()]
            wait_for("the primaries are known", lambda: [shard["name"] for shard in stack.status()["shards"]] == sorted(names), 30)
            took = wait_until_up(stack, since)
            print(f"up {took:.2f} s after the cluster was well", flush=True)
            self.assertLess(took, RECOVERY_S)
            traffic.stop()
            traffic.check()
            self.assertEqual(stack.processes["flusher"].starts, 1)

    def test_a_server_of_its_own_is_no_node_and_a_node_is_no_shard(self):
        with ClusterStack(settings=FAST, replicas=0) as cluster, Stack(frontends=1) as plain:
            alone, node = plain.shards[0], cluster.nodes[0]
            self.check_held({"mode": "cluster", "nodes": [f"127.0.0.1:{alone.port}"]}, "not a node of a cluster")
            self.check_held({"shards": [f"redis://{node.address}"]}, "is a node of a cluster")
            self.assertTrue(all_up(cluster))
            self.assertTrue(all_up(plain))

    def check_held(self, redis: dict, why: str) -> None:
        stack = Stack(frontends=1, shards=0, settings={"redis": redis})
        self.addCleanup(stack.close)
        for name in ("flusher", "frontend_1"):
            stack.start_one(name)

        def held() -> list[dict]:
            done = stack.visitctl("status", "--json", check=False)
            return [shard for shard in json.loads(done.stdout or "{}").get("shards", []) if shard["state"] == "held"]

        self.assertIn(why, wait_for("the shard is held", held)[0]["reason"])


if __name__ == "__main__":
    unittest.main()
