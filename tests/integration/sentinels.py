"""Shards that sentinels watch: a primary and its replicas, and real sentinels, in a stack of tests.

    with WatchedStack(frontends=1) as stack:
        stack.post("home")
        stack.fail_over()
        assert stack.get("home") == 1
"""

import collections
import contextlib
from pathlib import Path

from harness import REDIS_SERVER, Redis, Shard, Stack, free_port, wait_for

DOWN_AFTER_MS = 600
FAILOVER_TIMEOUT_MS = 1500


class WatchedShard(Shard):
    """Its server is whichever of several is the primary; `servers` names their processes and ports."""

    def __init__(self, name: str, folder: Path, host: str, servers: dict[str, int], sentinels: list[int], sentinel_password: str):
        super().__init__(name, 0, folder, host)
        self.servers, self.sentinels, self.sentinel_password = servers, sentinels, sentinel_password
        self.named = servers  # the ports that sentinels know
        self.address: str | None = None  # what the settings say instead

    @property
    def url(self) -> str:
        return self.address or self.url_of(self.sentinels)

    def url_of(self, sentinels: list[int]) -> str:
        return f"sentinel://{','.join(f'{self.host}:{port}' for port in sentinels)}/{self.name}"

    def sentinel(self, port: int) -> Redis:
        sentinel = Redis(port, 1.0)
        if self.sentinel_password:
            sentinel("AUTH", self.sentinel_password)
        return sentinel

    def primary(self) -> str:
        """The process of the server that most of the sentinels take for the primary; it may be away."""
        named = collections.Counter()
        for port in self.sentinels:
            with contextlib.suppress(OSError, RuntimeError), self.sentinel(port) as sentinel:
                named[int(sentinel("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)[1])] += 1
        for port, sentinels in named.items():
            if 2 * sentinels > len(self.sentinels):
                return next(name for name, own in self.named.items() if own == port)
        raise OSError(f"the sentinels do not agree: {named}")

    def client(self) -> Redis:
        return Redis(self.servers[self.primary()], 2.0)


class WatchedStack(Stack):
    """Its first shard has a primary, two replicas and three sentinels. Names of processes: server_1 …, sentinel_1 …"""

    def __init__(self, frontends: int = 1, shards: int = 1, settings: dict | None = None, replicas: int = 2, sentinels: int = 3,
                 sentinel_password: str = "", tls: list[str] | None = None, **others):  # fmt: skip
        """`tls`: lines of configuration with certificates; servers and sentinels then speak to each other over TLS. The tests do not."""
        super().__init__(frontends=frontends, shards=shards, settings=settings, **others)
        first = self.shards[0]
        del self.processes[first.name]
        servers = {f"server_{number}": free_port() for number in range(1, replicas + 2)}
        self.sentinels = {f"sentinel_{number}": free_port() for number in range(1, sentinels + 1)}
        self.watched = WatchedShard("watched", first.folder, self.servers_at, servers, list(self.sentinels.values()), sentinel_password)
        self.shards[0] = self.watched
        self._tls = ["tls-replication yes", *tls] if tls else []
        if tls:
            self.watched.named = {name: free_port() for name in servers}
            over_tls = [free_port() for _ in self.sentinels]
            self.watched.address = self.watched.url_of(over_tls).replace("sentinel://", "sentinels://")
        for name in servers:
            (self.folder / name).mkdir()
            self._add(name, [*REDIS_SERVER, str(self.folder / name / "redis.conf")])
            self.write_server(name, None if name == "server_1" else "server_1")
        for number, (name, port) in enumerate(self.sentinels.items()):
            folder = self.folder / name
            folder.mkdir()
            tls_lines = "\n".join([f"tls-port {over_tls[number]}", *self._tls]) if tls else ""
            (folder / "sentinel.conf").write_text(f"""
                port {port}
                bind {' '.join(self.bound_to)}
                protected-mode no
                dir {folder}
                sentinel monitor {self.watched.name} {self.servers_at} {self.watched.named["server_1"]} 2
                sentinel down-after-milliseconds {self.watched.name} {DOWN_AFTER_MS}
                sentinel failover-timeout {self.watched.name} {FAILOVER_TIMEOUT_MS}
                sentinel parallel-syncs {self.watched.name} 2
                {f"requirepass {sentinel_password}" if sentinel_password else ""}
                {tls_lines}
            """)
            self._add(name, [*REDIS_SERVER, str(folder / "sentinel.conf"), "--sentinel"])
        self.write_settings()

    def write_server(self, name: str, primary: str | None) -> None:
        """What a server is when it is started: a replica of another one, or a primary."""
        servers, named = self.watched.servers, self.watched.named
        lines = [f"port {servers[name]}", f"bind {' '.join(self.bound_to)}", "protected-mode no", f"dir {self.folder / name}", "appendonly yes", 'save ""', "maxmemory-policy noeviction",
                 "repl-diskless-sync-delay 0", "repl-ping-replica-period 1", *([f"replicaof {self.servers_at} {named[primary]}"] if primary else []),
                 *([f"tls-port {named[name]}", *self._tls] if self._tls else [])]  # fmt: skip
        (self.folder / name / "redis.conf").write_text("\n".join(lines) + "\n")

    def start_servers(self) -> None:
        for shard in self.shards[1:]:
            self.start_one(shard.name)
            self.wait_for_shard(shard)
        for name in self.watched.servers:
            self.start_one(name)
        wait_for("the servers answer", self.servers_answer)
        wait_for("the replicas follow", lambda: self.followers("server_1") == len(self.watched.servers) - 1)
        for name in self.sentinels:
            self.start_one(name)
        wait_for("the sentinels know each other and the servers", self.sentinels_know_all)

    def say(self, name: str, *words: str):
        """To a server or sentinel by its process's name."""
        with self.watched.sentinel(self.sentinels[name]) if name in self.sentinels else Redis(self.watched.servers[name], 2.0) as redis:
            return redis(*words)

    def answers(self, name: str) -> bool:
        try:
            return self.say(name, "PING") == "PONG"
        except (OSError, RuntimeError):
            return False

    def servers_answer(self) -> bool:
        return all(self.answers(name) for name in self.watched.servers)

    def followers(self, primary: str) -> int:
        """How many replicas have caught up with it."""
        try:
            return self.say(primary, "INFO", "replication").count("state=online")
        except (OSError, RuntimeError):
            return 0

    def sentinels_know_all(self) -> bool:
        for name in self.sentinels:
            if not self.answers(name):
                return False
            fields = self.say(name, "SENTINEL", "MASTER", self.watched.name)
            known = dict(zip(fields[::2], fields[1::2]))
            if int(known["num-slaves"]) < len(self.watched.servers) - 1 or int(known["num-other-sentinels"]) < len(self.sentinels) - 1:
                return False
        return True

    def fail_over(self, limit_s: float = 30.0) -> str:
        """Kills the primary, and has the others agree on another; then it comes back as a replica. Returns the new one."""
        former = self.watched.primary()
        self.kill9(former)
        primary = wait_for("the sentinels name another primary", lambda: self.another_primary(former), limit_s, 0.05)
        self.write_server(former, primary)
        self.start_one(former)
        return primary

    def another_primary(self, former: str) -> str | None:
        try:
            named = self.watched.primary()
            return named if named != former and self.say(named, "ROLE")[0] == "master" else None
        except (OSError, RuntimeError):
            return None

    def wait_for_followers(self, limit_s: float = 60.0) -> None:
        """Until every other server follows the primary. A replica that follows a wrong one is put right by the sentinels after 10 s."""

        def follow() -> bool:
            try:
                return self.followers(self.watched.primary()) == len(self.watched.servers) - 1
            except OSError:
                return False

        wait_for("the replicas follow the primary", follow, limit_s, 0.05)
