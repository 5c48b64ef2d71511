#!/usr/bin/env python3
"""The nodes of a cluster over TLS, by a user who may do no more than docs/configure.md says: exact while slots move and primaries are
killed."""

import re
import tempfile
import time
import unittest
from pathlib import Path

from certificates import Authority
from harness import Traffic, check_sums, free_port, wait_for
from redis_cluster import ClusterStack
from test_acl import DOCUMENT, RULE

CLUSTER_WORDS = re.search(r"On each node of a cluster, add\s+`(.+?)`", DOCUMENT)[1].split()
PASSWORD = "sesame"


class SecuredCluster(ClusterStack):
    """Each node has a port for TLS besides, of which the settings name one node's; the nodes speak TLS to each other."""

    def __init__(self, folder: Path, rule: list[str]):
        authority = Authority(folder / "authority", "our-authority")
        self.rule = rule
        self.server, ours = authority.sign("server"), authority.sign("flusher")
        self.authority = authority
        super().__init__(frontends=1, node_timeout_ms=1000, settings={
            "redis": {"tls_ca_file": str(authority.file), "tls_certificate_file": str(ours.file), "tls_key_file": str(ours.key),
                      "password": PASSWORD, "check_interval_ms": 300}, "flusher": {"flush_interval_ms": 200}})  # fmt: skip
        for node in self.nodes:
            node.tls_port = free_port()
            self.processes[node.name].argv += [
                "--tls-port", str(node.tls_port), "--tls-cluster", "yes", "--tls-replication", "yes", "--tls-cert-file", str(self.server.file),
                "--tls-key-file", str(self.server.key), "--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "yes"]  # fmt: skip
        self.settings["redis"] |= {"nodes": [f"rediss://visitd@127.0.0.1:{self.nodes[0].tls_port}"]}
        self.write_settings()

    def start_servers(self) -> None:
        super().start_servers()
        for node in self.nodes:
            with node.client() as redis:
                redis("ACL", "SETUSER", "visitd", "reset", "on", f">{PASSWORD}", *self.rule)

    def redis_cli(self, *arguments: str, limit_s: float = 120) -> str:
        """Over TLS: slots move between the ports that it is told."""
        told = list(arguments)
        for node in self.nodes:
            told = [argument.replace(node.address, f"127.0.0.1:{node.tls_port}") for argument in told]
        return super().redis_cli("--tls", "--cacert", str(self.authority.file), "--cert", str(self.server.file), "--key", str(self.server.key),
                                 *told, limit_s=limit_s)  # fmt: skip


class Secured(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="visitd-cluster-tls-")))

    def test_exact_while_slots_move_and_a_primary_is_killed(self):
        with SecuredCluster(self.folder, [*RULE, *CLUSTER_WORDS]) as stack:
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
                with node.client() as redis:
                    refused = {entry["object"] for entry in (dict(zip(e[::2], e[1::2])) for e in redis("ACL", "LOG")) if entry["username"] == "visitd"}
                    self.assertLessEqual(refused, {"config|get"})
                    links = [line for line in redis("CLIENT", "LIST").splitlines() if "name=visitd" in line]
                    self.assertEqual([line for line in links if f":{node.tls_port}" not in line.split("laddr=")[1].split()[0]], [])


if __name__ == "__main__":
    unittest.main()
