"""Frontends that stop and that are killed: what they have read is answered, and nobody who connects is turned away."""

import collections
import os
import random
import re
import select
import signal
import socket
import threading
import time
import unittest
from pathlib import Path

from harness import BUILD_ROOT, LIBC, PATIENCE_S, Process, Stack, has_read_all, listening_at, wait_for

FRONTENDS = 3
KILLS = 100
RESTARTS = 15
CLIENTS = 6

# How long a stopping frontend goes on, where the test wants it to end before; and how soon is well before that.
STOP_TIMEOUT_MS = 60_000
SOON_S = 15.0

def connect(stack: Stack) -> socket.socket:
    return socket.create_connection(("127.0.0.1", stack.port), timeout=PATIENCE_S)


def receive(connection: socket.socket) -> tuple[int, bytes, bytes]:
    """One answer: status, head, body. Status 0: the connection ended before its end."""
    received = b""
    while True:
        head, found, rest = received.partition(b"\r\n\r\n")
        if found:
            size = int(re.search(rb"(?i)^content-length: (\d+)\r?$", head, re.MULTILINE)[1])
            if len(rest) >= size:
                return int(head[9:12]), head, rest
        try:
            some = connection.recv(65536)
        except ConnectionResetError:
            some = b""
        if not some:
            return 0, b"", received
        received += some


def request(method: str, path: str, fields: str = "", body: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}".encode()


def ended(connection: socket.socket) -> bool:
    """Whether the server ends the connection soon, without another byte."""
    if not select.select([connection], [], [], SOON_S)[0]:
        return False
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


class Stop(unittest.TestCase):
    def stack_of_one(self, stop_timeout_ms: int) -> tuple[Stack, Process]:
        stack = self.enterContext(Stack(frontends=1, settings={"http": {"stop_timeout_ms": stop_timeout_ms}}))
        return stack, stack.processes["frontend_1"]

    def terminate(self, process: Process) -> float:
        process.running.send_signal(signal.SIGTERM)
        return time.monotonic()

    def test_what_was_read_is_finished_what_is_idle_is_closed_and_nobody_new_is_let_in(self):
        stack, process = self.stack_of_one(STOP_TIMEOUT_MS)
        unused, idle, in_head, in_body, in_chunks, many, pipelined = (self.enterContext(connect(stack)) for _ in range(7))
        idle.sendall(request("POST", "/visit/idle"))
        self.assertEqual(receive(idle)[0], 200)
        in_head.sendall(request("POST", "/visit/in-head")[:-2])
        in_body.sendall(request("POST", "/visit/in-body", "Content-Length: 10\r\n", "01234"))
        in_chunks.sendall(request("POST", "/visit/in-chunks", "Transfer-Encoding: chunked\r\n", "5\r\n012"))
        many.sendall(request("POST", "/visits", "Content-Length: 8\r\n", '["man'))
        for connection in (in_body, in_chunks):
            self.assertEqual(receive(connection)[0], 200)  # a visit is answered before its body has come
        wait_for("what came was read", lambda: has_read_all(stack, [in_head, in_body, in_chunks, many]))
        pipelined.sendall(request("POST", "/visit/pipelined") * 50)
        self.terminate(process)

        self.assertTrue(ended(idle))
        self.assertTrue(ended(unused))
        wait_for("new connections are refused", lambda: self.is_refused(stack))
        answered = b""
        while some := pipelined.recv(65536):
            answered += some
        self.assertEqual(answered.count(b"HTTP/1.1 200 "), 50)
        self.assertIsNone(process.running.poll(), "it ended before what it had begun")

        in_head.sendall(b"\r\n")
        status, head, _ = receive(in_head)
        self.assertEqual((status, b"Connection: close" in head), (200, True))
        self.assertTrue(ended(in_head))
        # Its answer said nothing of an end: a request behind the body gets one that does.
        in_body.sendall(b"56789" + request("POST", "/visit/behind") + request("POST", "/visit/too-late"))
        status, head, _ = receive(in_body)
        self.assertEqual((status, b"Connection: close" in head), (200, True))
        self.assertTrue(ended(in_body))
        in_body.close()
        in_chunks.sendall(b"34\r\n0\r\n\r\n")
        self.assertTrue(ended(in_chunks))
        self.assertIsNone(process.running.poll(), "it ended before the last body had come")
        many.sendall(b'y"]')
        status, head, body = receive(many)
        self.assertEqual((status, b"Connection: close" in head), (200, True), body)
        begun = time.monotonic()
        self.assertEqual(process.running.wait(PATIENCE_S), 0)
        self.assertLess(time.monotonic() - begun, SOON_S)

        process.wanted = False
        stack.restart("frontend_1")
        stack.wait_ready()
        expected = {"idle": 1, "in-head": 1, "in-body": 1, "in-chunks": 1, "behind": 1, "many": 1, "pipelined": 50}
        stack.flush()
        self.assertEqual(stack.redis_counts(), expected)

    def is_refused(self, stack: Stack) -> bool:
        try:
            connect(stack).close()
            return False
        except ConnectionRefusedError:
            return True

    def test_who_had_connected_is_served_also_when_nobody_had_accepted_yet(self):
        stack, process = self.stack_of_one(STOP_TIMEOUT_MS)
        stack.pause("frontend_1")
        waiting = [self.enterContext(connect(stack)) for _ in range(200)]
        for connection in waiting:
            connection.sendall(request("POST", "/visit/waiting"))
        self.terminate(process)
        stack.resume("frontend_1")
        for connection in waiting:
            self.assertEqual(receive(connection)[0], 200)
            self.assertTrue(ended(connection))
        self.assertEqual(process.running.wait(PATIENCE_S), 0)
        stack.flush()
        self.assertEqual(stack.redis_counts(), {"waiting": len(waiting)})

    def test_it_ends_at_once_when_there_is_nothing_to_finish(self):
        stack, process = self.stack_of_one(STOP_TIMEOUT_MS)
        idle = [self.enterContext(connect(stack)) for _ in range(100)]
        for connection in idle:
            connection.sendall(request("GET", "/"))
            self.assertEqual(receive(connection)[0], 200)
        begun = self.terminate(process)
        self.assertEqual(process.running.wait(PATIENCE_S), 0)
        self.assertLess(time.monotonic() - begun, SOON_S)
        for connection in idle:
            self.assertTrue(ended(connection))

    def test_who_does_not_finish_holds_it_up_no_longer_than_the_limit(self):
        stack, process = self.stack_of_one(800)
        with connect(stack) as in_head, connect(stack) as in_body, connect(stack) as not_reading:
            in_head.sendall(request("POST", "/visit/in-head")[:-2])
            in_body.sendall(request("POST", "/visit/in-body", "Content-Length: 1000000\r\n", "0"))
            not_reading.setblocking(False)
            asked = request("GET", "/nothing") * 100
            sent, begun = 0, time.monotonic()
            while time.monotonic() - begun < 0.5:
                try:
                    sent += not_reading.send(asked[sent % len(asked) :])
                except BlockingIOError:
                    time.sleep(0.01)
            begun = self.terminate(process)
            # Each byte that still comes is no reason to wait longer.
            while process.running.poll() is None and time.monotonic() - begun < PATIENCE_S:
                try:
                    in_body.send(b"0")
                except OSError:
                    pass
                time.sleep(0.02)
            self.assertEqual(process.running.wait(PATIENCE_S), 0)
            self.assertGreater(time.monotonic() - begun, 0.7)
            self.assertLess(time.monotonic() - begun, SOON_S)


class LeavingFlusher(unittest.TestCase):
    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "nothing can be loaded before the sanitizer")
    def test_a_flusher_that_is_told_to_stop_while_it_leaves_its_ring_stops(self):
        stack = Stack(frontends=1, shards=1)
        self.addCleanup(stack.close)
        stuck = stack.folder / "stuck"
        stack.preload("flusher", BUILD_ROOT / "tests/integration/libstuck_disk.so", STUCK_DISK_FILE=str(stuck))
        stack.start()
        stack.post("home")
        stack.wait_for_redis({"home": 1})
        stack.stop_one("frontend_1")
        flusher = stack.processes["flusher"]
        # It looks at its ring once a second: then the commit that ends the ring is on its way, and does not come back.
        stuck.touch()
        LIBC.shmctl(int((stack.runtime_directory / "rings").read_text().split()[1]), 0, None)  # IPC_RMID
        time.sleep(2.5)
        flusher.running.terminate()
        wait_for("it is told", lambda: "stopping: " in flusher.text())
        stuck.unlink()
        self.assertEqual(flusher.running.wait(PATIENCE_S), 0)
        self.assertIn("is drained", flusher.text())


class Knocking:
    """Clients that connect anew for every visit, and note what becomes of it. Every visit has a page of its own."""

    def __init__(self, stack: Stack):
        self.stack = stack
        self.acknowledged: set[str] = set()
        self.unanswered: set[str] = set()
        self.not_counted: set[str] = set()
        self.turned_away: list[str] = []
        self.faults: list[str] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._guard, args=(number,), daemon=True) for number in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _guard(self, number: int) -> None:
        try:
            self._knock(number)
        except Exception as error:  # noqa: BLE001 - a thread's failure must reach the test
            self.faults.append(repr(error))

    def _knock(self, number: int) -> None:
        attempt = 0
        while not self._ending.is_set():
            attempt += 1
            page = f"knock-{number}-{attempt}"
            try:
                connection = connect(self.stack)
            except OSError as error:
                self.turned_away.append(repr(error))
                continue
            with connection:
                try:
                    connection.sendall(request("POST", f"/visit/{page}"))
                    status, _, body = receive(connection)
                except (BrokenPipeError, ConnectionResetError):
                    status = 0
                if status == 200:
                    self.acknowledged.add(page)
                elif status == 503:
                    self.not_counted.add(page)
                elif status == 0:
                    self.unanswered.add(page)
                else:
                    self.faults.append(f"{page}: {status} {body!r}")
            # A client that closes first keeps its port for a minute; there must be some for the others.
            self._ending.wait(0.002)


def catches_sigterm(pid: int) -> bool:
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


class InheritedSocket(unittest.TestCase):
    """Several frontends on one listening socket that outlives them, as systemd passes it."""

    def start(self) -> Stack:
        stack = Stack(frontends=FRONTENDS, settings={"ring": {"lanes": 16}, "http": {"stop_timeout_ms": 3000}})
        listening = self.enterContext(listening_at(stack.port))
        for name in stack.frontends:
            stack.processes[name].pass_sockets({"visitd.socket": listening})
        self.enterContext(stack)
        return stack

    def check_visits(self, stack: Stack, knocking: Knocking) -> None:
        self.assertEqual(knocking.faults, [])
        self.assertEqual(knocking.turned_away, [])
        wait_for("a count can be read", lambda: stack.read("ready").status == 200)
        stack.flush()
        held = stack.redis_counts()
        self.assertEqual({page for page in knocking.acknowledged if held.get(page) != 1}, set(), "acknowledged, and not counted once")
        self.assertEqual({page for page, count in held.items() if count != 1}, set(), "counted twice")
        self.assertEqual(set(held) - knocking.acknowledged - knocking.unanswered, set(), "counted, and not asked for or refused")

    def test_a_hundred_kills_turn_nobody_away_and_lose_no_acknowledged_visit(self):
        stack = self.start()
        stack.supervise()
        chance = random.Random()
        killed: collections.Counter[str] = collections.Counter()
        begun = time.monotonic()
        with Knocking(stack) as knocking:
            while killed.total() < KILLS:
                name = chance.choice(stack.frontends)
                process = stack.processes[name]
                wait_for(f"{name} listens", lambda process=process: process.alive and stack.listens(process.pid))
                stack.kill9(name)
                killed[name] += 1
                time.sleep(chance.uniform(0.01, 0.08))
            wait_for("all listen again", lambda: all(p.alive and stack.listens(p.pid) for p in map(stack.processes.get, stack.frontends)))
        print(f"{killed.total()} kills {dict(killed)} in {time.monotonic() - begun:.1f} s: {len(knocking.acknowledged)} visits acknowledged, "
              f"{len(knocking.unanswered)} unanswered, {len(knocking.not_counted)} put off, {len(knocking.turned_away)} refused", flush=True)  # fmt: skip
        self.assertGreater(len(knocking.acknowledged), 5 * KILLS)
        self.check_visits(stack, knocking)

    def test_restarts_in_order_turn_nobody_away(self):
        stack = self.start()
        begun = time.monotonic()
        with Knocking(stack) as knocking:
            for number in range(RESTARTS):
                name = stack.frontends[number % FRONTENDS]
                self.assertEqual(stack.stop_one(name), 0)
                stack.start_one(name)
                process = stack.processes[name]
                # It has the inherited socket before it takes signals.
                wait_for(f"{name} can be told to stop", lambda process=process: catches_sigterm(process.pid))
        print(f"{RESTARTS} restarts in {time.monotonic() - begun:.1f} s: {len(knocking.acknowledged)} visits acknowledged, "
              f"{len(knocking.unanswered)} unanswered, {len(knocking.not_counted)} put off, {len(knocking.turned_away)} refused", flush=True)  # fmt: skip
        self.check_visits(stack, knocking)


if __name__ == "__main__":
    unittest.main()
