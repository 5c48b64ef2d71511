#!/usr/bin/env python3
"""An honest client beside greedy ones: how long its visits take, and how much of what the greedy ones ask is answered.

The honest client records a visit every 5 ms. Beside it: 1,000 and 5,000 connections, opened first, that each ask for 1,000 cold pages
once; 100 connections that pipeline HEAD /metrics; 20 and 900 connections that ask for lists of 1,000 cold pages again and again. The
frontend and the honest client have a core; flusher, shards and greedy clients share the others. The lists a second of the loops are
those answered once all connections have sent their first list. Argument: seconds of a loop (6).
"""

import contextlib
import itertools
import json
import os
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

from rig import OTHERS, Server, argument, judge, load, pin, request, show, visitd

PAGES = 1000
RATE = 200
MOST_P99_US = 20_000
MOST_S = 60.0
QUIET_S = 0.2
ALL_SENT_S = 2.0
HEADS_AT_ONCE = 50

_cold = itertools.count()


def cold_list() -> bytes:
    begin = next(_cold) * PAGES
    return request("POST", "/visits/query", json.dumps([f"cold-{begin + number}" for number in range(PAGES)]).encode())


class Greedy:
    """Connections that each send what `next_request` says, and again once it is answered, until it says b""."""

    def __init__(self, port: int, count: int, next_request: Callable[[], bytes], answers_a_request: int = 1):
        self._next, self._answers = next_request, answers_a_request
        self._selector = selectors.DefaultSelector()
        self.statuses: dict[int, int] = {}
        self.last_answer_s = 0.0
        self.answered_later = 0  # with 200, once all have sent their first request
        self._open = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setblocking(False)
            self._open.append(connection)

    def run(self, seconds: float = MOST_S) -> None:
        waiting = 0
        begun = time.monotonic()
        for connection in self._open:
            waiting += self._ask(connection)
        while waiting and time.monotonic() - begun < seconds:
            for key, _ in self._selector.select(0.1):
                state = key.data
                if state["unsent"]:
                    waiting -= not self._send(key.fileobj, state)
                    continue
                waiting -= not self._receive(key.fileobj, state, begun)

    def _ask(self, connection: socket.socket) -> bool:
        if not (wanted := self._next()):
            return False
        state = {"unsent": memoryview(wanted), "received": b"", "answers": self._answers}
        self._selector.register(connection, selectors.EVENT_WRITE, state)
        return True

    def _send(self, connection, state: dict) -> bool:
        try:
            state["unsent"] = state["unsent"][connection.send(state["unsent"]) :]
        except OSError:
            return self._end(connection, 0)
        if not state["unsent"]:
            self._selector.modify(connection, selectors.EVENT_READ, state)
        return True

    def _receive(self, connection, state: dict, begun: float) -> bool:
        try:
            some = connection.recv(1 << 18)
        except OSError:
            some = b""
        if not some:
            return self._end(connection, 0)
        state["received"] += some
        while state["answers"] and (length := whole(state["received"])):
            status = int(state["received"][9:12])
            self.statuses[status] = self.statuses.get(status, 0) + 1
            state["received"] = state["received"][length:]
            state["answers"] -= 1
            self.last_answer_s = time.monotonic() - begun
            self.answered_later += status == 200 and self.last_answer_s > ALL_SENT_S
        if state["answers"]:
            return True
        self._selector.unregister(connection)
        return self._ask(connection)

    def _end(self, connection, status: int) -> bool:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self._selector.unregister(connection)
        return False

    def close(self) -> None:
        for connection in self._open:
            connection.close()


def whole(received: bytes) -> int:
    """The length of the first answer; 0: it is not whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return 0
    at = received.find(b"Content-Length: ", 0, end)
    length = end + 4 + (int(received[at + 16 : received.index(b"\r", at)]) if at >= 0 else 0)
    return length if len(received) >= length else 0


@contextlib.contextmanager
def honest(server: Server, found: dict[str, float], seconds: float) -> Iterator[None]:
    """Records visits for so long while the block runs, and puts the figures into `found`."""
    client = threading.Thread(target=lambda: found.update(load(server.port, request("POST", "/visit/honest"), connections=1, rate=RATE, milliseconds=seconds * 1000)))
    client.start()
    try:
        yield
    finally:
        client.join()


def beside(name: str, server: Server, greedy: Greedy, seconds: float) -> None:
    found: dict[str, float] = {}
    with contextlib.closing(greedy), honest(server, found, seconds):
        greedy.run(seconds)
    total = sum(greedy.statuses.values())
    show(f"{name}: honest p50", found["p50_us"], "us")
    judge(f"{name}: honest p99", found["p99_us"], most=MOST_P99_US, unit="us")
    show(f"{name}: answered 200", greedy.statuses.get(200, 0), f"of {total}, the last after {greedy.last_answer_s:.1f} s")


def wait_until_quiet(server: Server) -> None:
    """What was asked of the flusher for clients that have gone is answered first."""
    begun = time.monotonic()
    while time.monotonic() - begun < MOST_S:
        one = Greedy(server.port, 1, once(1))
        with contextlib.closing(one):
            one.run(MOST_S)
        if one.statuses == {200: 1} and one.last_answer_s < QUIET_S:
            return


def once(count: int) -> Callable[[], bytes]:
    bodies = iter([cold_list() for _ in range(count)])
    return lambda: next(bodies, b"")


def main() -> None:
    seconds = argument(1, 6)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16384)), hard))
    settings = {"http": {"connection_limit": 12_000, "address_connection_limit": 0}, "cache": {"entries": 65536}}
    with visitd(settings) as (_, server):
        pin(os.getpid(), OTHERS)
        rates = {}
        for count in (20, 900):
            wait_until_quiet(server)
            greedy = Greedy(server.port, count, cold_list)
            beside(f"lists in {count} loops", server, greedy, seconds)
            rates[count] = greedy.answered_later / (seconds - ALL_SENT_S)
            show(f"lists in {count} loops: lists a second", rates[count], "1/s")
        judge("lists a second with 900 loops / with 20", rates[900] / max(rates[20], 1e-9), least=0.9)
        heads = request("HEAD", "/metrics") * HEADS_AT_ONCE
        beside("HEAD /metrics, 100 pipelines", server, Greedy(server.port, 100, lambda: heads, HEADS_AT_ONCE), seconds)
        for count in (1000, 5000):
            wait_until_quiet(server)
            beside(f"{count} lists of 1,000 cold pages", server, Greedy(server.port, count, once(count)), 2 * seconds)


if __name__ == "__main__":
    main()
