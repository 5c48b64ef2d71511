"""Another version takes over, and the former one again, with other layouts of ring, cache and spool: under load, in any order, exact."""

import contextlib
import ctypes
import re
import sqlite3
import struct
import time
import unittest

from harness import BUILD_ROOT, FLUSHER, FRONTEND, LIBC, SOURCE_ROOT, Stack, Traffic, wait_for

LIMIT_S = 30
SHM_RDONLY = 0o10000
# This version, and the same sources with the next version of every layout.
PROGRAMS = {
    "this": {"flusher": FLUSHER, "frontend": FRONTEND},
    "next": {"flusher": BUILD_ROOT / "tests/crash/visit-flusher-next", "frontend": BUILD_ROOT / "tests/crash/visit-frontend-next"},
}
LAYOUTS = {"this": SOURCE_ROOT, "next": SOURCE_ROOT / "tests/next_version"}


def layouts(name: str) -> dict[str, int]:
    """Of ring or cache, as the sources of each version number them."""
    numbers = {version: (root / "common/shm/layout_version.hpp").read_text() for version, root in LAYOUTS.items()}
    return {version: int(re.search(rf"{name}_layout_version = (\d+);", text)[1]) for version, text in numbers.items()}


RING_LAYOUTS, CACHE_LAYOUTS = layouts("ring"), layouts("cache")


def layout_of(segment: int) -> int:
    """The layout version of a ring or a cache: its second word."""
    LIBC.shmat.restype = ctypes.c_void_p
    LIBC.shmdt.argtypes = [ctypes.c_void_p]
    address = LIBC.shmat(segment, None, SHM_RDONLY)
    if address in (None, ctypes.c_void_p(-1).value):
        return 0  # gone meanwhile
    try:
        return struct.unpack("QQ", ctypes.string_at(address, 16))[1]
    finally:
        LIBC.shmdt(address)


def layout_in_use(stack: Stack, name: str) -> int:
    path = stack.runtime_directory / name
    lines = path.read_text().splitlines() if path.exists() else []
    return layout_of(int(lines[-1].split()[1])) if lines else 0


def spool_schema(stack: Stack) -> tuple[int, int]:
    """Version of the spool's schema, and its batches that no shard has answered; only while no flusher runs."""
    with contextlib.closing(sqlite3.connect(stack.state_directory / "spool.db")) as spool:
        version = spool.execute("PRAGMA user_version").fetchone()[0]
        return version, spool.execute("SELECT count(*) FROM batch WHERE number NOT IN (SELECT number FROM answered)").fetchone()[0]


def use(stack: Stack, version: str, *names: str) -> None:
    """What these processes are from their next start on."""
    for name in names:
        process = stack.processes[name]
        process.argv = [str(PROGRAMS[version][name.partition("_")[0]]), *process.argv[1:]]


class Upgrade(unittest.TestCase):
    def wait_for_layouts(self, stack: Stack, version: str) -> None:
        wait_for("the ring has the version's layout", lambda: layout_in_use(stack, "rings") == RING_LAYOUTS[version], LIMIT_S)
        wait_for("the cache has the version's layout", lambda: layout_in_use(stack, "cache") == CACHE_LAYOUTS[version], LIMIT_S)

    def replaced_under_load(self, first: str, second: str, *order: tuple[str, ...]) -> None:
        """Each group of processes is restarted as the second version, all of a group at once, as an upgrade does it."""
        # A frontend that leaves its ring ends by itself, and is started again.
        stack = Stack(frontends=2, supervised=True)
        use(stack, first, "flusher", *stack.frontends)
        with stack:
            self.wait_for_layouts(stack, first)
            traffic = Traffic(stack, clients=6, readers=2, pages=30).start()
            wait_for("there is traffic", lambda: traffic.acknowledged.total() > 300, LIMIT_S)
            use(stack, second, "flusher", *stack.frontends)
            for group in order:
                for name in group:
                    stack.stop_one(name)
                    stack.start_one(name)
                time.sleep(0.5)
            self.wait_for_layouts(stack, second)
            before, reads = traffic.acknowledged.total(), traffic.reads
            wait_for("visits are acknowledged again", lambda: traffic.acknowledged.total() > before + 300, LIMIT_S)
            wait_for("counts are read again", lambda: traffic.reads > reads + 100, LIMIT_S)
            traffic.stop()
            traffic.check()
            print(f"{first} to {second}, {order}: {traffic.acknowledged.total()} visits, {traffic.refused} put off, {traffic.reads} reads")

    def test_the_flusher_first(self):
        for first, second in (("this", "next"), ("next", "this")):
            with self.subTest(first=first):
                self.replaced_under_load(first, second, ("flusher",), ("frontend_1",), ("frontend_2",))

    def test_the_frontends_first(self):
        for first, second in (("this", "next"), ("next", "this")):
            with self.subTest(first=first):
                self.replaced_under_load(first, second, ("frontend_1",), ("frontend_2",), ("flusher",))

    def test_a_frontend_that_nobody_restarts_leaves_the_ring_of_its_version_by_itself(self):
        stack = Stack(frontends=2, supervised=True)
        with stack:
            traffic = Traffic(stack, clients=4, readers=1, pages=20).start()
            wait_for("there is traffic", lambda: traffic.acknowledged.total() > 100, LIMIT_S)
            use(stack, "next", "flusher", *stack.frontends)
            stack.stop_one("flusher")
            stack.start_one("flusher")
            stack.stop_one("frontend_1")
            stack.start_one("frontend_1")
            wait_for("the other one was started again", lambda: stack.processes["frontend_2"].starts == 2, LIMIT_S)
            self.wait_for_layouts(stack, "next")
            before = traffic.acknowledged.total()
            wait_for("visits are acknowledged again", lambda: traffic.acknowledged.total() > before + 100, LIMIT_S)
            traffic.stop()
            traffic.check()

    def test_all_are_killed_with_visits_in_the_ring_and_batches_in_the_spool(self):
        for first, second in (("this", "next"), ("next", "this")):
            with self.subTest(first=first):
                stack = Stack(frontends=2, settings={"flusher": {"flush_interval_ms": 100, "keep_batches_s": 600}})
                use(stack, first, "flusher", *stack.frontends)
                with stack:
                    expected = {}
                    for number in range(40):
                        stack.post(f"flushed-{number}")
                        expected[f"flushed-{number}"] = 1
                    stack.wait_for_redis(expected)
                    # Paused, not killed: a shard that is known to be down gets no batches.
                    for shard in stack.shards:
                        stack.pause(shard.name)
                    for number in range(40):
                        stack.post(f"sealed-{number}")
                        expected[f"sealed-{number}"] = 1

                    def sealed() -> bool:
                        spool = stack.ask("GET", "/metrics").body.decode()
                        return "visitd_flusher_unanswered_batches" in spool and float(
                            next(line for line in spool.splitlines() if line.startswith("visitd_flusher_unanswered_batches")).split()[1]) > 10  # fmt: skip

                    wait_for("batches wait in the spool", sealed, LIMIT_S)
                    stack.kill9("flusher")
                    for _ in range(7):
                        for number in range(40):
                            stack.post(f"in-the-ring-{number}")
                    expected |= {f"in-the-ring-{number}": 7 for number in range(40)}
                    for name in [*stack.frontends, *(shard.name for shard in stack.shards)]:
                        stack.kill9(name)
                    schema, unanswered = spool_schema(stack)
                    self.assertEqual(schema, 4 if first == "this" else 5)
                    self.assertGreater(unanswered, 10)
                    use(stack, second, "flusher", *stack.frontends)
                    for shard in stack.shards:
                        stack.start_one(shard.name)
                        stack.wait_for_shard(shard)
                    stack.supervise()
                    for name in ("flusher", *stack.frontends):
                        stack.processes[name].wanted = True
                    self.wait_for_layouts(stack, second)
                    stack.wait_for_redis(expected, LIMIT_S)
                    wait_for("counts are read", lambda: stack.read("in-the-ring-1").status == 200, LIMIT_S)
                    self.assertEqual(stack.get("in-the-ring-1"), 7)
                    stack.stop_one("flusher")
                    # Once of the next schema it stays so: that version only adds to it, and says that this one can go on with it.
                    self.assertEqual(spool_schema(stack)[0], 5)

    def test_a_ring_whose_records_nobody_here_can_read_is_left_alone(self):
        with Stack(frontends=1) as stack:
            stack.stop_one("flusher")
            stack.post("home")
            stack.stop_one("frontend_1")
            ring = int((stack.runtime_directory / "rings").read_text().split()[1])
            LIBC.shmat.restype = ctypes.c_void_p
            LIBC.shmdt.argtypes = [ctypes.c_void_p]
            address = LIBC.shmat(ring, None, 0)
            format_at = address + 80
            ctypes.memmove(format_at, struct.pack("Q", 77), 8)
            for name in ("frontend_1", "flusher"):
                stack.start_one(name)
                self.assertEqual(stack.processes[name].running.wait(LIMIT_S), 1)
                self.assertIn("whose records this one cannot read; run that version until", stack.processes[name].text())
            ctypes.memmove(format_at, struct.pack("Q", 1), 8)
            LIBC.shmdt(address)
            stack.start_one("flusher")
            stack.start_one("frontend_1")
            stack.wait_for_redis({"home": 1})


if __name__ == "__main__":
    unittest.main()
