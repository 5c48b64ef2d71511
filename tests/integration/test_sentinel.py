#!/usr/bin/env python3
"""A shard behind Sentinel: its primary is found and followed, what a promoted replica lacks is sent again, and nothing is guessed."""

import contextlib
import os
import re
import signal
import socket
import tempfile
import threading
import time
import unittest
from pathlib import Path

from harness import SOURCE_ROOT, Stack, Traffic, free_port, listening_at, wait_for
from sentinels import WatchedStack

from certificates import Authority

# The campaign asks for one every 30 s for an hour.
FAILOVERS = int(os.environ.pop("VISITD_FAILOVERS", "10"))
EVERY_S = float(os.environ.pop("VISITD_FAILOVER_EVERY_S", "2"))


# What docs/ say that a user needs.
RULE = re.search(r"^user visitd on >YOUR-PASSWORD (.+)$", (SOURCE_ROOT / "docs/configure.md").read_text(), re.MULTILINE)[1].split()
SENTINEL_RULE = ["-@all", *re.search(r"Allow the user `([^`]+)` and the channel `&\+switch-master`",
                                     (SOURCE_ROOT / "docs/operate.md").read_text())[1].replace("\\|", "|").split(), "&+switch-master"]  # fmt: skip


def wait_state(stack: Stack, state: str, *words: str, name: str = "watched") -> None:
    stack.wait_shard(name, state, *words)


def sent_again(stack: Stack) -> int:
    metrics = stack.ask("GET", "/metrics").body.decode()
    return int(float(next(line for line in metrics.splitlines() if line.startswith("visitd_flusher_batches_sent_again_total")).split()[1]))


class Failovers(unittest.TestCase):
    def test_exact_while_the_primary_is_killed_again_and_again(self):
        with WatchedStack(frontends=2, shards=2, settings={"flusher": {"flush_interval_ms": 50}}) as stack:
            traffic = Traffic(stack, clients=4, readers=2).start()
            began = time.monotonic()
            for turn in range(FAILOVERS):
                stack.fail_over()
                stack.wait_for_followers()
                time.sleep(max(0.5, began + (turn + 1) * EVERY_S - time.monotonic()))
                if turn == FAILOVERS // 2:
                    stack.kill9("flusher")
                    stack.start_one("flusher")
            before = traffic.acknowledged.total()
            wait_for("visits are acknowledged", lambda: traffic.acknowledged.total() > before + 200)
            traffic.stop()
            traffic.check()
            self.assertEqual(stack.processes["flusher"].starts, 2)
            print(f"{FAILOVERS} failovers in {time.monotonic() - began:.0f} s, {traffic.acknowledged.total()} visits, "
                  f"{traffic.reads} reads, {sent_again(stack)} batches sent again since the flusher's last start", flush=True)  # fmt: skip

    def test_what_a_promoted_replica_lacks_is_sent_again(self):
        with WatchedStack(frontends=1, settings={"flusher": {"flush_interval_ms": 50}}) as stack:
            pages = self.count_once(stack, 60)
            self.fall_behind(stack, pages)
            wait_for("what it lacks is sent again", lambda: stack.redis_counts() == dict.fromkeys(pages, 3))
            self.assertEqual({page: stack.get(page) for page in pages}, dict.fromkeys(pages, 3))
            self.assertGreaterEqual(sent_again(stack), 2)
            stack.post(pages[0])
            stack.wait_for_redis({page: 4 if page == pages[0] else 3 for page in pages})

    def count_once(self, stack: WatchedStack, number: int) -> list[str]:
        """So many pages, each of which the shard has once."""
        pages = [f"page-{page}" for page in range(number)]
        for page in pages:
            stack.post(page)
        stack.wait_for_redis(dict.fromkeys(pages, 1))
        return pages

    def fall_behind(self, stack: WatchedStack, pages: list[str]) -> None:
        """Two batches a bucket are answered by the primary while no replica runs; then it ends, and a replica is promoted."""
        for name in ("server_2", "server_3"):
            stack.kill9(name)
        for count in (2, 3):
            for page in pages:
                stack.post(page)
            stack.wait_for_redis(dict.fromkeys(pages, count))
        stack.flush()
        stack.kill9("server_1")
        for name in ("server_2", "server_3"):
            stack.start_one(name)
        wait_for("a replica is promoted", lambda: stack.another_primary("server_1"), 60, 0.1)

    def test_what_is_not_kept_any_more_holds_the_shard(self):
        with WatchedStack(frontends=1, settings={"flusher": {"flush_interval_ms": 50, "keep_batches_s": 0}}) as stack:
            pages = self.count_once(stack, 20)
            self.fall_behind(stack, pages)
            wait_state(stack, "held", "restored from a copy older than the batches that are kept")
            for page in pages:
                answer = stack.read(page)
                self.assertTrue(answer.status == 503 or answer.json()["count"] >= 3, answer)
                stack.post(page)
            self.assertEqual(stack.redis_counts(), dict.fromkeys(pages, 1))

    def test_what_replicas_lack_is_kept_as_long_as_they_lack_it(self):
        settings = {"flusher": {"flush_interval_ms": 50, "keep_batches_s": 0}, "redis": {"wait_replicas": 2, "check_interval_ms": 100}}
        with WatchedStack(frontends=1, settings=settings) as stack:
            pages = self.count_once(stack, 20)
            self.fall_behind(stack, pages)
            wait_for("what it lacks is sent again", lambda: stack.redis_counts() == dict.fromkeys(pages, 3))
            self.assertEqual({page: stack.get(page) for page in pages}, dict.fromkeys(pages, 3))

    def test_over_tls(self):
        with tempfile.TemporaryDirectory() as folder:
            authority = Authority(Path(folder), "authority")
            server, flusher = authority.sign("server"), authority.sign("flusher")
            lines = [f"tls-cert-file {server.file}", f"tls-key-file {server.key}", f"tls-ca-cert-file {authority.file}"]
            settings = {"tls_ca_file": str(authority.file), "tls_certificate_file": str(flusher.file), "tls_key_file": str(flusher.key)}
            with WatchedStack(frontends=1, settings={"redis": settings}, tls=lines) as stack:
                stack.post("home")
                stack.wait_for_redis({"home": 1})
                primary = stack.fail_over()
                stack.post("home")
                stack.wait_for_redis({"home": 2})
                clients = [line for line in stack.say(primary, "CLIENT", "LIST").splitlines() if "name=visitd" in line]
                self.assertEqual([f":{stack.watched.named[primary]} " in line for line in clients], [True])

    def test_a_change_is_followed_at_once(self):
        # Nobody dies: the former primary goes on as a replica.
        with WatchedStack(frontends=1, settings={"redis": {"check_interval_ms": 3_600_000}}) as stack:
            stack.post("home")
            stack.wait_for_redis({"home": 1})
            for count in (2, 3):
                former = stack.watched.primary()
                wait_for("a failover is begun", lambda: self.begins_failover(stack))
                primary = wait_for("another is primary", lambda former=former: stack.another_primary(former), 30, 0.02)
                named_at = time.monotonic()
                stack.post("home")
                wait_for("the flusher is connected to it", lambda primary=primary: "name=visitd" in stack.say(primary, "CLIENT", "LIST"), 10, 0.02)
                self.assertLess(time.monotonic() - named_at, 3.0)
                stack.wait_for_redis({"home": count})
                wait_for("nothing is at the former one", lambda former=former: "name=visitd" not in stack.say(former, "CLIENT", "LIST"), 10)
                stack.wait_for_followers()

    def begins_failover(self, stack: WatchedStack) -> bool:
        try:
            return stack.say("sentinel_1", "SENTINEL", "FAILOVER", "watched") == "OK"
        except RuntimeError:  # INPROG, NOGOODSLAVE
            return False

    def test_a_former_primary_that_comes_back_as_one_is_left_alone(self):
        with WatchedStack(frontends=1) as stack:
            stack.post("home")
            stack.wait_for_redis({"home": 1})
            stack.kill9("server_1")
            primary = wait_for("another is primary", lambda: stack.another_primary("server_1"), 30, 0.05)
            stack.start_one("server_1")  # it thinks that it is still the primary, until a sentinel looks at it
            stack.post("home")
            stack.wait_for_redis({"home": 2})
            wait_for("it has become a replica", lambda: stack.answers("server_1") and stack.say("server_1", "ROLE")[0] == "slave", 60)
            stack.post("home")
            stack.wait_for_redis({"home": 3})
            self.assertNotIn("name=visitd", stack.say("server_1", "CLIENT", "LIST"))
            self.assertEqual(stack.watched.primary(), primary)

    def test_sentinels_that_go_and_come_back_cost_nothing(self):
        with WatchedStack(frontends=1, settings={"redis": {"timeout_ms": 1000}}) as stack:
            for name in stack.sentinels:
                stack.kill9(name)
            time.sleep(1.5)
            stack.post("home")
            stack.flush()
            self.assertEqual(stack.say("server_1", "INFO", "replication").splitlines()[1], "role:master")
            self.assertEqual(stack.shard_status("watched")["state"], "up")
            for name in stack.sentinels:
                stack.start_one(name)
            wait_for("the sentinels know all", stack.sentinels_know_all)
            wait_for("one is listened to", lambda: any("name=visitd" in stack.say(name, "CLIENT", "LIST") for name in stack.sentinels))
            stack.fail_over()
            stack.post("home")
            stack.wait_for_redis({"home": 2})
            # One that hangs is left for the next one.
            stack.pause("sentinel_1")
            stack.pause("sentinel_2")
            wait_for("the third is listened to", lambda: "name=visitd" in stack.say("sentinel_3", "CLIENT", "LIST"))


class Refusals(unittest.TestCase):
    @contextlib.contextmanager
    def started(self, prepare, settings: dict | None = None, **others):
        """All runs, however the shard does."""
        stack = WatchedStack(frontends=1, settings={"redis": {"timeout_ms": 1000} | (settings or {})}, **others)
        prepare(stack)
        stack.write_settings()
        with stack.started_anyhow():
            yield stack

    def check_goes_on(self, stack: WatchedStack) -> None:
        stack.watched.address = None
        stack.write_settings()
        stack.restart("flusher")
        stack.wait_for_redis({"home": 1})

    def test_a_primary_that_no_sentinel_knows(self):
        with self.started(lambda stack: setattr(stack.watched, "address", stack.watched.url + "-misspelled")) as stack:
            wait_state(stack, "down", "watched-misspelled", "sentinel monitor", *(str(port) for port in stack.sentinels.values()))
            self.check_goes_on(stack)

    def test_sentinels_that_are_all_away(self):
        with self.started(lambda stack: setattr(stack.watched, "address", stack.watched.url_of([free_port(), free_port()]))) as stack:
            wait_state(stack, "down", "no sentinel says where the primary watched is", "Connection refused")
            self.check_goes_on(stack)

    def test_a_server_that_is_no_sentinel(self):
        with self.started(lambda stack: setattr(stack.watched, "address", stack.watched.url_of([stack.watched.servers["server_1"]]))) as stack:
            wait_state(stack, "down", "it is no sentinel", "redis://")
            self.check_goes_on(stack)

    def test_a_sentinel_where_a_shard_should_be(self):
        with self.started(lambda stack: setattr(stack.watched, "address", f"redis://127.0.0.1:{stack.watched.sentinels[0]}")) as stack:
            wait_state(stack, "down", "sentinel://")
            self.check_goes_on(stack)

    def test_a_replica_where_a_shard_should_be(self):
        with self.started(lambda stack: setattr(stack.watched, "address", f"redis://127.0.0.1:{stack.watched.servers['server_2']}")) as stack:
            wait_for("it is told", lambda: "READONLY" in stack.shard_status("watched")["reason"])
            self.assertEqual(stack.say("server_1", "KEYS", "*"), [])
            self.check_goes_on(stack)

    def test_a_sentinel_that_is_behind_is_passed_over(self):
        def serve(listening: socket.socket, port: int) -> None:
            """A sentinel that names a replica."""
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    with client:
                        client.recv(4096)
                        client.sendall(b"+OK\r\n*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n" % (len(str(port)), port))
                        client.recv(4096)  # until it is left

        with contextlib.closing(listening_at(0)) as listening:
            def add(stack: WatchedStack) -> None:
                stack.watched.address = stack.watched.url_of([listening.getsockname()[1], *stack.watched.sentinels])
                threading.Thread(target=serve, args=(listening, stack.watched.servers["server_2"]), daemon=True).start()

            with self.started(add) as stack:
                stack.wait_for_redis({"home": 1})
                self.assertIn("the server is no primary (its role is slave)", stack.processes["flusher"].text())
            listening.shutdown(socket.SHUT_RDWR)  # ends the accept() above

    def test_passwords_of_sentinels(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "password"
            with self.started(lambda stack: None, sentinel_password="sesame") as stack:
                wait_state(stack, "down", "NOAUTH", "redis.sentinel_password_file")
                file.write_text("open\n")
                stack.settings["redis"]["sentinel_password_file"] = str(file)
                self.reload(stack)
                wait_state(stack, "down", "WRONGPASS", f"redis.sentinel_password_file ({file})")
                file.write_text("sesame\n")
                self.reload(stack)
                stack.wait_for_redis({"home": 1})
                self.assertEqual(stack.processes["flusher"].starts, 1)

    def test_a_user_of_its_own_on_servers_and_sentinels(self):
        def restrict(stack: WatchedStack) -> None:
            stack.watched.address = stack.watched.url.replace("sentinel://", "sentinel://visitd@")

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "password"
            file.write_text("sesame\n")
            others = {"password": "sesame", "sentinel_username": "visitd", "sentinel_password_file": str(file)}
            with self.started(restrict, settings=others) as stack:
                wait_state(stack, "down", "WRONGPASS", f"redis.sentinel_password_file ({file})")
                for name in stack.sentinels:
                    stack.say(name, "ACL", "SETUSER", "visitd", "reset", "on", ">sesame", *SENTINEL_RULE)
                wait_state(stack, "down", "the password for user visitd was not accepted")
                for name in stack.watched.servers:
                    stack.say(name, "ACL", "SETUSER", "visitd", "reset", "on", ">sesame", *RULE)
                wait_state(stack, "down", "ROLE: NOPERM")
                for name in stack.watched.servers:
                    stack.say(name, "ACL", "SETUSER", "visitd", "+role")
                stack.wait_for_redis({"home": 1})
                for name in stack.sentinels:
                    denied = [dict(zip(entry[::2], entry[1::2])) for entry in stack.say(name, "ACL", "LOG")]
                    self.assertEqual([entry for entry in denied if entry["reason"] != "auth"], [])  # before it had the user
                stack.fail_over()
                stack.post("home")
                stack.wait_for_redis({"home": 2})

    def reload(self, stack: WatchedStack) -> None:
        stack.write_settings()
        os.kill(stack.processes["flusher"].pid, signal.SIGHUP)


if __name__ == "__main__":
    unittest.main()
