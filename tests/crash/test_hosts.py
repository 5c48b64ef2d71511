"""Three hosts count the same pages on the same two shards; flushers, frontends and shards are killed again and again: every
acknowledged visit is counted exactly once, and no host's reads fall."""

import http.client
import os
import random
import time
import unittest

from harness import Client, Stack, Traffic, wait_for

# VISITD_HOSTS_SECONDS: for a longer campaign.
SECONDS = float(os.environ.get("VISITD_HOSTS_SECONDS", "20"))
PAGES = 40
SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 500}, "redis": {"buckets": 256}}


class HostTraffic(Traffic):
    """Clients of one host of several. A read holds what this host acknowledged, and nothing that no host was sent."""

    def __init__(self, stack: Stack, hosts: list["HostTraffic"], **options):
        super().__init__(stack, **options)
        self._hosts = hosts

    def _most(self, page: str) -> int:
        return sum(host.acknowledged[page] + host.unanswered[page] + len(host._writers) for host in self._hosts)

    def _read(self, chance: random.Random) -> None:
        with Client(self.stack.port) as client:
            while not self._ending.is_set():
                page = chance.choice(self.pages)
                with self._lock:
                    least = max(self._seen.get(page, 0), self.acknowledged[page])
                try:
                    answer = client.ask("GET", f"/visits/{page}")
                except (OSError, http.client.HTTPException):
                    time.sleep(0.01)
                    continue
                if answer.status != 200:
                    if answer.status != 503:
                        self.faults.append(f"GET of {page}: {answer}")
                        return
                    time.sleep(0.01)
                    continue
                count = answer.json()["count"]
                with self._lock:
                    self.reads += 1
                    self._seen[page] = max(self._seen.get(page, 0), count)
                    if count < least:
                        self.faults.append(f"{page} was read as {count} after {least} ({answer.headers.get('Cache-Status')})")
                if count > (most := self._most(page)):
                    self.faults.append(f"{page} was read as {count} where at most {most} were sent")


def started_host(first: Stack, exits: unittest.TestCase) -> Stack:
    """One more host: a runtime and a state directory of its own, and the shards of the first."""
    host = Stack(frontends=2, shards=0, settings=SETTINGS)
    exits.addCleanup(host.close)
    host.shards = first.shards
    host.write_settings()
    for name in ["flusher", *host.frontends]:
        host.start_one(name)
    host.wait_ready()
    host.supervise()
    return host


class Hosts(unittest.TestCase):
    def test_three_hosts_on_the_same_shards_count_exactly_through_random_kills(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        first = self.enterContext(Stack(frontends=2, supervised=True, settings=SETTINGS, redis_arguments=("--appendfsync", "always")))
        hosts = [first, started_host(first, self), started_host(first, self)]
        traffic: list[HostTraffic] = []
        for host in hosts:
            traffic.append(HostTraffic(host, traffic, clients=8, readers=2, pages=PAGES))
        for one in traffic:
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

    def check(self, hosts: list[Stack], traffic: list[HostTraffic]) -> None:
        """No read was wrong; the shards hold what was acknowledged, and every host reads it so."""
        faults = [fault for one in traffic for fault in one.faults]
        self.assertEqual(faults[:20], [])
        for host in hosts:
            wait_for("a host carries all to Redis", lambda host=host: host.visitctl("flush", check=False).returncode == 0, 60, 0.2)
        held = hosts[0].redis_counts()
        wrong = {}
        for page in traffic[0].pages:
            least = sum(one.acknowledged[page] for one in traffic)
            most = least + sum(one.unanswered[page] for one in traffic)
            if not least <= held.get(page, 0) <= most:
                wrong[page] = (least, most, held.get(page, 0))
        self.assertEqual(wrong, {}, "page: (at least, at most, held)")
        for host in hosts:
            for page in traffic[0].pages:
                wait_for(f"a host reads all of {page}", lambda host=host, page=page: host.read(page).status == 200 and host.get(page) == held.get(page, 0), 10)


if __name__ == "__main__":
    unittest.main()
