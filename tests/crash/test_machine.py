"""A machine's id or boot id that changes: under a running flusher a new life begins, and a state directory that was moved is said; exact."""

import contextlib
import re
import sqlite3
import unittest

from harness import BUILD_ROOT, Stack, wait_for

OTHER_HOST = BUILD_ROOT / "tests/crash/libother_host.so"
SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}}


class Machine(unittest.TestCase):
    def setUp(self):
        self.stack = Stack(frontends=1, shards=1, settings=SETTINGS)
        self.addCleanup(self.stack.close)
        self.host = self.stack.folder / "host"
        self.host.mkdir()
        self.become("machine-id", "1" * 32)
        self.become("boot_id", "00000000-0000-0000-0000-000000000001")
        self.stack.preload("flusher", OTHER_HOST, OTHER_HOST_FOLDER=str(self.host))
        self.enterContext(self.stack)

    def become(self, name: str, text: str) -> None:
        """In one step: the flusher may look at any moment."""
        part = self.host / "part"
        part.write_text(text + "\n")
        part.rename(self.host / name)

    def log(self) -> str:
        return self.stack.processes["flusher"].text()

    def lives(self) -> list[tuple]:
        """Of a flusher that has ended: the number and the random part of each."""
        with contextlib.closing(sqlite3.connect(self.stack.state_directory / "spool.db")) as spool:
            return spool.execute("SELECT number, random FROM incarnation ORDER BY number").fetchall()

    def count_to(self, count: int) -> None:
        self.stack.post("home")
        self.stack.wait_for_redis({"home": count})
        wait_for("home is read", lambda: self.stack.shows("home", count))

    def test_an_id_that_changes_under_a_running_flusher_begins_a_new_life(self):
        self.count_to(1)
        changes = (("boot_id", "00000000-0000-0000-0000-000000000002", "the boot id changed"), ("machine-id", "2" * 32, "the machine's id changed"))
        for count, (name, text, said) in enumerate(changes, 2):
            with self.subTest(name):
                self.become(name, text)
                self.stack.post("other")
                wait_for("a new life begins", lambda said=said: said in self.log())
                self.stack.wait_for_redis({"home": count - 1, "other": count - 1})
                self.stack.post("home")
                self.stack.wait_for_redis({"home": count, "other": count - 1})
        self.assertEqual(self.stack.processes["flusher"].starts, 1)  # all in one process
        self.stack.stop_one("flusher")
        lives = self.lives()
        self.assertEqual(len(lives), 3)
        self.assertEqual(len({random for _, random in lives}), 3)

    def test_a_state_directory_that_was_moved_to_another_machine_is_said_and_goes_on(self):
        self.count_to(1)
        self.stack.stop_one("flusher")
        self.become("machine-id", "3" * 32)
        self.stack.post("home")
        self.stack.start_one("flusher")
        self.stack.wait_for_redis({"home": 2})
        said = re.findall(r"last used on the machine (\w+), and this is (\w+)", self.log())
        self.assertEqual(said, [("1" * 32, "3" * 32)])
        self.assertIn("--renew-spool", self.log())
        # Once: from now on it is this machine's.
        self.stack.restart("flusher")
        self.count_to(3)
        self.assertEqual(self.log().count("last used on the machine"), 1)
        self.assertEqual({shard["state"] for shard in self.stack.status()["shards"]}, {"up"})


if __name__ == "__main__":
    unittest.main()
