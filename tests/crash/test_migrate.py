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
        for port in [shard.port for shard in self.shards] + self.cluster.primary_ports():
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

    def name_cluster(self) -> None:
        """The settings name the cluster from now on, and no shards."""
        shards, self.shards = self.shards, []
        self.settings["redis"] |= {"mode": "cluster", "nodes": [node.address for node in self.cluster.nodes]}
        self.write_settings()
        self.shards = shards
        self.restart("flusher")
        self.wait_ready()

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
        self.assertIn('set redis.mode = "cluster" and redis.nodes = ["127.0.0.1:', (late.folder / "log" / "flusher.log").read_text())
        second.name_cluster()
        late.post("late")
        late.visitctl("flush")
        late.name_cluster()
        late.stop_one("flusher")
        self.back_while_slots_move(first)
        wait_for("the other host knows", lambda: second.is_at(5))
        # Again off all the time, and its settings name the cluster.
        late.start_one("flusher")
        wait_for("the late host knows", lambda: late.is_at(5))
        self.assertNotIn("is held", (late.folder / "log" / "flusher.log").read_text())
        self.assertEqual(self.left([node.port for node in self.cluster.nodes]), {("\x01id", "\x01moved")}, "only markers stay")
        self.assertEqual(first.redis_counts()["late"], 1)
        self.check(traffic)

    def back_while_slots_move(self, host: Migrating) -> None:
        ctl = subprocess.Popen([str(VISITCTL), "--config", str(host.settings_file), *host.arguments_to("shards"), "--yes", "--rate", "60"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        self.addCleanup(ctl.wait)
        wait_for("buckets move", lambda: host.moves().get("moving") == 1)
        ports = self.cluster.primary_ports()
        self.cluster.reshard(self.cluster.node_at(ports[0]), self.cluster.node_at(ports[1]), 300)
        self.assertIsNone(ctl.poll(), "the slots have moved too late")
        self.assertEqual(ctl.wait(60), 0)

    def test_a_deployment_goes_there_and_back_while_flushers_servers_and_visitctl_are_killed(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        first = self.enterContext(Migrating(self.cluster))
        second = self.start_second(first)
        traffic = self.count_on(first, second)
        kills = 0
        for number in range(MIGRATIONS):
            for where in ("cluster", "shards"):
                kills += self.migrate_and_kill(where, (first, second), chance)
        for host in (first, second):
            wait_for("every shard is up", lambda h=host: all(s["state"] == "up" for s in h.status()["shards"]), 60)
        self.check(traffic)
        print(f"{sum(one.acknowledged.total() for one in traffic)} visits acknowledged, {sum(one.reads for one in traffic)} reads, "
              f"{2 * MIGRATIONS} migrations, {kills} kills", flush=True)  # fmt: skip

    def migrate_and_kill(self, where: str, hosts: tuple[Migrating, ...], chance: random.Random) -> int:
        """Until the buckets are there; how many were killed."""
        wait_for("a host can change it", lambda: hosts[0].visitctl(*hosts[0].arguments_to(where), "--dry-run", check=False).returncode == 0, 60)
        before = hosts[0].moves()["version"]
        command = [str(VISITCTL), "--config", str(hosts[0].settings_file), *hosts[0].arguments_to(where), "--yes", "--rate", "100"]
        ctl = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        servers = [(hosts[0], shard.name) for shard in hosts[0].shards] + [(self.cluster, node.name) for node in self.cluster.nodes]
        deadline = time.monotonic() + 90
        kills = 0
        while not hosts[0].is_at(before + 2):
            if time.monotonic() >= deadline:
                for stack in (*hosts, self.cluster):
                    stack.print_logs()
            self.assertLess(time.monotonic(), deadline, f"the way into {where} comes to no end: {hosts[0].moves()}")
            time.sleep(chance.uniform(0.1, 0.5))
            stack, name = chance.choice([*((host, "flusher") for host in hosts), (hosts[0], "visitctl"), *servers])
            if kills < 6:
                kills += 1
                ctl.kill() if name == "visitctl" else stack.kill9(name)
            if hosts[0].moves().get("version") == before and ctl.poll() is not None:
                ctl = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ctl.kill()
        ctl.wait()
        return kills


class Refusals(unittest.TestCase):
    """Where a deployment cannot go is refused with what is wrong, and nothing is changed."""

    def setUp(self):
        self.cluster = ClusterStack(replicas=1, primaries=3, frontends=0)
        self.enterContext(self.cluster.only_servers())
        self.stack = self.enterContext(Migrating(self.cluster))
        self.stack.post("home")
        self.stack.wait_for_redis({"home": 1})
        self.primary = self.cluster.node_at(self.cluster.primary_ports()[0])

    def version(self) -> int:
        wait_for("the flusher says how far buckets have moved", self.stack.moves)
        return self.stack.moves()["version"]

    def refused(self, *words: str) -> str:
        before = self.version()
        done = self.stack.visitctl("migrate", "--to", *words, "--yes", check=False)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(self.version(), before)
        return done.stderr

    def test_a_cluster_and_shards_that_cannot_be_taken(self):
        stack, node = self.stack, self.primary
        self.assertIn("--yes", stack.visitctl("migrate", "--to", "cluster", node.address, check=False).stderr)
        self.assertIn("not a node of a cluster", self.refused("cluster", f"127.0.0.1:{stack.shards[0].port}"))
        self.assertIn("cannot be used", self.refused("cluster", f"{node.address},127.0.0.1:{free_port()}"))
        self.assertIn("named twice", self.refused("cluster", f"{node.address},{node.address}"))
        self.assertIn("has a password", self.refused("cluster", f"redis://:secret@{node.address}"))
        self.assertIn("on shards already", self.refused("shards", url(stack.shards[0])))
        self.assertIn("--rate", stack.visitctl("migrate", "--to", "cluster", node.address, "--rate", "0", check=False).stderr)
        with node.client() as redis:
            redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            self.assertIn("evicts keys", self.refused("cluster", node.address))
            redis("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "100kb")
            self.assertIn("too little memory", self.refused("cluster", node.address))
            redis("CONFIG", "SET", "maxmemory", "0")
            slots = next((first, last) for first, last, port in self.cluster.slots() if port == node.port)
            redis("CLUSTER", "DELSLOTSRANGE", *map(str, slots))
            wait_for("the cluster is down", lambda: not self.cluster.is_well())
            self.assertIn("cluster_state:fail", self.refused("cluster", node.address))
            redis("CLUSTER", "ADDSLOTSRANGE", *map(str, slots))
        self.cluster.wait_for_cluster()
        self.cluster.wait_for_agreement()
        self.cluster.redis_cli("-c", "-p", str(node.port), "HSET", "visits:{3}", "\x01id", "another 2")
        self.assertIn("holds counts already, in visits:{3}", self.refused("cluster", node.address))
        self.cluster.redis_cli("-c", "-p", str(node.port), "DEL", "visits:{3}")
        self.cluster.redis_cli("-c", "-p", str(node.port), "SET", "visits:topology", "another 2 made cluster 8192 100 cluster")
        self.assertIn("belongs to a deployment already", self.refused("cluster", node.address))
        self.cluster.redis_cli("-c", "-p", str(node.port), "DEL", "visits:topology")
        stack.visitctl("migrate", "--to", "cluster", node.address, "--yes", "--rate", "60", "--no-wait")
        wait_for("buckets move", lambda: stack.moves().get("moving") == 1)
        self.assertIn("are moving already", self.refused("cluster", node.address))
        self.assertIn("are moving already", self.refused("shards", url(stack.shards[0])))
        stack.visitctl("shards", "moves", "--wait")
        self.assertIn("in a cluster already", self.refused("cluster", node.address))
        self.assertIn("cannot be used", self.refused("shards", f"one=redis://127.0.0.1:{free_port()}"))
        self.assertIn("is a node of a cluster", self.refused("shards", f"one=redis://{node.address}"))
        self.assertIn("named twice", self.refused("shards", url(stack.shards[0]), url(stack.shards[0])))
        self.assertIn("the cluster decides", stack.visitctl("shards", "add", url(stack.shards[0]), check=False).stderr)
        stack.post("home")
        stack.wait_for_redis({"home": 2})


if __name__ == "__main__":
    unittest.main()
