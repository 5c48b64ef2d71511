"""Requests that two parties may read differently: what is body or refused is never taken for a request, on both ways to an answer.

Every case of smuggling_cases.py is sent raw on one connection, whole and in pieces. Its answers must be those of the strict reading,
in order, and then the connection must end; in the end the shards must hold exactly the visits that were answered.
"""

import collections
import json
import os
import random
import re
import socket
import time
import unittest

from harness import PATIENCE_S, Stack
from smuggling_cases import CASES, Case

# How many pieces a request is sent in, round by round.
PIECES = (1, 2, 2, 3, 3)

HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n:]+:[^\r\n]*\r\n)*)\r\n")
PAGE = re.compile(r"Visit recorded for page (\w+)-(\d{5})")


class Malformed(Exception):
    pass


def split_answers(received: bytes, bodiless: tuple[int, ...]) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, fields and body of each final answer; what is left over is an error."""
    answers = []
    while received:
        head = HEAD.match(received)
        if not head:
            raise Malformed(f"no answer begins with {received[:80]!r}")
        received = received[head.end() :]
        status = int(head[1])
        if status == 100:
            continue
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[2].decode().splitlines())}
        size = 0 if status == 204 or len(answers) in bodiless else int(fields["content-length"])
        if len(received) < size:
            raise Malformed(f"a body ends early: {received!r}")
        answers.append((status, fields, received[:size]))
        received = received[size:]
    return answers


def called(status: int, body: bytes) -> str:
    """What smuggling_cases.py calls an answer."""
    if status != 200 or not body:
        return str(status)
    said = json.loads(body)
    if "message" in said:
        return f"200 {PAGE.search(said['message'])[1]}"
    for name in ("count", "counts", "entries"):
        if name in said:
            return f"200 {name}"
    return f"200 {said.get('status')}"


class Sending:
    """One case on one connection."""

    def __init__(self, case: Case, number: int, port: int, pieces: int, chance: random.Random):
        self.case, self.number = case, number
        sent = case.sent.replace(b"NNNNN", b"%05d" % number)
        cuts = sorted(chance.sample(range(1, len(sent)), pieces - 1))
        self.pieces = [sent[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(sent)])]
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.visits: collections.Counter[str] = collections.Counter()

    def send(self, piece: int) -> None:
        try:
            self.connection.sendall(self.pieces[piece])
            if self.case.hangs_up and piece + 1 == len(self.pieces):
                self.connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was answered and ended already

    def receive(self) -> bytes:
        received = b""
        try:
            while some := self.connection.recv(65536):
                received += some
        except ConnectionResetError:
            pass  # it ended with our bytes unread
        return received

    def fault(self) -> str | None:
        """What is wrong with the answers; None: nothing."""
        try:
            answers = split_answers(self.receive(), self.case.bodiless)
        except TimeoutError:
            return "the connection stays open"
        except Malformed as error:
            return str(error)
        finally:
            self.connection.close()
        names = tuple(called(status, body) for status, _, body in answers)
        for name in names:
            kind, _, what = name.partition(" ")
            if what in ("outer", "smuggled", "after"):
                self.visits[f"{what}-{self.number:05d}"] += 1
            elif what == "entries":
                self.visits[f"outer-{self.number:05d}"] += 1
        if names not in self.case.answers:
            return f"answered {list(names)}, not {' or '.join(str(list(each)) for each in self.case.answers)}"
        for (status, fields, body), name in zip(answers, names):
            if status < 400 or not body:
                continue
            problem = json.loads(body)
            if fields.get("content-type") != "application/problem+json" or problem["status"] != status or not problem["type"]:
                return f"the answer {name} is no problem document: {fields} {body!r}"
        # A visit is answered when its head is complete: what is wrong with its body comes too late for that answer.
        last_may_be_early = self.case.hangs_up or len(self.case.answers) > 1
        if answers and not last_may_be_early and answers[-1][1].get("connection") != "close":
            return f"the last answer, {names[-1]}, does not say that the connection ends: {answers[-1][1]}"
        return None


class Smuggling(unittest.TestCase):
    def check_all(self, way: str) -> None:
        seed = int.from_bytes(os.urandom(4), "big")
        chance = random.Random(seed)
        faults: dict[str, str] = {}
        visits: collections.Counter[str] = collections.Counter()
        sendings = 0
        with Stack(frontends=1, settings={"http": {"hot_routes": way}, "flusher": {"flush_interval_ms": 60000}}) as stack:
            for pieces in PIECES:
                open_ = [Sending(case, sendings + n, stack.port, pieces, chance) for n, case in enumerate(CASES)]
                sendings += len(open_)
                for piece in range(pieces):
                    for sending in open_:
                        sending.send(piece)
                    time.sleep(0.01)
                for sending in open_:
                    if fault := sending.fault():
                        faults.setdefault(sending.case.name, f"{fault}; sent as {[bytes(p[:300]) for p in sending.pieces]}")
                    visits += sending.visits
            stack.flush()
            held = stack.redis_counts()
        print(f"{way}: {len(CASES)} cases, {sendings} connections, {visits.total()} visits, seed {seed}", flush=True)
        wrong = {page: (visits[page], held.get(page, 0)) for page in visits.keys() | held.keys() if visits[page] != held.get(page, 0)}
        named = {f"{page} ({CASES[int(page[-5:]) % len(CASES)].name})": counts for page, counts in wrong.items()}
        self.assertEqual(named, {}, "page: (visits answered, visits counted)")
        if faults:
            text = "\n".join(f"{name}: {fault}" for name, fault in sorted(faults.items())[:40])
            self.fail(f"{len(faults)} cases were read wrongly:\n{text}")

    def test_the_table_is_large_and_names_each_case_once(self):
        self.assertGreaterEqual(len(CASES), 60)
        self.assertEqual(len({case.name for case in CASES}), len(CASES))
        self.assertEqual(len({case.sent for case in CASES}), len(CASES))

    def test_straight_from_the_head(self):
        self.check_all("direct")

    def test_through_cpp_httplib(self):
        self.check_all("httplib")


if __name__ == "__main__":
    unittest.main()
