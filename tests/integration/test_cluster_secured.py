#!/usr/bin/env python3
"""The nodes of a cluster over TLS, by a user who may do no more than docs/configure.md says: exact while slots move and primaries are
killed, and while a deployment of shards, over TLS too, goes there and comes back."""

import json
import re
import tempfile
import time
import unittest
from pathlib import Path

from certificates import Authority
from harness import Shard, Stack, Traffic, check_sums, free_port, wait_for
from redis_cluster import ClusterNode, ClusterStack
from test_acl import DOCUMENT, RULE

CLUSTER_WORDS = re.search(r"On each node of a cluster, add\s+`(.+?)`", DOCUMENT)[1].split()
MOVE_WORDS = re.search(r"`visitctl migrate` on both sides, need `(.+?)`", DOCUMENT)[1].split()
PASSWORD = "sesame"


class Secrets:
    """Certificates of one authority, for servers and flusher."""

    def __init__(self, folder: Path):
        self.authority = Authority(folder / "authority", "our-authority")
        self.server, ours = self.authority.sign("server"), self.authority.sign("flusher")
        self.redis_settings = {"tls_ca_file": str(self.authority.file), "tls_certificate_file": str(ours.file), "tls_key_file": str(ours.key),
                               "password": PASSWORD, "check_interval_ms": 300}  # fmt: skip

    def add_tls(self, stack: Stack, server: Shard | ClusterNode, *arguments: str) -> None:
        """A port for TLS besides."""
        server.tls_port = free_port()
        stack.processes[server.name].argv += ["--tls-port", str(server.tls_port), *self.authority.server_arguments(self.server), *arguments]


def allow(server: Shard | ClusterNode, rule: list[str]) -> None:
    with server.client() as redis:
        redis("ACL", "SETUSER", "visitd", "reset", "on", f">{PASSWORD}", *rule)


class SecuredCluster(ClusterStack):
    """Each node has a port for TLS besides, of which the settings name one node's; the nodes speak TLS to each other."""

    def __init__(self, secrets: Secrets, rule: list[str], frontends: int = 1, replicas: int = 1):
        self.secrets, self.rule = secrets, rule
        super().__init__(frontends=frontends, replicas=replicas, node_timeout_ms=1000,
                         settings={"redis": secrets.redis_settings, "flusher": {"flush_interval_ms": 200}})  # fmt: skip
        for node in self.nodes:
            secrets.add_tls(self, node, "--tls-cluster", "yes", "--tls-replication", "yes")
        self.settings["redis"] |= {"nodes": [self.seed]}
        self.write_settings()

    @property
    def seed(self) -> str:
        return f"rediss://visitd@127.0.0.1:{self.nodes[0].tls_port}"

    def start_servers(self) -> None:
        super().start_servers()
        for node in self.nodes:
            allow(node, self.rule)

    def redis_cli(self, *arguments: str, limit_s: float = 120) -> str:
        """Over TLS: slots move between the ports that it is told."""
        told = list(arguments)
        for node in self.nodes:
            told = [argument.replace(node.address, f"127.0.0.1:{node.tls_port}") for argument in told]
        return super().redis_cli("--tls", "--cacert", str(self.secrets.authority.file), "--cert", str(self.secrets.server.file), "--key", str(self.secrets.server.key),
                                 *told, limit_s=limit_s)  # fmt: skip


class SecuredShards(Stack):
    """Each shard has a port for TLS besides, which the settings name."""

    def __init__(self, secrets: Secrets, rule: list[str]):
        self.rule = rule
        super().__init__(frontends=1, settings={"redis": secrets.redis_settings | {"buckets": 256}, "flusher": {"flush_interval_ms": 200}})
        for shard in self.shards:
            secrets.add_tls(self, shard)
            shard.user = "visitd"
        self.write_settings()

    def start_servers(self) -> None:
        super().start_servers()
        for shard in self.shards:
            allow(shard, self.rule)


class Secured(unittest.TestCase):
    def setUp(self):
        self.secrets = Secrets(Path(self.enterContext(tempfile.TemporaryDirectory(prefix="visitd-cluster-tls-"))))

    def test_exact_while_slots_move_and_a_primary_is_killed(self):
        with SecuredCluster(self.secrets, [*RULE, *CLUSTER_WORDS]) as stack:
            traffic = Traffic(stack, clients=4, readers=2).start()
            time.sleep(1)
            first, second = (stack.node_at(port) for port in stack.primary_ports()[:2])
            stack.reshard(first, second, 500)
            stack.wait_for_agreement()
            stack.kill9(second.name)
            wait_for("a replica is promoted", lambda: second.port not in stack.primary_ports(), 30)
            stack.wait_for_cluster()
            time.sleep(2)
            traffic.stop()
            self.assertEqual(traffic.faults, [])
            check_sums([traffic], traffic.check(60))
            for node in stack.living():
                self.check_links(node)

    def check_links(self, server: Shard | ClusterNode) -> None:
        """The flusher was allowed all that it asked for, and asked over TLS alone."""
        with server.client() as redis:
            refused = {entry["object"] for entry in (dict(zip(e[::2], e[1::2])) for e in redis("ACL", "LOG")) if entry["username"] == "visitd"}
            self.assertLessEqual(refused, {"config|get"})
            links = [line for line in redis("CLIENT", "LIST").splitlines() if "name=visitd" in line]
            self.assertEqual([line for line in links if f":{server.tls_port}" not in line.split("laddr=")[1].split()[0]], [])

    def test_exact_while_shards_go_into_the_cluster_and_come_back(self):
        cluster = SecuredCluster(self.secrets, [*RULE, *CLUSTER_WORDS, *MOVE_WORDS], frontends=0, replicas=0)
        self.enterContext(cluster.only_servers())
        with SecuredShards(self.secrets, [*RULE, *MOVE_WORDS]) as stack:
            traffic = Traffic(stack, clients=4, readers=2).start()
            time.sleep(0.5)
            # Addresses without user and password: the flusher takes both from its settings.
            back = [f"{shard.name}=rediss://{shard.host}:{shard.tls_port}" for shard in stack.shards]
            for version, where, places in ((3, "cluster", [cluster.seed]), (5, "shards", back)):
                stack.visitctl("migrate", "--to", where, *places, "--yes", limit_s=120)
                moves = json.loads(stack.visitctl("shards", "moves", "--json").stdout)
                self.assertEqual((moves["version"], moves["moving"]), (version, 0))
                time.sleep(0.5)
                for server in [*stack.shards, *cluster.nodes]:
                    self.check_links(server)
            traffic.stop()
            self.assertEqual(traffic.faults, [])
            check_sums([traffic], traffic.check(60))


if __name__ == "__main__":
    unittest.main()
