"""An owner adds to counts and lowers them over HTTP, while the flusher is killed again and again: each request that was answered is done
exactly once."""

import contextlib
import os
import random
import sqlite3
import threading
import time
import unittest

from harness import Client, wait_for
from shaped_stack import OWNER_KEY, ShapedStack

# VISITD_QUESTIONS_SECONDS: for a longer campaign.
SECONDS = float(os.environ.pop("VISITD_QUESTIONS_SECONDS", "15"))
SETTINGS = {"flusher": {"flush_interval_ms": 300, "commit_interval_ms": 20}, "redis": {"buckets": 16}}
PAGES = 3
BEGIN = 1_000_000
KEPT = 10_000  # notes of questions in the spool


class Owner(threading.Thread):
    """Asks for one change after the other, of one page."""

    def __init__(self, stack: ShapedStack, page: str, seed: int):
        super().__init__(daemon=True)
        self.stack = stack
        self.page = page
        self.chance = random.Random(seed)
        self.ending = threading.Event()
        self.sum = 0  # of what was answered
        self.answered = 0
        self.unknown: list[int] = []  # of what was not: it may be done, or not
        self.fault = ""

    def run(self) -> None:
        with Client(self.stack.port, timeout_s=60) as client:
            while not self.ending.is_set():
                amount = self.chance.randrange(1, 50) * (-1 if self.chance.random() < 0.3 else 1)
                answer = client.ask("GET", f"/update/{self.page}?amount={amount}", None, {"Authorization": f"Bearer {OWNER_KEY}"})
                if answer.status == 200:
                    self.sum += amount
                    self.answered += 1
                elif answer.status == 503 and answer.json().get("type") == "urn:visitd:problem:not-done":
                    self.unknown.append(amount)
                elif answer.status != 503:  # or its count is not known just now: nothing was asked for
                    self.fault = f"{answer}"
                    return


class Visitor(threading.Thread):
    def __init__(self, stack: ShapedStack, page: str):
        super().__init__(daemon=True)
        self.stack = stack
        self.page = page
        self.ending = threading.Event()
        self.visits = 0

    def run(self) -> None:
        with Client(self.stack.port, timeout_s=60) as client:
            while not self.ending.is_set():
                self.visits += client.ask("POST", f"/visit/{self.page.replace('/', '%2F')}").status == 200
                time.sleep(0.005)


class UnderKills(unittest.TestCase):
    def test_what_was_answered_is_done_once_however_often_the_flusher_dies(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        stack = ShapedStack("countapi", settings=SETTINGS, frontends=4, supervised=True)
        stack.settings["owner"]["timeout_ms"] = 20_000
        stack.write_settings()
        with stack:
            pages = [f"mine/page-{number}" for number in range(PAGES)]
            for page in pages:
                stack.visitctl("add", page, str(BEGIN))
            owners = [Owner(stack, page, seed + number) for number, page in enumerate(pages * 2)]
            visitors = [Visitor(stack, page) for page in pages]
            threads = owners + visitors
            for thread in threads:
                thread.start()
            kills = 0
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                time.sleep(chance.uniform(0.05, 0.4))
                stack.kill9("flusher")
                kills += 1
                wait_for("the flusher is back", lambda: stack.visitctl("flush", check=False).returncode == 0)
            for thread in threads:
                thread.ending.set()
            for thread in threads:
                thread.join(60)
                self.assertFalse(thread.is_alive())
            self.assertEqual([owner.fault for owner in owners if owner.fault], [])
            # What nobody waits for any more may still be on its way.
            for _ in range(2):
                wait_for("all is in Redis", lambda: stack.visitctl("flush", check=False).returncode == 0)
            for page in pages:
                mine = [owner for owner in owners if owner.page == page]
                sure = BEGIN + sum(owner.sum for owner in mine) + sum(visitor.visits for visitor in visitors if visitor.page == page)
                unknown = [amount for owner in mine for amount in owner.unknown]
                least, most = (sure + sum(amount for amount in unknown if amount * sign > 0) for sign in (-1, 1))
                self.assertTrue(least <= stack.get(page) <= most, f"{page}: {stack.get(page)}, and {least} to {most} were answered")
            answered = sum(owner.answered for owner in owners)
            unknown = sum(len(owner.unknown) for owner in owners)
            self.assertGreater(answered, 20)
            self.assertLessEqual(unknown, answered // 20)
            print(f"{answered} changes answered, {unknown} not, {sum(visitor.visits for visitor in visitors)} visits, {kills} kills of the flusher", flush=True)
            stack.stop_one("flusher")
            with contextlib.closing(sqlite3.connect(stack.state_directory / "spool.db")) as spool:
                noted = spool.execute("SELECT count(*) FROM question").fetchone()[0]
            self.assertTrue(min(answered, KEPT) <= noted <= KEPT, f"{noted} questions are noted, of {answered}")


if __name__ == "__main__":
    unittest.main()
