"""Errors that a real Redis answers: batches wait, reads go on, the reason is told, and it goes on by itself."""

import contextlib
import json
import subprocess
import threading
import time
import unittest

from harness import Stack, fill, mounted, wait_for

PAGES = [f"page-{number}" for number in range(40)]
SETTINGS = {
    "cache": {"ttl_ms": 200},
    "http": {"lookup_timeout_ms": 1000},
    "flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20},
    "redis": {"check_interval_ms": 200, "reconnect_interval_ms": 100, "held_recheck_ms": 200, "timeout_ms": 2000},
}


class Refusals(unittest.TestCase):
    def setUp(self):
        self.counts = dict.fromkeys(PAGES, 0)

    @contextlib.contextmanager
    def prepared(self, *redis_arguments: str, settings: dict | None = None):
        """Two shards, each of which holds some of the pages."""
        merged = {section: dict(values) for section, values in SETTINGS.items()}
        for section, values in (settings or {}).items():
            merged[section].update(values)
        with Stack(frontends=1, shards=2, settings=merged, redis_arguments=redis_arguments) as stack:
            self.stack = stack
            self.sick = stack.shards[0]
            self.visit()
            stack.wait_for_redis(self.counts)
            places = stack.redis_places()
            self.there = [page for page in PAGES if places[page][0] == self.sick.name]
            yield stack

    def visit(self) -> None:
        for page in PAGES:
            self.stack.post(page)
            self.counts[page] += 1

    def shard(self) -> dict:
        return self.stack.shard_status(self.sick.name)

    def wait_state(self, state: str, word: str = "") -> None:
        self.stack.wait_shard(self.sick.name, state, word)

    def state_lines(self) -> list[str]:
        return [line for line in self.stack.processes["flusher"].text().splitlines() if f"shard {self.sick.name} is " in line]

    def check_reads_are_fresh(self) -> None:
        for page in self.there[:5]:
            time.sleep(0.25)  # past its TTL
            answer = self.stack.read(page)
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(answer.json()["count"], self.counts[page])
            self.assertNotIn("ttl=-", answer.headers["Cache-Status"])

    def check_goes_on(self) -> None:
        self.wait_state("up")
        self.stack.wait_for_redis(self.counts)
        self.assertEqual({page: self.stack.get(page) for page in PAGES}, self.counts)

    def check_refuses_writes(self, break_it, heal, *words: str) -> None:
        """Batches wait and reads go on, over one connection, with one line of log; the other shard is not concerned."""
        before = len(self.state_lines())
        connections = self.connections()
        break_it()
        self.visit()
        for word in words:
            self.wait_state("refuses_writes", word)
        self.check_reads_are_fresh()
        self.visit()
        time.sleep(1.5)
        self.check_reads_are_fresh()
        report = json.loads(self.stack.ask("GET", "/readyz?verbose").body)
        self.assertIn("refuses_writes", json.dumps(report))
        self.assertIn(words[0], json.dumps(report))
        metrics = self.stack.ask("GET", "/metrics").body.decode()
        self.assertIn(f'visitd_shard_state{{shard="{self.sick.name}",state="refuses_writes"}} 1', metrics)
        self.assertIn(f"{self.sick.name}", self.stack.visitctl("status").stdout)
        self.assertEqual(len(self.state_lines()) - before, len(set(words)), self.state_lines())
        healthy = self.stack.shards[1].name
        held = self.stack.redis_places()
        self.assertTrue(all(count == self.counts[page] for page, (shard, count) in held.items() if shard == healthy), held)
        heal()
        self.check_goes_on()
        self.assertEqual(self.connections(), connections)

    def connections(self) -> int:
        """How many the sick shard has ever taken from the flusher, as it numbers them."""
        with self.sick.client() as redis:
            line = next(line for line in redis("CLIENT", "LIST").splitlines() if "name=visitd" in line)
            return int(line.split()[0].removeprefix("id="))

    def ask(self, *words: str):
        with self.sick.client() as redis:
            return redis(*words)

    def test_out_of_memory(self):
        with self.prepared():
            self.check_refuses_writes(lambda: self.ask("CONFIG", "SET", "maxmemory", "1"),
                                      lambda: self.ask("CONFIG", "SET", "maxmemory", "0"), "OOM")  # fmt: skip

    def test_pages_whose_visits_wait_on_disk_are_read_while_writes_are_refused(self):
        with self.prepared(settings={"flusher": {"memory_limit_bytes": 4 << 20}}) as stack:
            self.ask("CONFIG", "SET", "maxmemory", "1")
            self.visit()
            self.wait_state("refuses_writes", "OOM")
            crowd = [f"waiting-{number:06d}" for number in range(60_000)]
            taken = 0
            while taken < len(crowd):
                answer = stack.ask("POST", "/visits", json.dumps(crowd[taken : taken + 5000]))
                taken += answer.json()["entries" if answer.status == 200 else "recorded"]
            self.counts.update(dict.fromkeys(crowd, 1))
            wait_for("visits wait on disk alone", lambda: stack.status()["flusher"]["statistics"]["spilled_visits"] > 0)
            self.assertEqual({page: stack.get(page) for page in self.there}, {page: self.counts[page] for page in self.there})
            answer = stack.ask("POST", "/visits/query", json.dumps(crowd[:500]))
            self.assertEqual(answer.status, 200, answer)
            self.assertEqual(set(answer.json()["counts"].values()), {1})
            self.ask("CONFIG", "SET", "maxmemory", "0")
            self.wait_state("up")
            stack.wait_for_redis(self.counts)

    def test_too_few_replicas(self):
        with self.prepared():
            self.check_refuses_writes(lambda: self.ask("CONFIG", "SET", "min-replicas-to-write", "1"),
                                      lambda: self.ask("CONFIG", "SET", "min-replicas-to-write", "0"), "NOREPLICAS")  # fmt: skip

    def test_a_replica(self):
        # Its role is seen within the interval, also where nothing is written to it.
        with self.prepared():
            self.check_refuses_writes(lambda: self.become_replica(), lambda: self.ask("REPLICAOF", "NO", "ONE"), "is a replica")

    def become_replica(self) -> None:
        self.ask("REPLICAOF", "127.0.0.1", "1")
        self.wait_state("refuses_writes", "is a replica")

    def test_a_replica_whose_role_is_asked_seldom(self):
        with self.prepared(settings={"redis": {"check_interval_ms": 600_000}}):
            self.check_refuses_writes(lambda: self.ask("REPLICAOF", "127.0.0.1", "1"),
                                      lambda: self.ask("REPLICAOF", "NO", "ONE"), "READONLY")  # fmt: skip

    def test_a_user_who_may_not_write(self):
        with self.prepared():
            self.check_refuses_writes(lambda: self.ask("ACL", "SETUSER", "default", "-evalsha"),
                                      lambda: self.ask("ACL", "SETUSER", "default", "+evalsha"), "NOPERM")  # fmt: skip

    def test_a_full_disk_under_its_file(self):
        with self.prepared():
            self.stack.kill9(self.sick.name)
            aside = self.sick.folder.with_name("aside")
            self.sick.folder.rename(aside)
            self.sick.folder.mkdir()
            with mounted(self.sick.folder, "size=4m"):
                subprocess.run(["cp", "-a", f"{aside}/.", self.sick.folder], check=True)
                self.stack.restart(self.sick.name)
                self.wait_state("up")
                def break_it() -> None:
                    # The server finds out by what it still takes; a short write that it takes back leaves room once more.
                    for _ in range(20):
                        fill(self.sick.folder)
                        self.visit()
                        time.sleep(0.3)
                        if self.shard()["state"] == "refuses_writes":
                            break

                self.check_refuses_writes(break_it, (self.sick.folder / "ballast").unlink, "MISCONF")
                self.stack.kill9(self.sick.name)

    def check_no_storm(self, seconds: float = 2.0) -> None:
        """Neither lines of log nor connections or commands come in a loop."""
        lines = len(self.state_lines())
        time.sleep(seconds)
        self.assertLessEqual(len(self.state_lines()) - lines, 1)

    def test_a_user_who_may_not_read(self):
        with self.prepared():
            connections = self.connections()
            self.ask("ACL", "SETUSER", "default", "-hmget")
            time.sleep(0.3)
            answer = self.stack.read("never-seen-before-1")
            for n in range(200):  # on either shard
                answer = self.stack.read(f"never-seen-{n}")
                self.assertTrue(answer.status == 503 or answer.json()["count"] == 0)
                if answer.status == 503:
                    break
            self.assertEqual(answer.status, 503)
            self.check_no_storm()
            self.assertEqual(self.connections(), connections)
            self.ask("ACL", "SETUSER", "default", "+hmget")
            self.check_goes_on()

    def test_a_busy_script(self):
        with self.prepared("--busy-reply-threshold", "50"):
            def loop() -> None:
                with contextlib.suppress(RuntimeError, OSError):
                    self.ask("EVAL", "while true do end", "0")

            busy = threading.Thread(target=loop)
            busy.start()
            self.visit()
            self.wait_state("refuses_writes", "BUSY")
            self.check_no_storm()
            self.ask("SCRIPT", "KILL")
            busy.join()
            self.check_goes_on()

    def test_a_replica_that_does_not_answer_reads(self):
        with self.prepared():
            connections = self.connections()
            for page in self.there[:3]:
                self.assertEqual(self.stack.get(page), self.counts[page])
            self.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
            self.ask("REPLICAOF", "127.0.0.1", "1")
            self.visit()
            self.wait_state("refuses_writes")
            self.check_no_storm()
            for page in self.there[:3]:  # as last known
                self.assertEqual(self.stack.get(page), self.counts[page])
            self.assertEqual(self.connections(), connections)
            self.ask("REPLICAOF", "NO", "ONE")
            self.check_goes_on()

    def test_a_server_that_sleeps(self):
        with self.prepared("--enable-debug-command", "yes", settings={"redis": {"timeout_ms": 500}}):
            sleeping = threading.Thread(target=lambda: self.ask("DEBUG", "SLEEP", "3"))
            sleeping.start()
            self.visit()
            self.wait_state("down", "no answer within 500 ms")
            sleeping.join()
            self.check_goes_on()

    def check_turned_away(self, break_it, heal, word: str) -> None:
        """The shard is down for a reason that is said once, and connections are tried less and less often."""
        break_it()
        self.visit()
        self.wait_state("down", word)
        self.check_no_storm(3.0)
        tries = self.stack.processes["flusher"].text().count(word)
        self.assertLessEqual(tries, 2)
        heal()
        self.check_goes_on()

    def test_a_password_that_is_missing(self):
        with self.prepared():
            def demand() -> None:
                with self.sick.client() as redis:
                    redis("CONFIG", "SET", "requirepass", "secret")
                    redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

            def withdraw() -> None:
                with self.sick.client() as redis:
                    redis("AUTH", "secret")
                    redis("CONFIG", "SET", "requirepass", "")

            self.check_turned_away(demand, withdraw, "NOAUTH")

    def test_too_many_clients(self):
        with self.prepared():
            with self.sick.client() as redis:
                def crowd() -> None:
                    redis("CONFIG", "SET", "maxclients", "1")
                    redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

                self.check_turned_away(crowd, lambda: redis("CONFIG", "SET", "maxclients", "100"), "max number of clients")

    def test_a_data_set_that_loads(self):
        with self.prepared():
            self.stack.kill9(self.sick.name)
            process = self.stack.processes[self.sick.name]
            argv = process.argv
            # Each key of the thousands takes a millisecond and a half, and others are answered meanwhile.
            process.argv = [*argv, "--key-load-delay", "1500", "--loading-process-events-interval-bytes", "1024"]
            self.stack.start_one(self.sick.name)
            self.visit()
            self.wait_state("down", "LOADING")
            lines = [line for line in self.state_lines() if "LOADING" in line]
            self.assertEqual(len(lines), 1, lines)
            process.argv = argv
            self.check_goes_on()

    def test_commands_that_do_not_exist(self):
        stack = Stack(frontends=1, shards=1, settings=SETTINGS, redis_arguments=("--rename-command", "EVALSHA", ""))
        try:
            self.stack, self.sick = stack, stack.shards[0]
            stack.start_one(self.sick.name)
            stack.wait_for_shard(self.sick)
            stack.start_one("flusher")
            stack.start_one("frontend_1")
            wait_for("the frontend listens", lambda: stack.listens(stack.processes["frontend_1"].pid))
            stack.post("home")
            wait_for("it says so", lambda: "unknown command 'EVALSHA'" in stack.processes["flusher"].text())
            self.wait_state("down", "unknown command")
            self.assertEqual(stack.read("home").status, 503)
            self.check_no_storm(3.0)
        finally:
            stack.close()

    def test_a_policy_that_changes_on_a_living_connection(self):
        for arguments in ((), ("--rename-command", "CONFIG", "CONFIGURE")):
            with self.subTest(arguments), self.prepared(*arguments):
                self.counts = dict.fromkeys(PAGES, 1)
                config = "CONFIGURE" if arguments else "CONFIG"
                self.ask(config, "SET", "maxmemory-policy", "allkeys-lru")
                self.wait_state("held", "maxmemory-policy is allkeys-lru")
                self.visit()
                refused = self.stack.visitctl("accept", self.sick.name, "--yes", check=False)
                self.assertEqual(refused.returncode, 1)
                self.assertIn("cannot be accepted", refused.stderr)
                self.ask(config, "SET", "maxmemory-policy", "noeviction")
                self.check_goes_on()
                self.assertNotIn("does not say", self.stack.processes["flusher"].text())
                self.setUp()

    def test_a_server_that_says_nothing_of_itself_is_warned_of_once(self):
        with self.prepared("--rename-command", "CONFIG", "", "--rename-command", "INFO", ""):
            with self.sick.client() as redis:
                redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            self.visit()
            self.check_goes_on()
            log = self.stack.processes["flusher"].text()
            self.assertEqual(log.count(f"shard {self.sick.name} does not say how it is set up"), 1)


if __name__ == "__main__":
    unittest.main()
