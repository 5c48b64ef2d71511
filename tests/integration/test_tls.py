#!/usr/bin/env python3
"""Shards over TLS: exact through kills, and whatever is wrong with certificates, keys and ports is said, and can be put right."""

import contextlib
import os
import signal
import socket
import tempfile
import threading
import time
import unittest
from pathlib import Path

from certificates import Authority, openssl
from harness import FLUSHER, Process, Stack, Traffic, free_port, listening_at, wait_for

CERTIFICATES = {}


def setUpModule():
    folder = Path(unittest.enterModuleContext(tempfile.TemporaryDirectory(prefix="visitd-tls-")))
    ours, other = Authority(folder / "ours", "our-authority"), Authority(folder / "other", "other-authority")
    CERTIFICATES.update({
        "authority": ours, "server": ours.sign("server"), "flusher": ours.sign("flusher"),
        "elsewhere": ours.sign("elsewhere", "DNS:elsewhere.example,IP:192.0.2.1"), "expired": ours.sign("expired", days=-1),
        "other authority": other, "stranger": other.sign("stranger"),
    })  # fmt: skip


def server_arguments(certificate: str = "server", clients: str = "yes", *others: str) -> list[str]:
    return [*CERTIFICATES["authority"].server_arguments(CERTIFICATES[certificate], clients), *others]


def tls_settings(authority: str = "authority", flusher: str | None = "flusher", **others: str) -> dict[str, str]:
    settings = {"tls_ca_file": str(CERTIFICATES[authority].file)} if authority else {}
    if flusher:
        settings |= {"tls_certificate_file": str(CERTIFICATES[flusher].file), "tls_key_file": str(CERTIFICATES[flusher].key)}
    return settings | others


def over_tls(stack: Stack, *arguments: str) -> Stack:
    """Its shards have a port for TLS besides, which the settings name."""
    for shard in stack.shards:
        shard.tls_port = free_port()
        stack.processes[shard.name].argv += ["--tls-port", str(shard.tls_port), *(arguments or server_arguments())]
    stack.write_settings()
    return stack


class Counting(unittest.TestCase):
    def test_exact_through_kills_of_flusher_and_servers(self):
        stack = over_tls(Stack(frontends=2, settings={"redis": tls_settings()}, supervised=True))
        for shard in stack.shards:
            shard.host = "localhost"  # a name in the certificates, which have the address too
        stack.write_settings()
        with stack:
            traffic = Traffic(stack, clients=6, readers=2).start()
            for _ in range(4):
                for victim in ("flusher", stack.shards[0].name, "flusher", stack.shards[1].name):
                    time.sleep(0.35)
                    stack.kill9(victim)
            before = traffic.acknowledged.total()
            wait_for("visits are acknowledged", lambda: traffic.acknowledged.total() > before + 500)
            traffic.stop()
            traffic.check()
            for shard in stack.shards:
                with shard.client() as redis:
                    lines = [line for line in redis("CLIENT", "LIST").splitlines() if "name=visitd" in line]
                    self.assertEqual([f":{shard.tls_port}" in line.split("laddr=")[1].split()[0] for line in lines], [True])

    def test_batches_and_answers_of_many_seals(self):
        with over_tls(Stack(frontends=1, shards=1, settings={"redis": tls_settings(), "ring": {"lane_bytes": 32 << 20},
                                                                 "flusher": {"flush_interval_ms": 3_600_000}})) as stack:
            pages = [f"{number:05d}-{'x' * 900}" for number in range(20_000)]
            for begin in range(0, len(pages), 500):
                taken = stack.ask("POST", "/visits", ("[" + ",".join(f'"{page}"' for page in pages[begin : begin + 500]) + "]").encode())
                self.assertEqual(taken.status, 200, taken)
            stack.flush()
            stack.wait_for_redis(dict.fromkeys(pages, 1))

    def test_the_oldest_version_of_tls_that_is_safe(self):
        with over_tls(Stack(frontends=1, shards=1, settings={"redis": tls_settings()}),
                      *server_arguments("server", "yes", "--tls-protocols", "TLSv1.2")) as stack:  # fmt: skip
            stack.post("home")
            stack.wait_for_redis({"home": 1})

    def test_credentials_of_systemd(self):
        with tempfile.TemporaryDirectory() as folder:
            for name, file in (("redis_tls_ca", CERTIFICATES["authority"].file), ("redis_tls_certificate", CERTIFICATES["flusher"].file),
                               ("redis_tls_key", CERTIFICATES["flusher"].key)):  # fmt: skip
                (Path(folder) / name).write_bytes(file.read_bytes())
            with over_tls(Stack(frontends=1, shards=1, environment={"CREDENTIALS_DIRECTORY": folder})) as stack:
                stack.post("home")
                stack.wait_for_redis({"home": 1})


class Adding(unittest.TestCase):
    def test_a_server_becomes_a_shard_if_its_certificate_is_for_it(self):
        with over_tls(Stack(frontends=1, shards=1, settings={"redis": tls_settings()})) as stack:
            for certificate, becomes_one in (("elsewhere", False), ("server", True)):
                port = free_port()
                spare = stack.spare("--tls-port", str(port), *server_arguments(certificate))
                said = stack.visitctl("shards", "add", f"{spare.name}=rediss://127.0.0.1:{port}", check=False)
                self.assertEqual(said.returncode == 0, becomes_one, said.stderr)
                if not becomes_one:
                    for word in ("cannot be used: ", "elsewhere.example, 192.0.2.1", "redis.tls_server_name"):
                        self.assertIn(word, said.stderr)
                self.assertEqual(stack.status("shards", "moves")["version"], 3 if becomes_one else 1)


class Refusals(unittest.TestCase):
    @contextlib.contextmanager
    def started(self, *arguments: str, settings: dict[str, str], shards: int = 1):
        """All runs, however its shards do."""
        stack = over_tls(Stack(frontends=1, shards=shards, settings={"redis": {"timeout_ms": 1000} | settings}), *arguments)
        with stack.started_anyhow():
            yield stack

    def reason(self, stack: Stack, *words: str) -> None:
        """The first shard is down, with these words."""
        name = stack.shards[0].name
        last = {}

        def says() -> bool:
            nonlocal last
            last = next((shard for shard in stack.status()["shards"] if shard["name"] == name), {})
            return last.get("state") == "down" and all(word in last["reason"] for word in words)

        try:
            wait_for(f"{name} is down: {words}", says, 10)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; it is {last}") from None
        self.assertNotIn("IPAddressAllow", last["reason"])
        self.assertLessEqual(stack.processes["flusher"].text().count(f"shard {name} is down"), 2)

    def put_right(self, stack: Stack, **settings: str) -> None:
        """By a reload, without a restart: the visit that waited is counted."""
        redis = stack.settings["redis"]
        for key in [key for key in redis if key.startswith("tls_")]:
            del redis[key]
        redis.update(settings)
        stack.write_settings()
        os.kill(stack.processes["flusher"].pid, signal.SIGHUP)
        stack.wait_for_redis({"home": 1})
        self.assertEqual(stack.processes["flusher"].starts, 1)
        self.assertIn("read the settings again: passwords or certificates of redis.shards changed", stack.processes["flusher"].text())

    def test_a_certificate_for_another_name(self):
        with self.started(*server_arguments("elsewhere"), settings=tls_settings()) as stack:
            self.reason(stack, "elsewhere.example, 192.0.2.1", "127.0.0.1", "redis.tls_server_name")
            self.put_right(stack, **tls_settings(tls_server_name="elsewhere.example"))

    def test_another_name_than_the_settings_want(self):
        with self.started(settings=tls_settings(tls_server_name="wanted.example")) as stack:
            self.reason(stack, "localhost, 127.0.0.1", "not for wanted.example, which is redis.tls_server_name")
            self.put_right(stack, **tls_settings(tls_server_name="127.0.0.1"))

    def test_a_certificate_that_has_expired(self):
        with self.started(*server_arguments("expired"), settings=tls_settings()) as stack:
            self.reason(stack, "the server's certificate expired at ")

    def test_an_authority_that_is_not_known(self):
        with self.started(settings=tls_settings("other authority")) as stack:
            self.reason(stack, "our-authority", "redis.tls_ca_file", str(CERTIFICATES["other authority"].file))
            self.put_right(stack, **tls_settings())

    def test_without_an_authority_those_of_the_system_count(self):
        with self.started(settings=tls_settings("")) as stack:
            self.reason(stack, "our-authority", "redis.tls_ca_file")

    def test_no_certificate_where_the_server_wants_one(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            with self.subTest(version), self.started(*server_arguments("server", "yes", "--tls-protocols", version),
                                                     settings=tls_settings(flusher=None)) as stack:  # fmt: skip
                self.reason(stack, "redis.tls_certificate_file", "redis.tls_key_file")
                self.put_right(stack, **tls_settings())

    def test_no_certificate_where_the_server_takes_any_client(self):
        with self.started(*server_arguments("server", "no"), settings=tls_settings(flusher=None)) as stack:
            stack.wait_for_redis({"home": 1})

    def test_a_certificate_of_ours_that_the_server_does_not_accept(self):
        for flusher in ("stranger", "expired"):
            with self.subTest(flusher), self.started(settings=tls_settings(flusher=flusher)) as stack:
                self.reason(stack, "did not accept our certificate", str(CERTIFICATES[flusher].file))
                self.put_right(stack, **tls_settings())

    def test_a_key_that_is_not_that_of_the_certificate(self):
        with self.started(settings=tls_settings(tls_key_file=str(CERTIFICATES["server"].key))) as stack:
            self.reason(stack, "redis.tls_key_file", str(CERTIFICATES["server"].key), "redis.tls_certificate_file")
            self.put_right(stack, **tls_settings())

    def test_a_damaged_certificate_and_key(self):
        with tempfile.TemporaryDirectory() as folder:
            for key, source in (("tls_ca_file", CERTIFICATES["authority"].file), ("tls_certificate_file", CERTIFICATES["flusher"].file),
                                ("tls_key_file", CERTIFICATES["flusher"].key)):  # fmt: skip
                lines = source.read_text().splitlines()
                damaged = Path(folder) / key
                damaged.write_text("\n".join([lines[0], lines[1][::-1], *lines[2:]]) + "\n")
                with self.subTest(key), self.started(settings=tls_settings(**{key: str(damaged)})) as stack:
                    self.reason(stack, f"redis.{key} ({damaged})")
                    self.put_right(stack, **tls_settings())

    def test_tls_asked_of_a_plain_port(self):
        # The server waits for the end of what it takes for a command. The other shard goes on meanwhile.
        stack = Stack(frontends=1, settings={"redis": {"timeout_ms": 1000} | tls_settings()})
        over_tls(stack)
        with stack:
            sick = stack.shards[0]
            pages = [f"page-{number}" for number in range(40)]
            for page in pages:
                stack.post(page)
            stack.wait_for_redis(dict.fromkeys(pages, 1))
            stack.stop_one("flusher")
            sick.tls_port, tls_port = sick.port, sick.tls_port
            stack.write_settings()
            stack.start_one("flusher")
            self.reason(stack, "tls-port", "redis://")
            places = stack.redis_places()
            healthy = [page for page in pages if places[page][0] != sick.name]
            for page in healthy:
                stack.post(page)
            wait_for("the other shard counts", lambda: all(stack.redis_counts()[page] == 2 for page in healthy), 10)
            sick.tls_port = tls_port
            stack.write_settings()
            stack.restart("flusher")
            stack.wait_for_redis({page: 2 if page in healthy else 1 for page in pages})

    def test_a_plain_connection_to_a_port_of_tls(self):
        with self.started(settings=tls_settings()) as stack:
            stack.wait_for_redis({"home": 1})
            shard = stack.shards[0]
            shard.port, shard.tls_port, port = shard.tls_port, None, shard.port
            for key in tls_settings():
                del stack.settings["redis"][key]
            stack.write_settings()
            stack.restart("flusher")
            self.reason(stack, "rediss://")
            shard.port = port
            stack.write_settings()
            stack.post("home")
            stack.restart("flusher")
            stack.wait_for_redis({"home": 2})

    def test_what_answers_there_is_no_server_of_tls(self):
        with contextlib.closing(listening_at(0)) as listening, self.started(settings=tls_settings()) as stack:
            def serve() -> None:
                with contextlib.suppress(OSError):
                    while True:
                        client, _ = listening.accept()
                        with client:
                            client.recv(4096)
                            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            threading.Thread(target=serve, daemon=True).start()
            stack.shards[0].tls_port = listening.getsockname()[1]
            stack.write_settings()
            stack.restart("flusher")
            self.reason(stack, "does not speak TLS", "tls-port")
            listening.shutdown(socket.SHUT_RDWR)


class Settings(unittest.TestCase):
    """What can be seen without a connection is refused before anything starts."""

    def refused(self, stack: Stack, *words: str) -> None:
        stack.write_settings()
        checked = Process("check", [str(FLUSHER), "--config", str(stack.settings_file), "--check-config"], stack.folder / "log/check.log",
                          stack.processes["flusher"].environment, stack.folder)  # fmt: skip
        checked.start()
        self.assertEqual(checked.running.wait(30), 2)
        for word in words:
            self.assertIn(word, checked.text())

    def test_files_that_cannot_be_used(self):
        stack = over_tls(Stack(frontends=0, shards=1))
        try:
            key = stack.folder / "with-passphrase.key"
            openssl("pkey", "-in", CERTIFICATES["flusher"].key, "-aes256", "-passout", "pass:secret", "-out", key)
            for settings, *words in (
                (tls_settings(tls_ca_file=str(stack.folder / "missing")), "visitd.toml:", "missing", "No such file"),
                (tls_settings(tls_ca_file="ca.crt"), "redis.tls_ca_file", "an absolute path"),
                (tls_settings(tls_ca_file=str(stack.settings_file)), "redis.tls_ca_file", "CERTIFICATE-----"),
                (tls_settings(tls_certificate_file=str(CERTIFICATES["flusher"].key)), "redis.tls_certificate_file", "CERTIFICATE-----"),
                (tls_settings(tls_key_file=str(CERTIFICATES["flusher"].file)), "redis.tls_key_file", "PRIVATE KEY-----"),
                (tls_settings(tls_key_file=str(key)), "redis.tls_key_file", "passphrase"),
                (tls_settings(tls_key_file=""), "redis.tls_certificate_file", "redis.tls_key_file"),
                (tls_settings(tls_certificate_file=""), "redis.tls_certificate_file", "redis.tls_key_file"),
                (tls_settings(tls_server_name="a b"), "redis.tls_server_name", "a host name"),
            ):  # fmt: skip
                with self.subTest(words):
                    stack.settings["redis"] = settings
                    self.refused(stack, *words)
        finally:
            stack.close()


if __name__ == "__main__":
    unittest.main()
