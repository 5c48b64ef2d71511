#!/usr/bin/env python3
"""SIGHUP lets running programs read their settings again: what may change counts at once, what may not is named, nothing is lost."""

import os
import re
import signal
import socket
import time
import unittest

from harness import Client, Stack, Traffic, wait_for

ORIGIN = "https://shop.example"
OTHER_ORIGIN = "https://blog.example"


def hang_up(stack: Stack, *names: str) -> None:
    for name in names:
        os.kill(stack.processes[name].pid, signal.SIGHUP)


def change(stack: Stack, section: str, **values) -> None:
    stack.settings.setdefault(section, {}).update(values)
    stack.write_settings()


def wait_for_log(stack: Stack, name: str, text: str) -> None:
    wait_for(f"{name} says {text!r}", lambda: text in stack.processes[name].text(), 20)


class Frontend(unittest.TestCase):
    def test_what_may_change_counts_for_connections_that_are_open(self):
        with Stack(frontends=1) as stack, Client(stack.port) as client:
            pid = stack.processes["frontend_1"].pid
            socket_in_use = None

            def allowed(origin: str = ORIGIN) -> str | None:
                nonlocal socket_in_use
                answer = client.ask("GET", "/", headers={"Origin": origin})
                self.assertEqual(answer.status, 200)
                socket_in_use = socket_in_use or client._connection.sock
                self.assertIs(client._connection.sock, socket_in_use, "the connection was closed")
                return answer.headers["Access-Control-Allow-Origin"]

            self.assertEqual([allowed(ORIGIN), allowed(OTHER_ORIGIN)], [ORIGIN, OTHER_ORIGIN])
            many = b'{"home":1,"about":1}'
            self.assertEqual(client.ask("POST", "/visits", many).status, 200)
            change(stack, "http", cors_origins=[ORIGIN], batch_read_limit=1)
            hang_up(stack, "frontend_1")
            wait_for("the origin is the one allowed", lambda: [allowed(ORIGIN), allowed(OTHER_ORIGIN)] == [ORIGIN, None], 20)
            wait_for_log(stack, "frontend_1", "read the settings again: http.cors_origins, http.batch_read_limit changed")
            self.assertEqual(client.ask("GET", "/visits?page=home&page=about").status, 400)
            change(stack, "http", cors_origins=[], body_limit_bytes=10, hot_routes="httplib")
            hang_up(stack, "frontend_1")
            wait_for("no origin is allowed", lambda: allowed() is None, 20)
            self.assertEqual(client.ask("POST", "/visits", many).status, 413)
            self.assertEqual(stack.get("home"), 1)
            self.assertEqual(stack.processes["frontend_1"].pid, pid)
            self.assertTrue(stack.processes["frontend_1"].alive)

    def test_connections_that_wait_already_have_the_new_deadline(self):
        with Stack(frontends=1, settings={"http": {"idle_timeout_ms": 600_000, "head_timeout_ms": 600_000}}) as stack:
            waiting = []
            for sent in (b"", b"GET / HT"):
                connection = self.enterContext(socket.create_connection(("127.0.0.1", stack.port), timeout=30))
                connection.sendall(sent)
                waiting.append(connection)
            with Client(stack.port) as client:  # so that the frontend has taken the others
                self.assertEqual(client.ask("GET", "/").status, 200)
            change(stack, "http", idle_timeout_ms=300, head_timeout_ms=200)
            hang_up(stack, "frontend_1")
            for connection in waiting:
                self.assertEqual(connection.recv(100), b"", "it was not closed")

    def test_connections_that_are_open_count_towards_a_new_limit_of_an_address(self):
        with Stack(frontends=1) as stack:
            held = []
            for _ in range(4):
                connection = self.enterContext(socket.create_connection(("127.0.0.1", stack.port), timeout=30))
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertIn(b"200 OK", connection.recv(4096))
                held.append(connection)
            # Loopback is a trusted proxy by default, and has no limit.
            change(stack, "http", address_connection_limit=4, trusted_proxies=[])
            hang_up(stack, "frontend_1")
            wait_for_log(stack, "frontend_1", "read the settings again: http.address_connection_limit, http.trusted_proxies changed")
            with Client(stack.port) as fifth:
                self.assertEqual(fifth.ask("GET", "/").status, 200)
                self.assertEqual(held[0].recv(100), b"", "the longest idle one did not make room")

    def test_what_may_not_change_is_named_and_stays(self):
        with Stack(frontends=1) as stack:
            change(stack, "ring", lanes=7)
            change(stack, "http", api_prefix="/other", retry_after_s=9)
            hang_up(stack, "frontend_1", "flusher")
            for name in ("frontend_1", "flusher"):
                wait_for_log(stack, name, "ring.lanes changed in the settings, from 4 to 7: counts after a restart of the frontends")
                wait_for_log(stack, name, "http.api_prefix changed in the settings")
                wait_for_log(stack, name, "read the settings again: http.retry_after_s changed")
            self.assertEqual(stack.post("home", prefix="/api/v1/counter").status, 200)
            self.assertEqual(stack.ask("POST", "/other/visit/home").status, 404)
            stack.restart("frontend_1")
            stack.wait_ready()
            self.assertEqual(stack.post("home", prefix="/other").status, 200)
            self.assertEqual(stack.get("home"), 2)

    def test_a_file_that_is_not_right_changes_nothing(self):
        with Stack(frontends=1) as stack:
            good = stack.settings_file.read_text()
            stack.settings_file.write_text(good.replace("[http]", "[http]\ncors_origins = []\nretry_after_s = 0"))
            hang_up(stack, "frontend_1", "flusher")
            for name in ("frontend_1", "flusher"):
                wait_for_log(stack, name, "the settings were not read again, those in use stay: ")
                wait_for_log(stack, name, "http.retry_after_s is 0; allowed: 1 to 3600")
            self.assertEqual(stack.ask("GET", "/", headers={"Origin": ORIGIN}).headers["Access-Control-Allow-Origin"], ORIGIN)
            stack.settings_file.unlink()
            hang_up(stack, "frontend_1", "flusher")
            for name in ("frontend_1", "flusher"):
                wait_for_log(stack, name, "cannot open the settings file")
            stack.post("home")
            stack.wait_for_redis({"home": 1})


class Flusher(unittest.TestCase):
    def test_intervals_and_the_ttl_count_at_once(self):
        with Stack(frontends=1, settings={"flusher": {"flush_interval_ms": 3_600_000}, "cache": {"ttl_ms": 3_600_000}}) as stack:
            def ttl(page: str) -> int:
                answer = stack.read(page)
                self.assertEqual(answer.status, 200)
                stack.read(page)
                return int(re.search(r"ttl=(\d+)", stack.read(page).headers["Cache-Status"])[1])

            stack.post("home")
            self.assertGreater(ttl("home"), 3000)
            self.assertEqual(stack.redis_counts(), {})
            change(stack, "flusher", flush_interval_ms=50)
            change(stack, "cache", ttl_ms=20_000, entries=100)
            hang_up(stack, "flusher")
            stack.wait_for_redis({"home": 1})
            wait_for_log(stack, "flusher", "read the settings again: cache.ttl_ms, flusher.flush_interval_ms changed")
            wait_for_log(stack, "flusher", "cache.entries changed in the settings, from 4096 to 100: counts after a restart of the flusher")
            self.assertLessEqual(ttl("about"), 20)

    def test_passwords_and_other_addresses_are_not_shown(self):
        with Stack(frontends=1) as stack:
            good = stack.settings_file.read_text()
            stack.settings_file.write_text(good.replace("redis://", "redis://:very-secret@"))
            hang_up(stack, "flusher")
            wait_for_log(stack, "flusher", "read the settings again: passwords or certificates of redis.shards changed")
            stack.settings_file.write_text(good.replace("redis://127.0.0.1", "redis://:very-secret@localhost"))
            hang_up(stack, "flusher")
            wait_for_log(stack, "flusher", "redis.shards changed in the settings, which names other servers")
            self.assertNotIn("very-secret", stack.processes["flusher"].text())

    def test_a_new_password_is_taken_without_a_restart_and_breaks_no_connection(self):
        with Stack(frontends=1, shards=1) as stack:
            file = stack.folder / "password"
            file.write_text("first\n")
            change(stack, "redis", password_file=str(file))
            shard = stack.shards[0]

            def demand(password: str, former: str = "") -> None:
                with shard.client() as redis:
                    if former:
                        redis("AUTH", former)
                    redis("CONFIG", "SET", "requirepass", password)

            def connection(password: str) -> int:
                with shard.client() as redis:
                    redis("AUTH", password)
                    lines = [line for line in redis("CLIENT", "LIST").splitlines() if "name=visitd" in line]
                self.assertEqual(len(lines), 1, lines)
                return int(lines[0].split()[0].removeprefix("id="))

            demand("first")
            hang_up(stack, "flusher")
            wait_for_log(stack, "flusher", "passwords or certificates of redis.shards changed")
            before = connection("first")
            file.write_text("second\n")
            change(stack, "flusher", flush_interval_ms=200)  # equal lines of log in a row are one
            hang_up(stack, "flusher")
            wait_for_log(stack, "flusher", "read the settings again: flusher.flush_interval_ms, passwords or certificates of redis.shards changed")
            stack.post("home")
            stack.flush()
            self.assertEqual(connection("first"), before)
            demand("second", "first")
            with shard.client() as redis:  # those who come now need the new one
                redis("AUTH", "second")
                redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                stack.post("home")
                stack.flush()
            self.assertNotEqual(connection("second"), before)
            self.assertNotIn("WRONGPASS", stack.processes["flusher"].text())
            self.assertEqual(stack.processes["flusher"].starts, 1)
            self.assertEqual(stack.get("home"), 2)

    def test_one_that_waits_for_a_ring_reads_them_once_it_has_one(self):
        stack = Stack(frontends=1, settings={"flusher": {"flush_interval_ms": 3_600_000}})
        try:
            for shard in stack.shards:
                stack.start_one(shard.name)
                stack.wait_for_shard(shard)
            stack.start_one("flusher")
            wait_for_log(stack, "flusher", "waiting for the first frontend")
            change(stack, "flusher", flush_interval_ms=50)
            hang_up(stack, "flusher")
            stack.start_one("frontend_1")
            stack.wait_ready(20)
            stack.post("home")
            stack.wait_for_redis({"home": 1})
            self.assertEqual(stack.processes["flusher"].starts, 1)
        except BaseException:
            stack.print_logs()
            raise
        finally:
            stack.close()


class Everything(unittest.TestCase):
    def test_the_service_manager_is_told_when_it_begins_and_when_it_is_done(self):
        with Stack(frontends=1) as stack:
            for name in ("frontend_1", "flusher"):
                manager = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                path = str(stack.folder / f"{name}.notify")
                manager.bind(path)
                manager.settimeout(20)
                process = stack.processes[name]
                process.environment = process.environment | {"NOTIFY_SOCKET": path}
                stack.restart(name)

                def told(what: str, manager=manager) -> str:
                    """The next message that is one of these; others, such as signs of life, may come between."""
                    for _ in range(1000):
                        message = manager.recv(4096).decode()
                        if re.match(r"READY=|RELOADING=|STOPPING=", message):
                            self.assertTrue(message.startswith(what), message)
                            return message
                    raise AssertionError(f"{what} did not come")

                told("READY=1")
                before_us = time.monotonic_ns() // 1000
                hang_up(stack, name)
                began_us = int(re.search(r"MONOTONIC_USEC=(\d+)", told("RELOADING=1"))[1])
                self.assertGreaterEqual(began_us, before_us)
                told("READY=1")
                self.assertEqual(stack.stop_one(name), 0)
                told("STOPPING=1")

    def test_changes_under_load_lose_nothing(self):
        with Stack(frontends=2) as stack:
            traffic = Traffic(stack, clients=6, readers=2, pages=30).start()
            for turn in range(30):
                change(stack, "flusher", flush_interval_ms=(50, 400)[turn % 2], commit_interval_ms=(20, 100)[turn % 2],
                       batch_pages=(1, 1000)[turn % 2], memory_limit_bytes=("4MiB", "64MiB")[turn % 2],
                       journal_limit_bytes=("1MiB", "32MiB")[turn % 2])  # fmt: skip
                change(stack, "cache", ttl_ms=(100, 5000)[turn % 2])
                change(stack, "http", hot_routes=("httplib", "direct")[turn % 2], lookup_timeout_ms=(5000, 8000)[turn % 2],
                       idle_timeout_ms=(60_000, 90_000)[turn % 2])  # fmt: skip
                hang_up(stack, "flusher", *stack.frontends)
                time.sleep(0.1)
            before = traffic.acknowledged.total()
            wait_for("visits are acknowledged", lambda: traffic.acknowledged.total() > before + 200, 30)
            traffic.stop()
            traffic.check()
            for name in ("flusher", *stack.frontends):
                self.assertEqual(stack.processes[name].starts, 1)
                self.assertTrue(stack.processes[name].alive)
                self.assertIn("read the settings again: ", stack.processes[name].text())


if __name__ == "__main__":
    unittest.main()
