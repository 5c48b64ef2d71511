"""Clients of the control socket that say nothing, half of something, too much, or never read: each is bounded, and the flusher counts on."""

import json
import socket
import threading
import unittest

from harness import PATIENCE_S, Stack, wait_for

LINE_BYTES = 1 << 20
CONNECTIONS = 16


class ControlClient:
    def __init__(self, stack: Stack):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(2 * PATIENCE_S)
        self.socket.connect(str(stack.runtime_directory / "flusher.sock"))
        self._file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> dict | None:
        """None: the flusher has closed the connection."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def ask(self, **request) -> dict | None:
        self.send(json.dumps(request).encode() + b"\n")
        return self.answer()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Control(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, shards=1, settings={"flusher": {"flush_interval_ms": 100}}))
        self.counted = 0

    def client(self) -> ControlClient:
        return self.enterContext(ControlClient(self.stack))

    def check_it_counts(self) -> None:
        self.stack.post("home")
        self.counted += 1
        self.stack.wait_for_redis({"home": self.counted})

    def test_what_is_no_request_is_refused_and_the_connection_goes_on(self):
        client = self.client()
        for line in (b"", b"flush", b"[]", b"\xff\xfe", b'{"command":"stop"}', b'{"command":"flush","argument":"x"}', b'{"command":"page"}',
                     b'{"command":"flush","timeout_ms":-1}', b'{"command":"flush","more":1}', b'{"command":"accept","argument":"x","token":"y"}',
                     b'{"command":"accept","argument":"nobody"}', b"[" * 30000):  # fmt: skip
            client.send(line + b"\n")
            answer = client.answer()
            self.assertEqual((answer["ok"], bool(answer["error"])), (False, True), (line[:80], answer))
        self.assertTrue(client.ask(command="flush")["ok"])
        self.check_it_counts()

    def test_a_request_that_is_too_long_ends_its_connection(self):
        for end in (b"", b"\n"):
            client = self.client()
            client.send(b'"' + b"x" * LINE_BYTES + end)
            self.assertIn(str(LINE_BYTES), client.answer()["error"])
            self.assertIsNone(client.answer())
        self.check_it_counts()

    def test_half_a_request_is_waited_for_and_then_given_up(self):
        silent, half, slow = self.client(), self.client(), self.client()
        half.send(b'{"command":')
        ended = threading.Event()

        def send_slowly() -> None:
            try:
                while not ended.wait(0.2):
                    slow.send(b" ")
            except OSError:
                pass

        sending = threading.Thread(target=send_slowly)
        sending.start()
        self.addCleanup(sending.join)
        self.addCleanup(ended.set)
        self.check_it_counts()
        for client in (silent, half, slow):
            self.assertIsNone(client.answer())
        self.check_it_counts()

    def test_a_client_that_never_reads_is_given_up(self):
        client = self.client()
        client.socket.settimeout(2 * PATIENCE_S)
        with self.assertRaises((BrokenPipeError, ConnectionResetError)):
            # While a client takes no answers, the flusher reads none of its requests: send() waits until the flusher gives the client up.
            while True:
                client.send(b"x\n" * 10000)
        self.check_it_counts()
        self.assertTrue(self.client().ask(command="flush")["ok"])

    def test_clients_beyond_the_limit_are_refused_and_one_that_leaves_makes_room(self):
        clients = [self.client() for _ in range(CONNECTIONS)]
        for client in clients:
            self.assertTrue(client.ask(command="page", argument="home")["ok"])
        refused = self.client()
        self.assertIn("too many", refused.answer()["error"])
        self.assertIsNone(refused.answer())
        self.check_it_counts()
        clients[0].close()

        def is_served() -> bool:
            with ControlClient(self.stack) as client:
                try:
                    return client.ask(command="page", argument="home")["ok"]
                except OSError:
                    return False

        wait_for("one that leaves makes room", is_served)

    def test_many_who_ask_at_once_hold_up_nobody(self):
        faults = []

        def ask_often() -> None:
            try:
                for number in range(50):
                    with ControlClient(self.stack) as client:
                        answer = client.ask(command="page", argument=f"page-{number}")
                        if not answer["ok"]:
                            faults.append(answer)
            except OSError as error:
                faults.append(error)

        asking = [threading.Thread(target=ask_often) for _ in range(8)]
        for thread in asking:
            thread.start()
        self.check_it_counts()
        for thread in asking:
            thread.join()
        self.assertEqual(faults, [])
        self.check_it_counts()


if __name__ == "__main__":
    unittest.main()
