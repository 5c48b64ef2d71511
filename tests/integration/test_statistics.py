#!/usr/bin/env python3
"""Every figure that /metrics publishes moves when what it counts happens."""

import collections
import contextlib
import ctypes
import json
import re
import socket
import subprocess
import threading
import time
import unittest

from harness import LIBC, PATIENCE_S, Client, Stack, wait_for

SETTINGS = {
    "ring": {"lanes": 2, "lane_bytes": 1 << 20},
    "cache": {"entries": 16, "ttl_ms": 200, "flusher_away_ms": 500, "backlog_index_pages": 4096},
    "http": {"lookup_timeout_ms": 300, "head_timeout_ms": 300, "batch_read_limit": 1000},
    # Answers are noted so late that a killed flusher has forgotten them.
    "flusher": {"flush_interval_ms": 600_000, "commit_interval_ms": 3000, "memory_limit_bytes": 4 << 20},
}

# Families that do not move while an instance runs, and why.
CONSTANT = {
    "visitd_build_info": "says the version",
    "visitd_lane_capacity_bytes": "says a setting",
    "visitd_shard_buckets": "says where buckets are placed, which is settled at the flusher's start",
}
# Families that should move, and what is missing until they do.
NOT_YET: dict[str, str] = {}


class Watched:
    """What /metrics said of a stack, sample by sample."""

    def __init__(self):
        self.values: dict[str, set[int]] = collections.defaultdict(set)

    def look(self, stack: Stack) -> dict[str, int]:
        """Takes note of every sample, and returns the sum over the labels of each family."""
        sums: dict[str, int] = collections.Counter()
        for name, labels, value in re.findall(r"^(visitd_[a-z_]+)(\{.*\})? (\d+)$", stack.ask("GET", "/metrics").body.decode(), re.MULTILINE):
            self.values[f"{stack.port} {name}{labels}"].add(int(value))
            sums[name] += int(value)
        return sums

    def moved(self) -> set[str]:
        return {sample.split(" ")[1].partition("{")[0] for sample, values in self.values.items() if len(values) > 1}

    def families(self) -> set[str]:
        return {sample.split(" ")[1].partition("{")[0] for sample in self.values}


class Moves(unittest.TestCase):
    def setUp(self):
        self.watched = Watched()

    def until_moved(self, name: str, act=lambda: None) -> None:
        """Repeats what should move a family until it has."""

        def moved() -> bool:
            act()
            self.watched.look(self.stack)
            return name in self.watched.moved()

        wait_for(f"{name} moves", moved)

    def record(self, pages: list[str]) -> int:
        return self.stack.ask("POST", "/visits", json.dumps(pages).encode()).status

    def query(self, pages: list[str]) -> int:
        return self.stack.ask("POST", "/visits/query", json.dumps(pages).encode()).status

    def place(self, page: str):
        place = self.stack.status("page", page)
        return next(shard for shard in self.stack.shards if shard.name == place["shard"]), f"visits:{{{place['bucket']}}}"

    # --- what happens, one after another

    def visits_and_reads(self):
        for page in ("home", "about"):
            self.stack.post(page)
            self.until(lambda page=page: self.stack.read(page).status == 200)
        for begin in range(0, 60, 10):
            self.query([f"page-{number}" for number in range(begin, begin + 10)])
        self.until_moved("visitd_flusher_entries_evicted_total")
        self.watched.look(self.stack)
        self.stack.flush()

    def snapshots_that_are_taken_again(self):
        """One page is counted and read as fast as it goes."""
        ending = threading.Event()

        def load():
            body = json.dumps(["hot"] * 5000).encode()
            with Client(self.stack.port) as client:
                while not ending.is_set():
                    client.ask("POST", "/visits", body)

        loader = threading.Thread(target=load)
        loader.start()
        request = b"GET /visits/hot HTTP/1.1\r\nHost: x\r\n\r\n" * 200
        try:
            with socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S) as connection:

                def read_often():
                    for _ in range(10):
                        connection.sendall(request)
                        read = 0
                        while read < 200:
                            read += connection.recv(1 << 20).count(b"HTTP/1.1 ")

                self.until_moved("visitd_frontend_snapshots_again_total", read_often)
        finally:
            ending.set()
            loader.join()

    def batches_without_an_answer(self):
        for shard in self.stack.shards:
            with shard.client() as redis:
                redis("CLIENT", "PAUSE", "600", "ALL")
        self.record([f"page-{number}" for number in range(50)])
        flush = threading.Thread(target=self.stack.flush)
        flush.start()
        self.until_moved("visitd_flusher_unanswered_batches")
        flush.join()

    def batches_that_were_applied_before(self):
        """The flusher dies before it has noted their answers."""
        self.stack.post("home")
        self.stack.flush()
        self.restart_flusher()
        self.until_moved("visitd_flusher_batches_duplicate_total")

    def restart_flusher(self):
        self.stack.kill9("flusher")
        self.stack.start_one("flusher")
        wait_for("the shards are up", lambda: self.stack.status()["flusher"]["pid"] == self.stack.processes["flusher"].pid
                 and {shard["state"] for shard in self.stack.status()["shards"]} == {"up"})  # fmt: skip

    def batches_that_a_shard_lost(self):
        """A shard goes back by one batch, as after a crash."""
        shard, key = self.place("home")
        with shard.client() as redis:
            before = dict(zip(*[iter(redis("HGETALL", key))] * 2))
            self.stack.post("home")
            self.stack.flush()
            redis("HSET", key, *(word for pair in before.items() for word in pair))
            redis("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.until_moved("visitd_flusher_batches_sent_again_total")

    def a_page_that_cannot_be_counted(self):
        shard, key = self.place("spoiled")
        with shard.client() as redis:
            redis("HSET", key, "spoiled", "x")
        self.until_moved("visitd_frontend_reads_damaged_total", lambda: self.stack.read("spoiled"))
        self.stack.post("spoiled")
        self.stack.flush()
        self.until_moved("visitd_flusher_pages_set_aside_total")
        self.until_moved("visitd_flusher_pages_uncountable")

    def a_disk_without_room(self):
        ballast = self.stack.state_directory / "ballast"
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"x" * 4096)
        self.until_moved("visitd_flusher_commit_failures_total", lambda: self.record([f"page-{number}" for number in range(2000)]))
        ballast.unlink()
        wait_for("there is room again", lambda: self.record(["home"]) == 200)

    def a_damaged_record(self):
        """A frontend that was taken over writes what is no record."""
        LIBC.shmat.restype = ctypes.c_void_p
        segment = next(segment for segment in self.stack.status("ipcs")["segments"] if segment["what"] == "ring")
        address = LIBC.shmat(segment["shmid"], None, 0)
        try:
            words = (ctypes.c_uint64 * (segment["bytes"] // 8)).from_address(address)
            lane_bytes, headers, records = words[5], words[11], words[15]
            self.stack.pause("flusher")
            tail = words[headers // 8]
            self.stack.post("home")
            words[(records + tail % lane_bytes) // 8] = 0xFFFF
        finally:
            self.stack.resume("flusher")
            LIBC.shmdt(ctypes.c_void_p(address))
        self.until_moved("visitd_flusher_records_damaged_total")

    def a_flusher_that_stands_still(self):
        self.until(lambda: self.stack.read("home").status == 200)  # the shard is back, and takes what waited for it
        self.stack.pause("flusher")
        try:
            self.until_moved("visitd_frontend_reads_stale_total", lambda: self.stack.read("home"))
            self.until_moved("visitd_frontend_reads_unknown_total", lambda: self.stack.read("never-asked-for"))
            for begin in range(0, 10_000, 1000):  # the index grows up to twice its limit
                self.assertEqual(self.record([f"many-{number}" for number in range(begin, begin + 1000)]), 200)
            self.until_moved("visitd_frontend_reads_scanned_directly_total", lambda: self.stack.read("home"))
            self.until_moved("visitd_frontend_visits_refused_full_total", lambda: self.record(["home"] * 10_000))
            self.until_moved("visitd_flusher_up")
        finally:
            self.stack.resume("flusher")

    def clients_that_are_late(self):
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S) as connection:
            connection.sendall(b"GET / HT")
            self.until_moved("visitd_frontend_connections_timed_out_total")

    def a_ring_that_is_left(self):
        """The frontend cannot go while its visits are not durable."""
        self.stack.pause("flusher")
        try:
            self.record(["home"])
            segment = next(segment for segment in self.stack.status("ipcs")["segments"] if segment["what"] == "ring")
            LIBC.shmctl(segment["shmid"], 0, None)  # IPC_RMID
            self.until_moved("visitd_frontend_visits_refused_closed_total", lambda: self.stack.ask("POST", "/visit/home"))
            self.until_moved("visitd_frontend_up")
        finally:
            self.stack.resume("flusher")

    def what_waits_for_a_shard_that_is_down(self):
        """More than half of the memory for it: it waits in the spool alone."""
        shard = self.stack.shards[0]
        self.stack.kill9(shard.name)
        pages = [f"waiting-{number:06d}" for number in range(60_000)]
        for begin in range(0, len(pages), 5000):
            self.until(lambda part=pages[begin : begin + 5000]: self.record(part) == 200)
        self.until_moved("visitd_shard_state")
        self.until_moved("visitd_flusher_spilled_visits")
        self.until_moved("visitd_flusher_spilled_bytes")
        self.stack.restart(shard.name)
        self.until(lambda: all(shard["state"] == "up" for shard in self.stack.status()["shards"]))

    def until(self, done) -> None:
        wait_for("it is done", done)

    # --- the test

    def test_each_published_figure_moves(self):
        self.stack = Stack(frontends=1, settings=SETTINGS)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", self.stack.state_directory], check=True)
        try:
            self.stack.start()
            self.watched.look(self.stack)
            for happens in (self.visits_and_reads, self.snapshots_that_are_taken_again, self.batches_without_an_answer,
                            self.batches_that_were_applied_before, self.batches_that_a_shard_lost, self.a_page_that_cannot_be_counted,
                            self.clients_that_are_late, self.a_disk_without_room, self.a_damaged_record, self.what_waits_for_a_shard_that_is_down, self.a_flusher_that_stands_still,
                            self.a_ring_that_is_left):  # fmt: skip
                begun = time.monotonic()
                happens()
                print(f"{happens.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
        except BaseException:
            self.stack.print_logs()
            raise
        finally:
            for process in self.stack.processes.values():
                process.wanted = False
                if process.alive:
                    process.running.kill()
                    process.running.wait()
            subprocess.run(["umount", self.stack.state_directory], check=True)
            self.stack.close()
        self.too_many_connections()
        self.answers_that_nobody_takes()
        self.visits_that_are_ignored()
        self.replicas_that_do_not_follow()
        still = self.watched.families() - self.watched.moved()
        self.assertEqual(still, set(CONSTANT) | set(NOT_YET))

    def too_many_connections(self):
        with Stack(frontends=1, settings={"http": {"connection_limit": 8, "address_connection_limit": 4, "trusted_proxies": []}}) as self.stack:
            self.watched.look(self.stack)
            with contextlib.ExitStack() as held:
                for host in (2, 3, 4):
                    for _ in range(5):
                        connection = held.enter_context(socket.socket())
                        connection.bind((f"127.0.0.{host}", 0))
                        connection.connect(("127.0.0.1", self.stack.port))
                self.until_moved("visitd_frontend_connections_over_address_limit_total")
                self.until_moved("visitd_frontend_connections_evicted_total")

    def visits_that_are_ignored(self):
        with Stack(frontends=1, settings={"http": {"ignored_addresses": ["127.0.0.0/8", "::1"]}}) as self.stack:
            self.watched.look(self.stack)
            self.until_moved("visitd_frontend_visits_ignored_total", lambda: self.stack.post("ignored"))

    def replicas_that_do_not_follow(self):
        """The shard has no replica at all."""
        flusher = {"flush_interval_ms": 50, "commit_interval_ms": 20, "keep_batches_s": 0, "keep_batches_bytes": 4096}
        with Stack(frontends=1, settings={"flusher": flusher, "redis": {"wait_replicas": 1}}) as self.stack:
            self.watched.look(self.stack)
            pages = iter(range(1_000_000))
            self.until_moved("visitd_flusher_kept_overdue_batches", lambda: self.stack.post(f"page-{next(pages)}"))
            self.until_moved("visitd_flusher_kept_dropped_batches_total", lambda: self.stack.post(f"page-{next(pages)}"))

    def answers_that_nobody_takes(self):
        with Stack(frontends=1, settings={"http": {"buffered_answers_limit_bytes": 1 << 16, "send_buffer_bytes": 4096}}) as self.stack:
            self.watched.look(self.stack)
            with contextlib.ExitStack() as held:
                for _ in range(4):
                    connection = held.enter_context(socket.socket())
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    connection.connect(("127.0.0.1", self.stack.port))
                    connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
                self.until_moved("visitd_frontend_connections_evicted_sending_total")


if __name__ == "__main__":
    unittest.main()
