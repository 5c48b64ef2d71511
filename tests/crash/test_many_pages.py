"""One client sends millions of distinct pages at full speed: the flusher goes on looking at everything, stays within its memory, and counts exactly."""

import json
import os
import signal
import socket
import threading
import time
import unittest

from harness import Client, Stack, wait_for

SANITIZED = "ASAN_OPTIONS" in os.environ  # several times as slow, and with a memory of its own
PAGES = int(os.environ.pop("VISITD_TEST_PAGES", "150000" if SANITIZED else "1000000"))
LIST = 10_000
MIB = 1 << 20
MEMORY_LIMIT = (8 if SANITIZED else 64) * MIB
# What a flusher takes besides pages that are pending: its program and libraries, SQLite's cache, one transaction, the buffers of its connections.
OTHER_MEMORY = (4096 if SANITIZED else 96) * MIB
# The same of one that has just started: SQLite keeps up to 20 MiB of what it has read.
OTHER_AT_START = (4096 if SANITIZED else 48) * MIB
# Bytes of requests for the same pages again and again: several times the journal's limit of 16 MiB.
WRITTEN = (100 if SANITIZED else 400) * MIB
LIMIT_S = 60 + PAGES / 10_000


def page_of(number: int) -> str:
    return f"/articles/2024/number-{number:09d}/"  # 32 bytes


class Bulk(threading.Thread):
    """Sends each list until it is taken, and notes how long it was refused in a row."""

    def __init__(self, stack: Stack, pages: int):
        super().__init__(daemon=True)
        self.stack, self.pages = stack, pages
        self.longest_refusal_s = 0.0
        self.refusals = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self.stack.port, timeout_s=30) as client:
                for first in range(0, self.pages, LIST):
                    self._send(client, first, min(first + LIST, self.pages))
        except BaseException as failure:  # noqa: BLE001 - told by the test's own thread
            self.failure = failure

    def _send(self, client: Client, first: int, end: int) -> None:
        refused_since = None
        while first < end:
            body = json.dumps({page_of(number): 1 for number in range(first, end)}).encode()
            answer = client.ask("POST", "/visits", body)
            now = time.monotonic()
            if answer.status == 200:
                recorded = end - first
            else:
                assert answer.status == 503 and int(answer.headers["Retry-After"]) >= 1, answer
                recorded = answer.json()["recorded"]
                self.refusals += 1
            first += recorded
            if recorded:
                if refused_since is not None:
                    self.longest_refusal_s = max(self.longest_refusal_s, now - refused_since)
                refused_since = None
            if answer.status != 200:
                refused_since = refused_since or now
                time.sleep(0.02)


class Watch(threading.Thread):
    """Looks at the flusher all the while, as an operator and systemd would."""

    def __init__(self, stack: Stack):
        super().__init__(daemon=True)
        self.stack = stack
        self.ending = threading.Event()
        self.oldest_heartbeat_s = 0.0
        self.slowest_answer_s = 0.0
        self.looks = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ending.wait(0.1):
                self.slowest_answer_s = max(self.slowest_answer_s, ask_control_socket(self.stack))
                self.oldest_heartbeat_s = max(self.oldest_heartbeat_s, self.stack.status()["flusher"]["heartbeat_age_ms"] / 1000)
                self.looks += 1
        except BaseException as failure:  # noqa: BLE001 - told by the test's own thread
            self.failure = failure

    def stop(self) -> None:
        """Throws what ended it early: then it has not seen all."""
        self.ending.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def ask_control_socket(stack: Stack) -> float:
    """How long the flusher takes to answer a request that it only has to refuse."""
    started = time.monotonic()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(30)
        client.connect(str(stack.runtime_directory / "flusher.sock"))
        client.sendall(b'{"command":"nothing"}\n')
        client.recv(4096)
    return time.monotonic() - started


def own_memory(pid: int, kind: str) -> int:
    """In bytes: VmHWM and the like count shared memory; the flusher's own is anonymous."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(kind))


# Pages and visits of a shard, counted by itself.
SUM = """
local pages, visits, cursor = 0, 0, '0'
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', 'visits:{*}', 'COUNT', 1000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do
      if string.byte(all[i]) ~= 1 then
        pages = pages + 1
        visits = visits + all[i + 1]
      end
    end
  end
until cursor == '0'
return {pages, visits}
"""


def held_by(shard) -> tuple[int, int]:
    with shard.client() as redis:
        pages, visits = redis("EVAL", SUM, "0")
        return pages, visits


class ManyPages(unittest.TestCase):
    def stack(self) -> Stack:
        stack = Stack(frontends=1, shards=2, settings={
            "ring": {"lanes": 2, "lane_bytes": (4 if SANITIZED else 32) * MIB},
            "flusher": {"memory_limit_bytes": MEMORY_LIMIT, "flush_interval_ms": 2000, "commit_interval_ms": 1000},
        })  # fmt: skip
        self.addCleanup(stack.close)
        return stack

    def check_bulk(self, stack: Stack, bulk: Bulk, watch: Watch, started: float) -> None:
        peak = own_memory(stack.processes["flusher"].pid, "RssAnon:")
        print(f"{bulk.pages} pages in {time.monotonic() - started:.1f} s, {bulk.refusals} refusals, {bulk.longest_refusal_s:.2f} s in a row at most; "
              f"heartbeat {watch.oldest_heartbeat_s:.2f} s old at most, control socket {watch.slowest_answer_s * 1000:.0f} ms at most, in {watch.looks} looks, memory {peak / MIB:.0f} MiB",
              flush=True)  # fmt: skip
        if bulk.failure is not None:
            raise bulk.failure
        self.assertLess(watch.oldest_heartbeat_s, 4.0 if SANITIZED else 1.0)
        self.assertLess(bulk.longest_refusal_s, 8.0 if SANITIZED else 2.0)
        self.assertLess(peak, MEMORY_LIMIT + OTHER_MEMORY + stack.status()["spool"]["kept_bytes"])

    def test_are_all_counted_while_the_flusher_looks_at_everything(self):
        stack = self.stack()
        stack.start()
        watch, bulk = Watch(stack), Bulk(stack, PAGES)
        watch.start()
        started = time.monotonic()
        bulk.start()
        bulk.join(LIMIT_S)
        wait_for("both shards hold every page once", lambda: tuple(map(sum, zip(*map(held_by, stack.shards)))) == (PAGES, PAGES), LIMIT_S, 0.5)
        watch.stop()
        self.check_bulk(stack, bulk, watch, started)
        # What has no visits is not said to be pending, and takes no memory.
        wait_for("nothing is pending", lambda: stack.status()["spool"]["pending_pages"] == 0)
        self.assertEqual(stack.status()["spool"]["pending_visits"], 0)
        # The batches that are kept are all that a flusher which starts now has to hold.
        stack.restart("flusher")
        pid = stack.processes["flusher"].pid
        wait_for("the next flusher counts", lambda: stack.status()["flusher"]["pid"] == pid and stack.read("another").status == 200)
        kept = stack.status()["spool"]["kept_bytes"]
        peak = own_memory(pid, "VmHWM:") - own_memory(pid, "RssShmem:")
        print(f"start with {kept / MIB:.0f} MiB of kept batches: at most {peak / MIB:.0f} MiB")
        self.assertLess(peak, 1.3 * kept + OTHER_AT_START)
        stack.stop_all()

    def test_wait_on_disk_for_a_shard_that_is_down_while_the_other_one_is_flushed(self):
        stack = self.stack()
        stack.start()
        down, up = stack.shards
        stack.kill9(down.name)
        watch, bulk = Watch(stack), Bulk(stack, PAGES)
        watch.start()
        started = time.monotonic()
        bulk.start()
        flushes = []
        while bulk.is_alive():
            before = held_by(up)[0]
            bulk.join(4.0)  # two intervals
            flushes.append(held_by(up)[0] - before)
        self.assertTrue(all(flushes[:-1]), f"the shard that is up got pages in each interval: {flushes}")
        wait_for("the shard that is up holds its pages", lambda: held_by(up)[0] > PAGES // 3 and self.is_flushed(stack, up), LIMIT_S, 0.5)
        watch.stop()
        self.check_bulk(stack, bulk, watch, started)
        spilled = stack.status()["flusher"]["statistics"]["spilled_visits"]
        self.assertGreater(spilled, 0, "this much does not fit in memory")
        # A flusher that starts with all that is on disk stays within its memory too, and reads go on.
        stack.kill9("flusher")
        stack.start_one("flusher")
        wait_for("the next flusher knows what waits", lambda: stack.status()["spool"]["pending_visits"] == PAGES - held_by(up)[1])
        self.assertLess(own_memory(stack.processes["flusher"].pid, "RssAnon:"), MEMORY_LIMIT + OTHER_MEMORY)
        stack.restart(down.name)
        wait_for("both shards hold every page once", lambda: tuple(map(sum, zip(*map(held_by, stack.shards)))) == (PAGES, PAGES), LIMIT_S, 0.5)
        wait_for("nothing is pending", lambda: stack.status()["spool"]["pending_visits"] == 0)
        self.assertEqual(stack.status()["flusher"]["statistics"]["spilled_bytes"], 0)
        stack.stop_all()

    def test_that_come_again_and_again_leave_no_longer_spool_than_the_pages_need(self):
        # What takes a day at 5,000 visits a second, each commit a second long, takes seconds when a commit follows the other.
        stack = Stack(frontends=1, shards=2, settings={"flusher": {"commit_interval_ms": 10, "flush_interval_ms": 500}, "ring": {"lane_bytes": 32 * MIB}})
        self.addCleanup(stack.close)
        stack.start()
        for shard in stack.shards:
            stack.kill9(shard.name)
        pages, rounds, largest = 10_000, 0, 0
        body = json.dumps({page_of(number): 1 for number in range(pages)}).encode()
        with Client(stack.port) as client:
            deadline = time.monotonic() + 60
            # Several times the journal's limit: it was folded, and more than once.
            while rounds * len(body) < WRITTEN and time.monotonic() < deadline:
                answer = client.ask("POST", "/visits", body)
                self.assertEqual(answer.status, 200, answer)
                rounds += 1
                largest = max(largest, sum(file.stat().st_size for file in stack.state_directory.iterdir()))
        folded = pages * (len(page_of(0)) + 3)
        print(f"{rounds * pages} visits of {pages} pages: spool of {largest / MIB:.1f} MiB at most, the pages folded {folded / MIB:.2f} MiB")
        self.assertGreater(rounds * folded, WRITTEN / 4)
        self.assertLess(largest, 64 * MIB + 3 * folded)
        for shard in stack.shards:
            stack.restart(shard.name)
        wait_for("both shards hold every visit once", lambda: tuple(map(sum, zip(*map(held_by, stack.shards)))) == (pages, rounds * pages), LIMIT_S, 0.5)
        stack.stop_all()

    def is_flushed(self, stack: Stack, shard) -> bool:
        before = held_by(shard)
        time.sleep(3.0)
        return held_by(shard) == before

    def test_a_flusher_with_full_lanes_answers_a_signal_at_once(self):
        stack = self.stack()
        stack.start()
        flusher = stack.processes["flusher"]
        stack.pause("flusher")
        bulk = Bulk(stack, PAGES)
        bulk.start()
        wait_for("the lane is full", lambda: bulk.refusals > 0, LIMIT_S)
        stack.resume("flusher")
        os.kill(flusher.pid, signal.SIGTERM)
        sent = time.monotonic()
        wait_for("it says that it stops", lambda: "stopping" in flusher.text(), 5, 0.005)
        took = time.monotonic() - sent
        print(f"stopping was said {took * 1000:.0f} ms after SIGTERM")
        self.assertLess(took, 0.5)
        flusher.running.wait(30)
        stack.start_one("flusher")
        bulk.join(LIMIT_S)
        self.assertIsNone(bulk.failure)
        wait_for("both shards hold every page once", lambda: tuple(map(sum, zip(*map(held_by, stack.shards)))) == (PAGES, PAGES), LIMIT_S, 0.5)


if __name__ == "__main__":
    unittest.main()
