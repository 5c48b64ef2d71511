"""A Redis or Valkey Cluster of real processes, and a stack that counts into it."""
import subprocess
import time
from pathlib import Path

from harness import REDIS_SERVER, Redis, Stack, free_port, wait_for

SLOTS = 16384


class ClusterNode:
    """One server of the cluster. Its number stays, its port may not."""

    def __init__(self, number: int, folder: Path, host: str = "127.0.0.1"):
        self.number, self.folder, self.host = number, folder, host
        self.name = f"node_{number}"
        self.port, self.bus_port = free_port(), free_port()
        folder.mkdir()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def client(self) -> Redis:
        return Redis(self.port)


class ClusterStack(Stack):
    """Flusher and frontends over a cluster of primaries with replicas."""

    def __init__(self, primaries: int = 3, replicas: int = 1, frontends: int = 1, settings: dict | None = None, node_timeout_ms: int = 2000,
                 **others):  # fmt: skip
        super().__init__(frontends=frontends, shards=0, settings=settings, **others)
        self.node_timeout_ms = node_timeout_ms
        self.primaries, self.replicas = primaries, replicas
        self.nodes = [ClusterNode(number, self.folder / f"node_{number}", self.servers_at) for number in range(primaries * (1 + replicas))]
        for node in self.nodes:
            self.add_node(node)
        self.later_port = free_port()  # where a node may be one day
        seeds = [self.nodes[0].address, self.nodes[1].address, f"{self.servers_at}:{self.later_port}"]
        self.settings["redis"] |= {"mode": "cluster", "nodes": seeds}
        self.write_settings()

    def add_node(self, node: ClusterNode) -> None:
        # fmt: off
        self._add(node.name, [*REDIS_SERVER, "--bind", *self.bound_to, "--protected-mode", "no", "--port", str(node.port), "--dir", str(node.folder),
                              "--cluster-enabled", "yes", "--cluster-port", str(node.bus_port),
                              "--cluster-node-timeout", str(self.node_timeout_ms), "--cluster-config-file", "nodes.conf",
                              "--cluster-require-full-coverage", "yes", "--appendonly", "yes", "--appendfsync", "everysec",
                              "--save", "", "--maxmemory-policy", "noeviction"])
        # fmt: on

    def start_servers(self) -> None:
        for node in self.nodes:
            self.start_one(node.name)
        for node in self.nodes:
            self.wait_for_node(node)
        self.redis_cli("--cluster", "create", *[node.address for node in self.nodes], "--cluster-replicas", str(self.replicas),
                       "--cluster-yes")  # fmt: skip
        self.wait_for_cluster()

    # --- the cluster

    def move_all(self) -> None:
        """The nodes are stopped: they come back at other ports, and somebody tells them where the others are."""
        for node in self.nodes:
            node.port, node.bus_port = free_port(), free_port()
        self.nodes[0].port = self.later_port
        for node in self.nodes:
            self.add_node(node)
            self.start_one(node.name)
            self.wait_for_node(node)
        with self.nodes[0].client() as redis:
            for node in self.nodes[1:]:
                redis("CLUSTER", "MEET", node.host, node.port, node.bus_port)

    def redis_cli(self, *arguments: str, limit_s: float = 300) -> str:
        done = subprocess.run(["redis-cli", *arguments], capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL)
        # Of Valkey 8.1, a primary that gives its last slot away becomes a replica before it has answered.
        is_done = done.returncode == 0 or "instance state changed (master -> replica?)" in done.stdout + done.stderr
        assert is_done, f"redis-cli {' '.join(arguments)}: {done.returncode} {done.stdout[-2000:]}{done.stderr}"
        return done.stdout

    def wait_for_node(self, node: ClusterNode) -> None:
        def answers() -> bool:
            try:
                with node.client() as redis:
                    return redis("PING") == "PONG"
            except (OSError, RuntimeError):
                return False

        wait_for(f"{node.name} answers", answers)

    def living(self) -> list[ClusterNode]:
        return [node for node in self.nodes if self.processes[node.name].alive]

    def is_well(self) -> bool:
        """Whether every living node says so."""
        try:
            for node in self.living():
                with node.client() as redis:
                    if "cluster_state:ok" not in redis("CLUSTER", "INFO"):
                        return False
        except (OSError, RuntimeError):
            return False
        return True

    def wait_for_cluster(self, limit_s: float = 60) -> float:
        """Waits until the cluster is well, and returns when that was."""
        wait_for("the cluster is well", self.is_well, limit_s, 0.02)
        return time.monotonic()

    def nodes_agree(self) -> bool:
        """Whether all nodes know of each other's slots, and every replica has what its primary has."""
        check = subprocess.run(["redis-cli", "--cluster", "check", self.living()[0].address], capture_output=True, text=True,
                               timeout=60, stdin=subprocess.DEVNULL)  # fmt: skip
        if check.returncode != 0:
            return False
        for node in self.living():
            with node.client() as redis:
                state = redis("INFO", "replication")
                if "role:slave" in state and "master_link_status:up" not in state:
                    return False
        return True

    def wait_for_agreement(self) -> None:
        wait_for("the nodes agree", self.nodes_agree, 60, 0.1)

    def slots(self) -> list[tuple[int, int, int]]:
        """First and last slot, and the port of the primary, as a living node says them."""
        with self.living()[0].client() as redis:
            return [(first, last, nodes[0][1]) for first, last, *nodes in redis("CLUSTER", "SLOTS")]

    def primary_ports(self) -> list[int]:
        return sorted({port for _, _, port in self.slots()})

    def node_at(self, port: int) -> ClusterNode:
        return next(node for node in self.nodes if node.port == port)

    def id_of(self, node: ClusterNode) -> str:
        with node.client() as redis:
            return redis("CLUSTER", "MYID")

    def reshard(self, source: ClusterNode, target: ClusterNode, slots: int) -> None:
        self.wait_for_agreement()
        self.redis_cli("--cluster", "reshard", self.living()[0].address, "--cluster-from", self.id_of(source), "--cluster-to",
                       self.id_of(target), "--cluster-slots", str(slots), "--cluster-yes")  # fmt: skip

    def redis_places(self) -> dict[str, tuple[str, int]]:
        places: dict[str, tuple[str, int]] = {}
        for port in self.primary_ports():
            with Redis(port) as redis:
                keys = redis("KEYS", "visits:{*}")
                for fields in redis.pipeline([("HGETALL", key) for key in keys]):
                    for page, count in zip(fields[::2], fields[1::2]):
                        if page.startswith("\x01"):
                            continue
                        assert page not in places, f"{page!r} is on {places[page][0]} and on {port}"
                        places[page] = (str(port), int(count))
        return places
