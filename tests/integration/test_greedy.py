"""Greedy clients beside honest ones: what one address takes of a frontend's memory and time, and what is left to the others."""

import contextlib
import http.client
import json
import re
import resource
import socket
import statistics
import threading
import time
import unittest
from pathlib import Path

from harness import PATIENCE_S, Stack, has_read_all, wait_for

MIB = 1 << 20
SLOW_READERS = 900
UNSENT_LIMIT_BYTES = 16 * MIB
# Of a frontend's own memory beside that: code's data, connections, one long answer on its way.
OTHER_BYTES = 32 * MIB
AT_REST_BYTES = 12 * MIB
# The bench says what it is on a quiet machine; it was seconds before requests of this kind had turns.
HONEST_P99_LIMIT_MS = 250
GREEDY, HONEST = "127.0.0.2", "127.0.0.3"


def raise_file_limit(files: int = 4096) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))


def connect(stack: Stack, source: str, receive_bytes: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(PATIENCE_S)
    connection.bind((source, 0))
    connection.connect(("127.0.0.1", stack.port))
    return connection


def own_bytes(stack: Stack) -> int:
    status = Path(f"/proc/{stack.processes['frontend_1'].pid}/status").read_text()
    return 1024 * int(re.search(r"RssAnon:\s+(\d+) kB", status)[1])


def is_sanitized(stack: Stack) -> bool:
    return "libasan" in Path(f"/proc/{stack.processes['frontend_1'].pid}/maps").read_text()


def statistic(stack: Stack, name: str) -> int:
    return stack.status()["frontends"][0]["statistics"][name]


def request(method: str, path: str, body: bytes = b"") -> bytes:
    return b"%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (method.encode(), path.encode(), len(body)) + body


class HonestClient:
    """Records a visit every 5 ms from an address of its own, until the block is left; knows how long each took."""

    def __init__(self, stack: Stack):
        self._connection = connect(stack, HONEST)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self.seconds: list[float] = []
        self.faults: list[bytes] = []

    def _go(self) -> None:
        while not self._ending.wait(0.005):
            begun = time.monotonic()
            self._connection.sendall(request("POST", "/visit/honest"))
            answer = self._connection.recv(65536)
            self.seconds.append(time.monotonic() - begun)
            if not answer.startswith(b"HTTP/1.1 200 "):
                self.faults.append(answer)
                return

    def p99_ms(self) -> float:
        return statistics.quantiles(self.seconds, n=100)[98] * 1000

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        self._thread.join(PATIENCE_S)
        self._connection.close()


class SlowReaders(unittest.TestCase):
    def test_long_answers_that_nobody_takes_are_held_up_to_a_limit_and_their_memory_is_given_back(self):
        raise_file_limit()
        settings = {"http": {"trusted_proxies": [], "send_timeout_ms": 60_000}}
        with Stack(frontends=1, settings=settings) as stack, contextlib.ExitStack() as held:
            pages = [f"{number:04}" + "p" * 246 for number in range(1000)]
            body = json.dumps(pages).encode()
            answer = stack.ask("POST", "/visits/query", body)
            self.assertEqual(answer.status, 200)
            self.assertGreater(len(answer.body), 250_000)
            with HonestClient(stack) as honest:
                most = 0
                for _ in range(SLOW_READERS):
                    connection = held.enter_context(connect(stack, GREEDY, receive_bytes=4096))
                    with contextlib.suppress(ConnectionError):
                        connection.sendall(request("POST", "/visits/query", body))
                        self.assertEqual(connection.recv(1), b"H")  # the answer has begun: no body is being received
                    most = max(most, own_bytes(stack))
                wait_for("all of them were answered", lambda: statistic(stack, "requests") >= SLOW_READERS)
                most = max(most, own_bytes(stack))
            self.assertEqual(honest.faults, [])
            self.assertGreater(len(honest.seconds), 50)
            evicted = wait_for("evictions are told", lambda: statistic(stack, "connections_evicted_sending"))
            held.close()
            print(f"{most / MIB:.1f} MiB at most, {evicted} evicted, honest p99 {honest.p99_ms():.1f} ms", flush=True)
            self.assertGreater(evicted, 50)
            if not is_sanitized(stack):
                self.assertLess(most, UNSENT_LIMIT_BYTES + OTHER_BYTES)
                wait_for("the memory is given back", lambda: own_bytes(stack) < AT_REST_BYTES)
            print(f"{own_bytes(stack) / MIB:.1f} MiB afterwards", flush=True)


class StalledUploads(unittest.TestCase):
    PART = b" " * 1_000_000
    REST = b" " * 1000 + b'["greedy"]'

    def stall(self, stack: Stack, held: contextlib.ExitStack, count: int = 70) -> list[socket.socket]:
        head = b"POST /visits HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(self.PART + self.REST)
        stalled = [held.enter_context(connect(stack, GREEDY)) for _ in range(count)]
        for connection in stalled:
            with contextlib.suppress(ConnectionError):
                connection.sendall(head + self.PART)
        wait_for("what came is read", lambda: has_read_all(stack, stalled))
        return stalled

    def bulk(self, stack: Stack, source: str, entries: int = 20_000) -> bytes:
        """The answer to a body that comes in two parts, as one of that length does over a network."""
        body = json.dumps(["honest"] * entries).encode()
        with connect(stack, source) as connection:
            connection.sendall(request("POST", "/visits", body)[: -len(body) // 2])
            time.sleep(0.02)
            connection.sendall(body[len(body) - len(body) // 2 :])
            received = b""
            while b"\r\n\r\n" not in received:
                some = connection.recv(65536)
                if not some:
                    break
                received += some
        return received

    def test_stalled_uploads_of_one_address_shut_bulk_for_nobody_else(self):
        with Stack(frontends=1, settings={"http": {"trusted_proxies": []}, "ring": {"lane_bytes": 16 * MIB}}) as stack, contextlib.ExitStack() as held:
            self.stall(stack, held)
            for _ in range(5):
                for source in (HONEST, "127.0.0.4"):
                    self.assertRegex(self.bulk(stack, source), rb"^HTTP/1\.1 200 ")
            stack.flush()
            self.assertEqual(stack.redis_counts(), {"honest": 10 * 20_000})
            # Who had to make room was told so.
            wait_for("refusals are told", lambda: statistic(stack, "requests_refused") > 0)

    def test_behind_a_proxy_stalled_uploads_make_room_after_a_while_and_small_bodies_need_none(self):
        with Stack(frontends=1) as stack, contextlib.ExitStack() as held:
            self.stall(stack, held)
            self.assertRegex(self.bulk(stack, HONEST, 1000), rb"^HTTP/1\.1 200 ")
            wait_for("bulk is taken", lambda: self.bulk(stack, HONEST).startswith(b"HTTP/1.1 200 "), 10, 0.2)


class DearRequests(unittest.TestCase):
    """What costs much is answered in pieces, between which everybody else has a turn."""

    CONNECTIONS, PAGES = 200, 500
    HEADS, HEADS_AT_ONCE = 100, 50

    def check(self, honest: HonestClient, what: str) -> None:
        self.assertEqual(honest.faults, [])
        print(f"{what}: honest p50 {statistics.median(honest.seconds) * 1000:.1f} ms, p99 {honest.p99_ms():.1f} ms", flush=True)
        self.assertLess(honest.p99_ms(), HONEST_P99_LIMIT_MS)

    def test_lists_of_cold_pages(self):
        self.read_lists(65536)

    def test_lists_of_more_cold_pages_than_the_cache_has_room_for(self):
        self.read_lists(4096)

    def read_lists(self, entries: int):
        with Stack(frontends=1, settings={"http": {"list_timeout_ms": 60_000}, "cache": {"entries": entries}}) as stack, contextlib.ExitStack() as held:
            greedy = [held.enter_context(connect(stack, GREEDY)) for _ in range(self.CONNECTIONS)]
            lists = [[f"cold-{number}-{page}" for page in range(self.PAGES)] for number in range(self.CONNECTIONS)]
            with HonestClient(stack) as honest:
                for connection, pages in zip(greedy, lists):
                    connection.sendall(request("POST", "/visits/query", json.dumps(pages).encode()))
                for connection, pages in zip(greedy, lists):
                    answer = http.client.HTTPResponse(connection)
                    answer.begin()
                    self.assertEqual(answer.status, 200)
                    self.assertEqual(json.loads(answer.read()), {"counts": dict.fromkeys(pages, 0)})
            self.check(honest, f"{self.CONNECTIONS} lists of {self.PAGES} cold pages")

    def test_heads_of_the_metrics(self):
        with Stack(frontends=1) as stack, contextlib.ExitStack() as held:
            greedy = [held.enter_context(connect(stack, GREEDY)) for _ in range(self.HEADS)]
            with HonestClient(stack) as honest:
                for _ in range(5):
                    for connection in greedy:
                        connection.sendall(request("HEAD", "/metrics") * self.HEADS_AT_ONCE)
                    for connection in greedy:
                        received = b""
                        while received.count(b"\r\n\r\n") < self.HEADS_AT_ONCE:
                            some = connection.recv(65536)
                            self.assertTrue(some)
                            received += some
                        self.assertEqual(received.count(b"HTTP/1.1 200 "), self.HEADS_AT_ONCE)
            self.check(honest, "HEAD /metrics")


class LongBacklog(unittest.TestCase):
    LISTED, OTHERS, LISTS = 1000, 60_000, 5

    def test_a_list_reads_the_lanes_once(self):
        # More pages than the index holds, and a flusher that takes none of them.
        settings = {"ring": {"lane_bytes": 16 * MIB}, "cache": {"ttl_ms": 60_000, "backlog_index_pages": 4096}}
        with Stack(frontends=2, settings=settings) as stack:
            pages = [f"listed-{number}" for number in range(self.LISTED)]
            body = json.dumps(pages).encode()
            self.assertEqual(stack.ask("POST", "/visits/query", body).status, 200)
            stack.pause("flusher")
            try:
                expected = {page: number % 5 + number % 3 for number, page in enumerate(pages)}
                for part in (lambda number: number % 5, lambda number: number % 3):
                    counted = {page: part(number) for number, page in enumerate(pages) if part(number)}
                    self.assertEqual(stack.ask("POST", "/visits", json.dumps(counted).encode()).status, 200)
                    for begin in range(0, self.OTHERS // 2, 10_000):
                        others = json.dumps([f"other-{begin + number}" for number in range(10_000)]).encode()
                        self.assertEqual(stack.ask("POST", "/visits", others).status, 200)
                scans = self.scans(stack)
                seconds = []
                for _ in range(self.LISTS):
                    begun = time.monotonic()
                    answer = stack.ask("POST", "/visits/query", body)
                    seconds.append(time.monotonic() - begun)
                    self.assertEqual(answer.status, 200)
                    self.assertEqual(answer.json()["counts"], expected)
                time.sleep(1.2)  # statistics are shown once a second
                scanned = self.scans(stack) - scans
            finally:
                stack.resume("flusher")
            print(f"{statistics.median(seconds) * 1000:.1f} ms a list, {scanned} scans for {self.LISTS} lists", flush=True)
            self.assertLessEqual(scanned, 3 * self.LISTS)
            self.assertLess(statistics.median(seconds), 0.5)

    def scans(self, stack: Stack) -> int:
        return sum(frontend["statistics"]["reads_scanned_directly"] for frontend in stack.status()["frontends"])


if __name__ == "__main__":
    unittest.main()
