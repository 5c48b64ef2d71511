#!/usr/bin/env python3
"""A stream of counts: each change is told while the connection stays open, to clients that read, go away, or stay for ever."""

import contextlib
import http.client
import json
import socket
import time
import unittest
from collections.abc import Iterator

from harness import PATIENCE_S, Stack, wait_for

TARGET = "/stream/site.example/visits"
LIMIT = 3
TIMEOUT_S = 4


class Streams:
    way = ""

    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(
            Stack(frontends=1, settings={"http": {"hot_routes": cls.way, "shapes": ["abacus"], "stream_limit": LIMIT, "stream_timeout_s": TIMEOUT_S}})
        )

    @contextlib.contextmanager
    def stream(self, target: str = TARGET, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S) as connection:
            connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            with http.client.HTTPResponse(connection, method=method) as answer:
                answer.begin()
                yield answer

    def event(self, answer: http.client.HTTPResponse) -> int:
        lines = [answer.readline(), answer.readline()]
        self.assertEqual(lines[1], b"\n", lines)
        self.assertTrue(lines[0].startswith(b"data: "), lines)
        return json.loads(lines[0][6:])["value"]

    def hit(self) -> int:
        return self.stack.ask("GET", TARGET.replace("stream", "hit")).json()["value"]

    def test_each_change_is_told_to_all_that_listen(self):
        with self.stream() as first, self.stream() as second:
            self.assertEqual((first.status, first.getheader("Content-Type"), first.getheader("Cache-Control")), (200, "text/event-stream", "no-store"))
            self.assertEqual((first.getheader("Content-Length"), first.getheader("Connection")), (None, "close"))
            count = self.event(first)
            self.assertEqual(self.event(second), count)
            for _ in range(2):
                hit = self.hit()
                self.assertEqual((self.event(first), self.event(second)), (hit, hit))

    def test_visits_that_come_at_once_are_told_together_and_none_is_lost(self):
        with self.stream() as answer:
            count = self.event(answer)
            for _ in range(200):
                self.hit()
            told = [count]
            while told[-1] != count + 200:
                told.append(self.event(answer))
        self.assertEqual(told, sorted(set(told)))
        self.assertLess(len(told), 10)

    def test_a_stream_ends_after_its_time_and_another_follows(self):
        begun = time.monotonic()
        with self.stream() as answer:
            self.event(answer)
            self.assertEqual(answer.read(), b"")
        self.assertAlmostEqual(time.monotonic() - begun, TIMEOUT_S, delta=2)
        with self.stream() as answer:
            self.event(answer)

    def test_no_more_are_open_than_the_setting_says_and_who_goes_makes_room_at_once(self):
        with contextlib.ExitStack() as open_ones:
            for _ in range(LIMIT):
                self.assertEqual(open_ones.enter_context(self.stream()).status, 200)
            with self.stream() as refused:
                self.assertEqual((refused.status, json.loads(refused.read())["type"]), (503, "urn:visitd:problem:busy"))
                self.assertIsNotNone(refused.getheader("Retry-After"))
        begun = time.monotonic()

        def has_room() -> bool:
            with self.stream() as answer:
                return answer.status == 200

        wait_for("there is room again", has_room)
        self.assertLess(time.monotonic() - begun, TIMEOUT_S / 2)

    def test_what_is_sent_behind_it_is_not_answered(self):
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S) as connection:
            connection.sendall(f"GET {TARGET} HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            received = b""
            while part := connection.recv(65536):
                received += part
        self.assertEqual(received.count(b"HTTP/1.1 "), 1)
        self.assertNotIn(b"healthy", received)

    def test_head_says_the_fields_and_a_bad_key_is_refused(self):
        with self.stream(method="HEAD") as answer:
            self.assertEqual((answer.status, answer.getheader("Content-Type"), answer.read()), (200, "text/event-stream", b""))
        with self.stream("/stream/x/y") as refused:
            self.assertEqual(refused.status, 400)

    def test_others_are_served_meanwhile_and_a_frontend_that_stops_does_not_wait(self):
        with self.stream() as answer:
            self.event(answer)
            self.assertEqual(self.stack.post("beside").status, 200)
            begun = time.monotonic()
            self.stack.stop_one("frontend_1")
            self.assertLess(time.monotonic() - begun, 2)
            self.assertEqual(answer.read(), b"")
        self.stack.start_one("frontend_1")
        self.stack.wait_ready()


class StreamsDirect(Streams, unittest.TestCase):
    way = "direct"


class StreamsThroughHttplib(Streams, unittest.TestCase):
    """The setting is of other routes: cpp-httplib answers nothing in pieces here."""

    way = "httplib"


if __name__ == "__main__":
    unittest.main(verbosity=2)
