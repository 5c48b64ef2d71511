"""Hosts in network namespaces count on the same servers, in each mode: hosts join, leave, are cut off and are cloned, and every
acknowledged visit is counted exactly once."""

import os
import random
import time
import unittest

from harness import Stack, Traffic, check_sums, wait_for
from linked_hosts import SERVERS_AT, LinkedHost, make_network
from redis_cluster import ClusterStack
from sentinels import WatchedStack

FLUSH_INTERVAL_MS, TTL_MS, WRITER_GONE_S = 600, 400, 2
SETTINGS = {"flusher": {"flush_interval_ms": FLUSH_INTERVAL_MS, "commit_interval_ms": 20, "writer_gone_s": WRITER_GONE_S,
                        "stop_flush_timeout_ms": 500},
            "cache": {"ttl_ms": TTL_MS}, "http": {"lookup_timeout_ms": 1000},
            "redis": {"buckets": 64, "timeout_ms": 1000, "held_recheck_ms": 200, "check_interval_ms": 500}}  # fmt: skip
# How long a host's visit may be missing on another one.
FRESH_S = (TTL_MS + FLUSH_INTERVAL_MS) / 1000
PAGES = 40
CUT_S = float(os.environ.pop("VISITD_CUT_S", "3"))
# What a busy machine may add to a time that this test measures.
STALL_S = 2.0


def setUpModule():
    make_network()


def shards_of(host: Stack) -> list[dict]:
    return host.status()["shards"]


def states(host: Stack) -> set[str]:
    return {shard["state"] for shard in shards_of(host)}


def writers(host: Stack) -> dict[str, dict]:
    return {row["writer"]: row for row in host.status("writers")["writers"]}


def page_of(copy: LinkedHost) -> str:
    return f"of-host-{copy.number}"


def writer_of(host: Stack) -> str:
    return wait_for("the host is listed", lambda: next((row["writer"] for row in writers(host).values() if row["ours"]), None))


class Fleet(unittest.TestCase):
    def setUp(self):
        self.seen: list[float] = []  # how long each visit took until another host showed it
        self.expected: dict[str, int] = {}  # of pages beside those of the traffic
        self.traffic: list[Traffic] = []
        self.hosts: list[LinkedHost] = []
        self.chance = random.Random()

    def test_two_plain_shards(self):
        self.check_fleet(Stack(frontends=0, servers_at=SERVERS_AT, redis_arguments=("--appendfsync", "always")))

    def test_a_shard_behind_sentinels(self):
        self.check_fleet(WatchedStack(frontends=0, replicas=1, servers_at=SERVERS_AT))

    def test_a_cluster(self):
        self.check_fleet(ClusterStack(frontends=0, replicas=0, servers_at=SERVERS_AT))

    def check_fleet(self, servers: Stack) -> None:
        began = time.monotonic()
        with servers.only_servers():
            try:
                self.live(servers)
            except BaseException:
                for host in self.hosts:
                    host.print_logs()
                raise
        late = sorted(self.seen)
        print(f"{sum(one.acknowledged.total() for one in self.traffic)} visits acknowledged in {time.monotonic() - began:.1f} s; "
              f"another host showed a visit after {late[len(late) // 2]:.2f} s, at worst {late[-1]:.2f} s (TTL + flush interval: "
              f"{FRESH_S:.2f} s)", flush=True)  # fmt: skip

    def live(self, servers: Stack) -> None:
        first, second = self.joined(servers), self.joined(servers)
        self.see_each_other([first, second], 2)
        third = self.joined(servers)
        hosts = [first, second, third]
        self.see_each_other(hosts, 4)
        self.check_writers(hosts)
        self.cut_off(second, first)
        self.see_each_other(hosts, 2)
        self.check_clones(servers, running=first, stopped=second)
        self.leave(third, first)
        self.come_back(third, first)
        self.check_counts(hosts, servers)

    def made(self, servers: Stack, state_of: Stack | None = None) -> LinkedHost:
        host = LinkedHost(servers, SETTINGS, state_of=state_of)
        self.addCleanup(host.close)
        self.hosts.append(host)
        return host

    def joined(self, servers: Stack) -> LinkedHost:
        """One more host, with clients of its own."""
        host = self.made(servers)
        for name in ("flusher", "frontend_1"):
            host.start_one(name)
        host.wait_ready()
        one = Traffic(host, clients=2, readers=1, pages=PAGES)
        self.traffic.append(one)
        for other in self.traffic:
            other.together = self.traffic
        one.start()
        return host

    def count(self, host: Stack, page: str) -> None:
        host.post(page)
        self.expected[page] = self.expected.get(page, 0) + 1

    def see_each_other(self, hosts: list[LinkedHost], rounds: int) -> None:
        """In each round every host counts a visit of a page of its own, at any moment of a flush interval; the others read it again and
        again."""
        pages = {f"seen-of-{host.number}": host for host in hosts}
        for _ in range(rounds):
            wait_for("all pages are known", lambda: all(host.shows(page, self.expected.get(page, 0)) for page in pages for host in hosts))
            now = time.monotonic()
            due = {page: now + self.chance.uniform(0, FLUSH_INTERVAL_MS / 1000) for page in pages}
            waiting: dict[tuple[str, LinkedHost], float] = {}  # what who does not show yet, and when it was counted
            while due or waiting:
                for page in [page for page, at in due.items() if time.monotonic() >= at]:
                    del due[page]
                    self.count(pages[page], page)
                    waiting |= {(page, other): time.monotonic() for other in hosts if other is not pages[page]}
                for page, other in [one for one in waiting if one[1].shows(one[0], self.expected[one[0]])]:
                    self.seen.append(time.monotonic() - waiting.pop((page, other)))
                for (page, other), counted_at in waiting.items():
                    self.assertLess(time.monotonic() - counted_at, FRESH_S + STALL_S, f"host {other.number} does not show {page}")
                time.sleep(0.01)

    def check_writers(self, hosts: list[LinkedHost]) -> None:
        """Each lists all, with who it is itself and when each brought its last batch."""
        ids = [writer_of(host) for host in hosts]
        self.assertEqual(len(set(ids)), len(hosts))
        now = int(time.time())
        for host, own in zip(hosts, ids):
            rows = wait_for("all have brought batches", lambda host=host: (rows := writers(host)).keys() == set(ids)
                            and all(row["wrote_at"] >= now for row in rows.values()) and rows)  # fmt: skip
            self.assertEqual([row["writer"] for row in rows.values() if row["ours"]], [own])
            for one, writer in zip(hosts, ids):
                self.assertEqual(rows[writer]["host"], f"host-{one.number}")
                self.assertGreater(rows[writer]["batches"], 0)

    def cut_off(self, host: LinkedHost, other: LinkedHost) -> None:
        """What it counts meanwhile waits, and its reads go on."""
        traffic = next(one for one in self.traffic if one.stack is host)
        self.count(host, "cut")
        host.pull_cable()
        wait_for("it finds out", lambda: "up" not in states(host))
        end = time.monotonic() + CUT_S
        before = traffic.acknowledged.total()
        while time.monotonic() < end:
            self.count(host, "cut")
            self.assertEqual(states(other), {"up"})
            time.sleep(0.05)
        self.assertGreater(traffic.acknowledged.total(), before, "its clients were answered")
        self.assertGreater(host.status()["flusher"]["statistics"]["pending_visits"], 0)
        host.plug_cable()
        plugged_at = time.monotonic()
        wait_for("its servers are up again", lambda: states(host) == {"up"})
        print(f"up {time.monotonic() - plugged_at:.1f} s after the cable was plugged in again", flush=True)
        wait_for("another host shows what it counted", lambda: other.shows("cut", self.expected["cut"]))

    def check_clones(self, servers: Stack, running: LinkedHost, stopped: LinkedHost) -> None:
        """Of two hosts that count on, the state is copied to others, which start too: nothing is counted there under these hosts' names."""
        running.pause("flusher")
        copies = {self.made(servers, state_of=running): running}
        running.resume("flusher")
        self.assertEqual(stopped.stop_one("flusher"), 0)
        copies[self.made(servers, state_of=stopped)] = stopped
        stopped.start_one("flusher")
        for copy, host in copies.items():
            wait_for("the host counts on", lambda host=host: states(host) == {"up"})
            self.count_on_all_shards(host)
        for copy in copies:
            for name in ("flusher", "frontend_1"):
                copy.start_one(name)
        for copy in copies:
            self.check_held(copy)
        time.sleep(2 * FLUSH_INTERVAL_MS / 1000)
        held = servers.redis_counts()
        for copy, host in copies.items():
            self.assertNotIn(page_of(copy), held)
            self.assertEqual(states(host), {"up"})
            self.renew(copy)
            self.assertNotEqual(writer_of(copy), writer_of(host))
            wait_for("the host shows what its copy counts from now on", lambda copy=copy, host=host: host.shows(page_of(copy), 1))
            for name in ("frontend_1", "flusher"):
                self.assertEqual(copy.stop_one(name), 0)

    def check_held(self, copy: LinkedHost) -> None:
        """It takes visits, and knows no count."""
        wait_for("the copy's frontend listens", lambda: copy.listens(copy.processes["frontend_1"].pid))
        wait_for("the copy's shards are held", lambda: states(copy) == {"held"})
        for shard in shards_of(copy):
            self.assertIn("clone", shard["reason"])
        for number in range(10):
            copy.post(page_of(copy))
            for read in (page_of(copy), f"page-{number}"):
                self.assertEqual(copy.read(read).status, 503, f"{read} is not known, and no number says so")

    def count_on_all_shards(self, host: LinkedHost) -> None:
        """So many pages that each shard has marks which a copy made before does not know."""
        for number in range(PAGES):
            self.count(host, f"later-{number}")
        host.flush()

    def renew(self, copy: LinkedHost) -> None:
        """As the reason of its shards says: then it counts under a name of its own."""
        copy.stop_one("flusher")
        process = copy.processes["flusher"]
        process.argv = [*process.argv, "--renew-spool"]
        copy.start_one("flusher")
        wait_for("its shards are up", lambda: states(copy) == {"up"})
        self.assertIn("the spool was put away", process.text())
        copy.wait_ready()
        self.count(copy, page_of(copy))
        copy.flush()

    def leave(self, host: LinkedHost, other: LinkedHost) -> None:
        """It brings all that it has and ends; it is listed until it is forgotten."""
        theirs = writer_of(host)
        next(one for one in self.traffic if one.stack is host).stop()
        host.flush()
        refused = other.visitctl("writers", "forget", theirs, check=False)
        self.assertEqual(refused.returncode, 1, refused)
        self.assertIn("flusher.writer_gone_s", refused.stderr)
        for name in ("frontend_1", "flusher"):
            self.assertEqual(host.stop_one(name), 0)
        last = writers(other)[theirs]
        self.assertGreater(last["wrote_at"], 0)
        self.assertIsNone(last["forgotten_at"])
        wait_for("it is gone for long enough", lambda: time.time() > last["seen_at"] + WRITER_GONE_S + 1)
        offered = other.visitctl("writers", "forget", theirs, check=False)
        self.assertIn("nothing was changed", offered.stderr)
        done = other.visitctl("writers", "forget", theirs, "--yes").stdout
        self.assertRegex(done, r"taken out of [1-9]\d* buckets")
        self.assertIsNotNone(writers(other)[theirs]["forgotten_at"])
        self.assertIn("taken out of 0 buckets", other.visitctl("writers", "forget", theirs, "--yes").stdout)

    def come_back(self, host: LinkedHost, other: LinkedHost) -> None:
        """It is held wherever it had written, and counts on exactly once somebody says so."""
        theirs = next(row["writer"] for row in writers(other).values() if row["forgotten_at"] is not None)
        for name in ("flusher", "frontend_1"):
            host.start_one(name)
        wait_for("it finds out that it was forgotten", lambda: "held" in states(host))
        for shard in shards_of(host):
            if shard["state"] == "held":
                self.assertIn("has forgotten this host", shard["reason"])
        def goes_on() -> bool:
            for shard in shards_of(host):
                if shard["state"] == "held":
                    host.visitctl("accept", shard["name"], "--yes", check=False)
            return states(host) == {"up"}
        wait_for("it goes on", goes_on, 30, 0.2)
        host.wait_ready()
        self.count(host, "of-who-came-back")
        host.flush()
        wait_for("it is no more forgotten", lambda: writers(other)[theirs]["forgotten_at"] is None)
        wait_for("another host shows what it counts", lambda: other.shows("of-who-came-back", 1))

    def check_counts(self, hosts: list[LinkedHost], servers: Stack) -> None:
        """No read was wrong, and the servers hold what was acknowledged, as each host that is left reads it."""
        for one in self.traffic:
            one.stop()
        self.assertEqual([fault for one in self.traffic for fault in one.faults][:20], [])
        left = [host for host in hosts if host.processes["flusher"].alive]
        for host in left:
            host.flush()
        held = servers.redis_counts()
        check_sums(self.traffic, held)
        self.assertEqual({page: count for page, count in held.items() if page not in self.traffic[0].pages}, self.expected)
        for host in left:
            for page, count in held.items():
                wait_for(f"host {host.number} reads all of {page}", lambda host=host, page=page, count=count: host.shows(page, count), 10)


if __name__ == "__main__":
    unittest.main()
