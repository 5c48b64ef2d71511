#!/usr/bin/env python3
"""Each limit is reached under load, by real processes: they go on by themselves, nothing is lost, and nothing is counted twice.

The limit of what the flusher holds in memory has a test of its own.
"""

import collections
import contextlib
import json
import random
import threading
import time
import unittest

from harness import PATIENCE_S, Client, Stack, Traffic, fill, mounted, server_ends, wait_for

LOAD_S = 2.5
# How long a limit may keep a client waiting in a row, on a machine with other work.
MOST_REFUSED_S = 5.0


class Bulk:
    """Clients that record lists of pages at full speed, wait where they are told to, and know what of it was taken."""

    def __init__(self, stack: Stack, clients: int = 4, pages: int = 500, entries: int = 1000, slowly: bool = False):
        """`slowly`: the second half of a list comes a while after the first."""
        self.stack, self.pages, self.entries, self.slowly = stack, pages, entries, slowly
        self.taken: collections.Counter[str] = collections.Counter()
        self.refusals: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.longest_refused_s = 0.0
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _run(self, number: int) -> None:
        try:
            self._send(random.Random(number))
        except Exception as fault:  # noqa: BLE001 - a thread's failure must reach the test
            self.faults.append(repr(fault))

    def _send(self, chance: random.Random) -> None:
        refused_since = None
        with Client(self.stack.port) as client:
            while not self._ending.is_set():
                pages = [f"page-{chance.randrange(self.pages)}" for _ in range(self.entries)]
                body = json.dumps(pages).encode()
                try:
                    answer = client.ask("POST", "/visits", self._parts(body) if self.slowly else body, {"Content-Length": str(len(body))})
                except OSError:
                    assert self.slowly  # the refusal ended the connection before all was sent: nothing of it was recorded
                    with self._lock:
                        self.refusals["busy"] += 1
                    continue
                taken = self.entries if answer.status == 200 else answer.json().get("recorded", 0)
                with self._lock:
                    self.taken.update(pages[:taken])
                if taken != 0:
                    refused_since = None
                if answer.status == 200:
                    continue
                assert answer.status == 503 and "Retry-After" in answer.headers, answer
                now = time.monotonic()
                refused_since = refused_since or now
                with self._lock:
                    self.refusals[answer.json()["type"].rpartition(":")[2]] += 1
                    self.longest_refused_s = max(self.longest_refused_s, now - refused_since)
                time.sleep(0.01)

    @staticmethod
    def _parts(body: bytes):
        yield body[: len(body) // 2]
        time.sleep(0.01)
        yield body[len(body) // 2 :]

    def check(self, test: unittest.TestCase) -> None:
        """After the load: all of it, exactly, is in the shards, and read so."""
        test.assertEqual(self.faults, [])
        self.stack.flush()
        test.assertEqual(self.stack.redis_counts(), dict(self.taken))
        page, count = self.taken.most_common(1)[0]
        test.assertEqual(self.stack.get(page), count)
        test.assertLess(self.longest_refused_s, MOST_REFUSED_S)
        print(f"{self.taken.total()} visits, refused: {dict(self.refusals)}, longest {self.longest_refused_s:.2f} s", flush=True)


def statistics_of(stack: Stack) -> dict[str, int]:
    """Of the flusher."""
    return stack.status()["flusher"]["statistics"]


class Limits(unittest.TestCase):
    def stack(self, **settings) -> Stack:
        return self.enterContext(Stack(frontends=1, settings=settings))

    def test_a_lane(self):
        stack = self.stack(ring={"lanes": 1, "lane_bytes": 1 << 16})
        with Bulk(stack) as load:
            time.sleep(LOAD_S)
        self.assertGreater(load.refusals["lane-full"], 0)
        load.check(self)

    def test_the_ring_of_requests(self):
        stack = self.stack(http={"batch_read_limit": 1000})
        counted = {f"page-{number}": number % 7 + 1 for number in range(0, 8000, 13)}
        self.assertEqual(stack.ask("POST", "/visits", json.dumps(counted).encode()).status, 200)
        stack.flush()
        stack.restart("flusher")
        pid = stack.processes["flusher"].pid
        # Until this flusher shows itself, the states are those that the one before it left.
        wait_for("the shards are up", lambda: stack.status()["flusher"]["pid"] == pid
                 and {shard["state"] for shard in stack.status()["shards"]} == {"up"})  # fmt: skip
        answers: dict[int, dict[str, int]] = {}
        faults: list[str] = []

        def read(part: int) -> None:
            pages = [f"page-{number}" for number in range(part * 1000, part * 1000 + 1000)]
            answer = stack.ask("POST", "/visits/query", json.dumps(pages).encode())
            if answer.status == 200:
                answers[part] = answer.json()["counts"]
            else:
                faults.append(f"{part}: {answer}")

        readers = [threading.Thread(target=read, args=(part,)) for part in range(8)]
        stack.pause("flusher")  # so that nobody takes requests while they come
        try:
            for reader in readers:
                reader.start()
            # Its 64 KiB hold fewer than 2,000 requests, and lists leave half of them to reads of one page.
            wait_for("lists take their room", lambda: stack.status()["frontends"][0]["statistics"]["reads_parked"] >= 500)
            self.assertLess(stack.status()["frontends"][0]["statistics"]["reads_parked"], 1500)
        finally:
            stack.resume("flusher")
        for reader in readers:
            reader.join(PATIENCE_S)
        self.assertEqual(faults, [])
        read_counts = {page: count for part in answers.values() for page, count in part.items()}
        self.assertEqual(len(read_counts), 8000)
        self.assertEqual({page: count for page, count in read_counts.items() if count}, counted)

    def test_lists_that_come_while_no_shard_answers(self):
        stack = self.stack(http={"batch_read_limit": 1000, "lookup_timeout_ms": 10_000})
        for shard in stack.shards:
            stack.pause(shard.name)
        try:
            stack.restart("flusher")
            pid = stack.processes["flusher"].pid
            wait_for("the flusher waits for the shards", lambda: stack.status()["flusher"]["pid"] == pid
                     and {shard["state"] for shard in stack.status()["shards"]} == {"connecting"})  # fmt: skip
            answers = []
            pages = [json.dumps([f"page-{number}" for number in range(part * 1000, part * 1000 + 1000)]).encode() for part in range(8)]
            readers = [threading.Thread(target=lambda body=body: answers.append(stack.ask("POST", "/visits/query", body))) for body in pages]
            for reader in readers:
                reader.start()
            time.sleep(0.5)
        finally:
            for shard in stack.shards:
                stack.resume(shard.name)
        for reader in readers:
            reader.join(PATIENCE_S)
        self.assertEqual([answer.status for answer in answers], [200] * 8, answers)

    def test_entries_of_the_cache(self):
        stack = self.stack(cache={"entries": 16, "ttl_ms": 10_000})
        traffic = Traffic(stack, clients=4, readers=4, pages=200).start()
        time.sleep(LOAD_S)
        traffic.stop()
        self.assertGreater(statistics_of(stack)["entries_evicted"], 50)
        self.assertLessEqual(statistics_of(stack)["entries"], 16)
        self.assertGreater(traffic.reads, 50)
        traffic.check()

    def test_a_list_of_more_pages_than_the_cache_has_entries_is_answered_or_refused_in_time(self):
        stack = self.stack(cache={"entries": 16}, http={"lookup_timeout_ms": 500})
        pages = [f"page-{number}" for number in range(100)]
        begun = time.monotonic()
        answer = stack.ask("POST", "/visits/query", json.dumps(pages).encode())
        self.assertLess(time.monotonic() - begun, 5)
        self.assertIn(answer.status, (200, 503))
        # Nobody else is worse off.
        self.assertEqual(stack.get("other"), 0)

    def test_kept_bytes(self):
        limit = 64 << 10
        stack = self.stack(flusher={"flush_interval_ms": 50, "keep_batches_bytes": limit, "commit_interval_ms": 20})
        most = 0
        with Bulk(stack, clients=2, entries=200) as load:
            end = time.monotonic() + LOAD_S
            while time.monotonic() < end:
                most = max(most, statistics_of(stack)["kept_bytes"])
        load.check(self)
        self.assertGreater(most, 0)
        # What is answered between two commits goes with the next one.
        stack.post("last")
        wait_for("the oldest are gone", lambda: statistics_of(stack)["kept_bytes"] <= limit)

    def test_batches_in_flight(self):
        stack = self.stack(flusher={"flush_interval_ms": 50, "batches_in_flight": 1, "batch_pages": 2})
        most = 0
        with Bulk(stack, clients=2, entries=200) as load:
            for shard in stack.shards:  # answers that do not come for a while
                with shard.client() as redis:
                    redis("CLIENT", "PAUSE", "700", "ALL")
            end = time.monotonic() + LOAD_S
            while time.monotonic() < end:
                now = statistics_of(stack)
                self.assertLessEqual(now["batches_sent"] - now["batches_answered"], len(stack.shards))
                most = max(most, now["unanswered_batches"])
        self.assertGreater(most, len(stack.shards), "batches waited for each other")
        load.check(self)

    def test_connections(self):
        stack = self.stack(http={"connection_limit": 8})
        traffic = Traffic(stack, clients=40, readers=4, pages=40).start()
        most = 0
        end = time.monotonic() + LOAD_S
        while time.monotonic() < end:
            most = max(most, sum(state == "01" for state, _ in server_ends(stack).values()))
            time.sleep(0.05)
        traffic.stop()
        self.assertGreater(traffic.acknowledged.total(), 100)
        frontend = wait_for("evictions are told", lambda: (now := stack.status()["frontends"][0]["statistics"])["connections_evicted"] and now)
        self.assertLessEqual(frontend["connections_open"], 8)
        self.assertGreater(most, 0)
        traffic.check()

    def test_bodies(self):
        stack = self.stack(http={"buffered_bodies_limit_bytes": 1 << 16})
        with Bulk(stack, clients=8, entries=3000, slowly=True) as load:  # each some 33 KiB
            time.sleep(LOAD_S)
        self.assertGreater(load.refusals["busy"], 0)
        load.check(self)

    def test_pages_of_one_read(self):
        stack = self.stack(http={"batch_read_limit": 50})
        refused = asked = 0
        with Bulk(stack, clients=2, pages=60, entries=100) as load:
            end = time.monotonic() + LOAD_S
            least: dict[str, int] = {}
            while time.monotonic() < end:
                too_many = stack.ask("POST", "/visits/query", json.dumps([f"page-{number}" for number in range(51)]).encode())
                self.assertEqual((too_many.status, too_many.json()["type"]), (400, "urn:visitd:problem:too-many-pages"))
                refused += 1
                answer = stack.ask("POST", "/visits/query", json.dumps([f"page-{number}" for number in range(50)]).encode())
                self.assertEqual(answer.status, 200, answer)
                counts = answer.json()["counts"]
                for page, count in counts.items():
                    self.assertGreaterEqual(count, least.get(page, 0))
                least = counts
                asked += 1
        self.assertGreater(min(asked, refused), 5)
        load.check(self)

    def test_the_disk_of_the_spool(self):
        stack = Stack(frontends=1, settings={"ring": {"lanes": 1, "lane_bytes": 1 << 16}, "flusher": {"flush_interval_ms": 300, "keep_batches_bytes": 1 << 22}})
        # The kept batches let the spool grow all the while. The disk has more room than its write-ahead log takes by itself
        # before the spool carries it into its file.
        with contextlib.closing(stack), mounted(stack.state_directory, "size=16m"), stack:
            with Bulk(stack, clients=2, entries=200) as load:
                for _ in range(2):
                    time.sleep(0.5)
                    ballast = fill(stack.state_directory)
                    failures = statistics_of(stack)["commit_failures"]
                    wait_for("a commit finds no room", lambda failures=failures: statistics_of(stack)["commit_failures"] > failures)
                    before = load.refusals["lane-full"]
                    wait_for("visits are refused", lambda before=before: load.refusals["lane-full"] > before)
                    ballast.unlink()
                    before = load.taken.total()
                    wait_for("visits are taken again", lambda before=before: load.taken.total() > before + 5000)
            load.check(self)


if __name__ == "__main__":
    unittest.main()
