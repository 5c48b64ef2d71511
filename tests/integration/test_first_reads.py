#!/usr/bin/env python3
"""A read in the first second after a start waits for the flusher and its shards, and for no look that comes once a second."""

import datetime
import re
import time
import unittest

from harness import Stack, wait_for

# A frontend looks for a cache by itself once a second; a read waits some 30 ms. Room for a busy machine lies between.
MOST_S = 0.2
STARTS = 6
LATE = 1  # of them, at most; of answers that come with a look once a second, most are


def up_since(stack: Stack, start: int) -> float:
    """When the flusher says, the start-th time, that its shard is up, as Unix time: how long a start takes is not what is looked at."""
    lines = wait_for("the flusher logs that its shard is up",
                     lambda: re.findall(r"^(\S+) .* is up$", stack.processes["flusher"].text(), re.MULTILINE)[start - 1 :])  # fmt: skip
    return datetime.datetime.fromisoformat(lines[0]).timestamp()


class FirstReads(unittest.TestCase):
    def wait_of_read(self, stack: Stack, start: int = 1) -> float:
        """Seconds from when the shard was up to the answer."""
        self.assertEqual(stack.get(f"page-{start}"), 0)
        answered = time.time()
        return answered - up_since(stack, start)

    def check(self, waits: list[float]) -> None:
        print([f"{wait * 1000:.0f} ms" for wait in waits], flush=True)
        self.assertLessEqual(sum(wait > MOST_S for wait in waits), LATE)

    def test_a_read_that_comes_with_the_first_flusher_waits_for_its_shard_and_for_no_look(self):
        waits = []
        for _ in range(STARTS):
            stack = Stack(frontends=1, shards=1)
            try:
                stack.start_one(stack.shards[0].name)
                stack.wait_for_shard(stack.shards[0])
                stack.start_one("frontend_1")
                wait_for("the frontend listens", lambda: stack.listens(stack.processes["frontend_1"].pid), pause_s=0.001)
                stack.start_one("flusher")
                waits.append(self.wait_of_read(stack))
            finally:
                stack.close()
        self.check(waits)

    def test_a_read_that_meets_a_killed_flusher_is_asked_again_once_the_next_one_is_there(self):
        waits = []
        with Stack(frontends=1, shards=1) as stack:
            for kill in range(STARTS):
                stack.kill9("flusher")
                stack.start_one("flusher")
                waits.append(self.wait_of_read(stack, kill + 2))
        self.check(waits)


if __name__ == "__main__":
    unittest.main()
