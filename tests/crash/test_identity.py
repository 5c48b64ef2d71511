"""Two hosts, real servers: swapped addresses, another deployment's shard, a shard emptied under living connections. Never 0, never split."""

import contextlib
import sqlite3
import time
import unittest

from harness import Shard, Stack, wait_for

PAGES = [f"page-{number}" for number in range(40)]
SETTINGS = {
    "cache": {"ttl_ms": 200},
    "http": {"lookup_timeout_ms": 500},
    "flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20},
    "redis": {"check_interval_ms": 60_000, "reconnect_interval_ms": 100, "held_recheck_ms": 200},
}


def states(stack: Stack) -> dict[str, str]:
    return {shard["name"]: shard["state"] for shard in stack.status()["shards"]}


def start_host(host: Stack) -> None:
    """Flusher and frontend of a host whose shards run already."""
    host.start_one("flusher")
    host.start_one("frontend_1")
    wait_for("the frontend listens", lambda: host.listens(host.processes["frontend_1"].pid))


class Identity(unittest.TestCase):
    @contextlib.contextmanager
    def host_of(self, shards: list[Shard]):
        """Another host with the same shards, not started."""
        host = Stack(frontends=1, shards=0, settings=SETTINGS)
        try:
            host.shards = shards
            host.write_settings()
            yield host
        except BaseException:
            host.print_logs()
            raise
        finally:
            host.close()

    @contextlib.contextmanager
    def prepared(self):
        """A host whose pages have 3 visits each."""
        with Stack(frontends=1, shards=2, settings=SETTINGS, redis_arguments=("--appendfsync", "always")) as first:
            for _ in range(3):
                for page in PAGES:
                    first.post(page)
            first.wait_for_redis(dict.fromkeys(PAGES, 3))
            yield first

    def check_never_wrong(self, host: Stack, pages: list[str], least: int, limit_s: float = 1.5) -> None:
        """Each read is not known, or no less than what was counted."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            for page in pages:
                answer = host.read(page)
                self.assertTrue(answer.status == 503 or answer.json()["count"] >= least, f"{page}: {answer}")

    def wait_held(self, host: Stack, name: str, word: str) -> None:
        host.wait_shard(name, "held", word)

    def test_addresses_swapped_on_one_host(self):
        with self.prepared() as first:
            a, b = first.shards
            with self.host_of([Shard(a.name, b.port, b.folder), Shard(b.name, a.port, a.folder)]) as second:
                start_host(second)
                for page in PAGES:
                    second.post(page)
                self.wait_held(second, a.name, f"says that it is shard {b.name}")
                self.wait_held(second, b.name, f"says that it is shard {a.name}")
                self.check_never_wrong(second, PAGES, 3)
                self.assertEqual(first.redis_counts(), dict.fromkeys(PAGES, 3))  # redis_counts fails where one page is on two
                refused = second.visitctl("accept", a.name, "--yes", check=False)
                self.assertIn("cannot be accepted", refused.stderr)
                # Put right, nothing is lost.
                second.shards = [a, b]
                second.write_settings()
                second.restart("flusher")
                first.wait_for_redis(dict.fromkeys(PAGES, 4))

    def test_addresses_swapped_under_a_host_that_counts(self):
        with self.prepared() as first:
            a, b = first.shards
            first.shards = [Shard(a.name, b.port, b.folder), Shard(b.name, a.port, a.folder)]
            first.write_settings()
            first.stop_one("flusher")
            first.start_one("flusher")
            for page in PAGES:
                first.post(page)
            self.wait_held(first, a.name, "put the addresses of both right")
            self.check_never_wrong(first, PAGES, 4)
            first.shards = [a, b]
            self.assertEqual(first.redis_counts(), dict.fromkeys(PAGES, 3))
            first.write_settings()
            first.restart("flusher")
            first.wait_for_redis(dict.fromkeys(PAGES, 4))

    def test_a_shard_of_another_deployment(self):
        with self.prepared() as first:
            a, b = first.shards
            other = Stack(frontends=1, shards=2, settings=SETTINGS)
            with contextlib.closing(other):
                # Of the same names, and so of the same layout.
                for mine, theirs in zip(first.shards, other.shards):
                    other.processes[mine.name] = other.processes.pop(theirs.name)
                    other.processes[mine.name].name = theirs.name = mine.name
                other.write_settings()
                other.start()
                for page in PAGES:
                    other.post(page)
                other.wait_for_redis(dict.fromkeys(PAGES, 1))
                places = first.redis_places()
                there = [page for page in PAGES if places[page][0] == a.name]
                first.shards = [other.shards[0], b]
                first.write_settings()
                first.restart("flusher")
                for page in PAGES:
                    first.post(page)
                self.wait_held(first, a.name, "is another server")
                self.check_never_wrong(first, there, 4)
                self.assertEqual(other.redis_counts(), dict.fromkeys(PAGES, 1))
                first.shards = [a, b]
                first.write_settings()
                first.restart("flusher")
                first.wait_for_redis(dict.fromkeys(PAGES, 4))

    def test_a_shard_emptied_under_living_connections_of_two_hosts(self):
        with self.prepared() as first, self.host_of(first.shards) as second:
            start_host(second)
            places = first.redis_places()
            a, b = first.shards
            there = [page for page in PAGES if places[page][0] == a.name]
            # The second host has read pages, and never counted any on that shard.
            wait_for("the second host reads", lambda: second.read(there[0]).status == 200)
            self.assertEqual(second.get(there[0]), 3)
            with a.client() as redis:
                redis("FLUSHALL")
            # A page that it has never asked for, first of all.
            for page in [*there[1:], *there[:1]]:
                answer = second.read(page)
                self.assertTrue(answer.status == 503 or answer.json()["count"] >= 3, f"{page}: {answer}")
            self.wait_held(second, a.name, "emptied or replaced")
            for page in there:
                second.post(page)
                first.post(page)
            self.wait_held(first, a.name, "emptied or replaced")
            self.check_never_wrong(second, there, 3)
            self.check_never_wrong(first, there, 4)
            with a.client() as redis:
                self.assertEqual(redis("DBSIZE"), 0)
            # A third host knows nothing at all.
            with self.host_of(first.shards) as third:
                start_host(third)
                wait_for("the other shard is up", lambda: states(third).get(b.name) == "up")
                self.wait_held(third, a.name, "the other shards say that the deployment is made")
                self.check_never_wrong(third, there, 3, 0.5)
            # The operator takes it as it is, on each host: what the first one keeps comes back.
            shown = first.visitctl("accept", a.name, check=False)
            self.assertEqual(shown.returncode, 1)
            self.assertIn(f"{3 * len(there)} visits out of kept batches", shown.stdout + shown.stderr)
            self.assertEqual(states(first)[a.name], "held")
            first.visitctl("accept", a.name, "--yes")
            wait_for("it is up", lambda: states(first)[a.name] == "up")
            wait_for("it is up on the second host", lambda: states(second)[a.name] == "up")
            first.wait_for_redis({page: 5 if page in there else 3 for page in PAGES})
            for page in there:
                wait_for(f"{page} is read", lambda page=page: second.read(page).status == 200)
                wait_for(f"{page} is right", lambda page=page: second.get(page) == 5)

    def test_some_buckets_deleted_under_living_connections(self):
        with self.prepared() as first, self.host_of(first.shards) as second:
            start_host(second)
            wait_for("the second host reads", lambda: second.read(PAGES[0]).status == 200)
            a = first.shards[0]
            places = first.redis_places()
            there = [page for page in PAGES if places[page][0] == a.name]
            with a.client() as redis:
                for key in redis("KEYS", "visits:{*}"):
                    redis("DEL", key)
            for page in there[1:]:
                answer = second.read(page)
                self.assertTrue(answer.status == 503 or answer.json()["count"] >= 3, f"{page}: {answer}")
            self.wait_held(second, a.name, "has been emptied")
            for page in there:
                second.post(page)
            time.sleep(0.5)
            with a.client() as redis:
                self.assertEqual(redis("KEYS", "visits:{*}"), [])

    def test_starts_that_were_refused_for_a_missing_append_only_file_leave_nothing_that_is_missed_later(self):
        for place in (0, 1):  # the shard that gives the deployment its identity, and the other one
            with self.subTest(place=place), contextlib.closing(Stack(frontends=1, shards=2, settings=SETTINGS)) as host:
                lacking = sorted(host.shards, key=lambda shard: shard.name)[place]
                arguments = host.processes[lacking.name].argv
                at = arguments.index("--appendonly") + 1
                arguments[at] = "no"
                for shard in host.shards:
                    host.start_one(shard.name)
                    host.wait_for_shard(shard)
                host.start_one("frontend_1")
                for _ in range(3):
                    host.start_one("flusher")
                    wait_for("the flusher is refused", lambda: not host.processes["flusher"].alive)
                self.assertIn("has no append-only file", host.processes["flusher"].text())
                arguments[at] = "yes"
                host.restart(lacking.name)
                host.wait_for_shard(lacking)
                host.start_one("flusher")
                wait_for("all shards are up", lambda: set(states(host).values()) == {"up"})
                for page in PAGES:
                    host.post(page)
                host.wait_for_redis(dict.fromkeys(PAGES, 1))
                self.assertNotIn("emptied", host.processes["flusher"].text())

    def test_a_shard_never_used_that_lost_its_append_only_file_says_that_no_count_was_written_to_it(self):
        with contextlib.closing(Stack(frontends=1, shards=2, settings=SETTINGS)) as host:
            host.start()
            wait_for("all shards are up", lambda: set(states(host).values()) == {"up"})
            wait_for("it is made", lambda: all(shard.client()("GET", "visits:topology").split()[2] == "made" for shard in host.shards))
            # The counts of one page are on one shard.
            host.post(PAGES[0])
            host.wait_for_redis({PAGES[0]: 1})
            used = host.redis_places()[PAGES[0]][0]
            unused = next(shard for shard in host.shards if shard.name != used)
            host.stop_one("flusher")
            # Without its append-only file Redis starts empty, and the flusher does not start with it. Switched on then, the file is
            # written anew from what the server holds: nothing.
            arguments = host.processes[unused.name].argv
            at = arguments.index("--appendonly") + 1
            arguments[at] = "no"
            host.restart(unused.name)
            host.wait_for_shard(unused)
            host.start_one("flusher")
            wait_for("the flusher is refused", lambda: not host.processes["flusher"].alive)
            self.assertIn("has no append-only file", host.processes["flusher"].text())
            with unused.client() as redis:
                redis("CONFIG", "SET", "appendonly", "yes")
            host.start_one("flusher")
            self.wait_held(host, unused.name, "this host has written no counts to it")
            self.assertEqual(states(host)[used], "up")
            host.post(PAGES[0])
            host.wait_for_redis({PAGES[0]: 2})
            host.visitctl("accept", unused.name, "--yes")
            for page in PAGES[1:]:
                host.post(page)
            host.wait_for_redis({page: 2 if page == PAGES[0] else 1 for page in PAGES})

    def test_hosts_that_make_a_deployment_at_once_agree(self):
        for _ in range(3):
            first = Stack(frontends=1, shards=2, settings=SETTINGS)
            with contextlib.closing(first), self.host_of(first.shards) as second:
                for shard in first.shards:
                    first.start_one(shard.name)
                    first.wait_for_shard(shard)
                for host in (first, second):
                    host.start_one("flusher")
                    host.start_one("frontend_1")
                for host in (first, second):
                    wait_for("the frontend listens", lambda host=host: host.listens(host.processes["frontend_1"].pid))
                    for page in PAGES:
                        host.post(page)
                # Killed at any moment of it.
                time.sleep(0.05)
                first.kill9("flusher")
                first.start_one("flusher")
                first.wait_for_redis(dict.fromkeys(PAGES, 2))
                topologies = [shard.client()("GET", "visits:topology").split() for shard in first.shards]
                self.assertEqual(len({words[0] for words in topologies}), 1)
                wait_for("it is made", lambda: all(s.client()("GET", "visits:topology").split()[2] == "made" for s in first.shards))

    def test_a_deployment_of_the_version_before_is_taken_over(self):
        with self.prepared() as first:
            first.stop_one("flusher")
            former = {}
            for number, shard in enumerate(first.shards):
                with shard.client() as redis:
                    words = redis("GET", "visits:topology").split()
                    former[shard.name] = f"former{number}"
                    redis("SET", "visits:topology", " ".join([former[shard.name], "1", *words[4:]]))
                    redis.pipeline([("HDEL", key, "\x01id") for key in redis("KEYS", "visits:{*}")])
            with contextlib.closing(sqlite3.connect(first.state_directory / "spool.db")) as spool:
                spool.execute("DELETE FROM identity")
                spool.executemany("INSERT INTO identity VALUES (?, ?)", former.items())
                spool.commit()
            for pause_s in (0.02, 0.05, 0.1, 0.2):  # restartable
                first.start_one("flusher")
                time.sleep(pause_s)
                first.kill9("flusher")
            first.start_one("flusher")
            for page in PAGES:
                first.post(page)
            first.wait_for_redis(dict.fromkeys(PAGES, 4))
            self.assertEqual(first.get(PAGES[0]), 4)
            for shard in first.shards:
                with shard.client() as redis:
                    words = redis("GET", "visits:topology").split()
                    self.assertEqual(words[1], "2")
                    self.assertIn(words[0], former.values())


if __name__ == "__main__":
    unittest.main()
