"""Several instances on one machine: one is ended, what ended ones left is found and cleaned up, and the others count on."""

import ctypes
import json
import os
import re
import shutil
import subprocess
import unittest

from harness import LIBC, VISITCTL, Stack, is_paused, segments, wait_for
from left_segments import unused_segments

SETTINGS = {"ring": {"lanes": 2, "lane_bytes": "64KiB"}, "flusher": {"flush_interval_ms": 600_000}}


def visitctl(*arguments: str) -> subprocess.CompletedProcess:
    """Without any instance's settings."""
    return subprocess.run([VISITCTL, *arguments], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


class Instances(unittest.TestCase):
    def stack(self, **options) -> Stack:
        return self.enterContext(Stack(frontends=1, shards=1, settings=SETTINGS, **options))

    def segments_of(self, stack: Stack) -> dict[str, int]:
        """Ring and cache of an instance by their ids."""
        return {segment["what"]: segment["shmid"] for segment in stack.status("ipcs")["segments"]}

    def there(self, ids: dict[str, int]) -> set[str]:
        living = {segment["shmid"] for segment in segments()}
        return {what for what, segment in ids.items() if segment in living}

    def end(self, stack: Stack) -> None:
        for name in [*stack.frontends, "flusher"]:
            stack.stop_one(name)

    def entries(self, ids: dict[str, int]) -> dict[str, dict]:
        listed = json.loads(visitctl("ipcs", "--all", "--json").stdout)["segments"]
        return {what: entry for what, segment in ids.items() for entry in listed if entry["shmid"] == segment}

    def leave_undurable_visits(self, stack: Stack) -> None:
        """All of an instance is killed with a visit in its lane that the flusher has not taken."""
        stack.pause("flusher")
        wait_for("the flusher is stopped", lambda: is_paused(stack.processes["flusher"].pid))
        stack.post("late")
        for name in [*stack.frontends, "flusher"]:
            stack.kill9(name)

    def test_one_of_two_is_removed_and_the_other_counts_on(self):
        ended, other = self.stack(), self.stack()
        for stack in (ended, other):
            stack.post("home")
            self.assertEqual(stack.get("home"), 1)
        ids = self.segments_of(ended)
        running = ended.visitctl("remove", "--yes", check=False)
        self.assertEqual(running.returncode, 1)
        for name in (*ended.frontends, "flusher"):
            self.assertIn(f"process {ended.processes[name].pid} (visit-", running.stderr)
        self.assertEqual(set(re.search(r": kill ([\d ]+)$", running.stderr.strip())[1].split()),
                         {str(ended.processes[name].pid) for name in (*ended.frontends, "flusher")})  # fmt: skip
        self.assertEqual((ended.get("home"), self.there(ids)), (1, {"ring", "cache"}))

        self.end(ended)
        unasked = ended.visitctl("remove", check=False)
        self.assertEqual(unasked.returncode, 1)
        self.assertIn("--yes", unasked.stderr)
        self.assertEqual(self.there(ids), {"ring", "cache"})
        self.assertTrue(ended.runtime_directory.exists())
        done = visitctl("remove", "--instance", f"{ended.runtime_directory}/", "--yes")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(str(ended.runtime_directory), done.stdout)
        self.assertEqual(self.there(ids), set())
        self.assertFalse(ended.runtime_directory.exists())
        self.assertTrue((ended.state_directory / "spool.db").exists())
        again = ended.visitctl("remove", "--yes", check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn("neither the runtime directory", again.stderr)

        other.post("home")
        self.assertEqual(other.get("home"), 2)
        # What was counted is in the spool and in Redis: started again, it goes on with it.
        ended.start_one("flusher")
        ended.start_one(ended.frontends[0])
        ended.wait_ready()
        self.assertEqual(ended.get("home"), 1)

    def test_the_state_goes_only_when_asked_and_not_with_visits_in_it(self):
        stack = self.stack()
        stack.post("home")
        self.assertEqual(stack.get("home"), 1)
        for name in ("flusher", *stack.frontends):  # killed: what is open stays in the spool
            wait_for("all is durable", lambda: all(f["undurable_bytes"] == 0 for f in stack.status()["frontends"]))
            stack.kill9(name)
        note = stack.runtime_directory / "note"
        note.write_text("not visitd's")
        refused = stack.visitctl("remove", "--state", "--yes", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("its spool holds 1 visits that Redis has not", refused.stderr)
        self.assertTrue((stack.state_directory / "spool.db").exists())
        elsewhere = visitctl("remove", "--instance", str(stack.runtime_directory), "--state", "--yes")
        self.assertEqual(elsewhere.returncode, 1)
        self.assertIn("--config", elsewhere.stderr)
        done = stack.visitctl("remove", "--state", "--discard-visits", "--yes")
        self.assertFalse(stack.state_directory.exists())
        # What somebody else put there stays, and is said.
        self.assertEqual([path.name for path in stack.runtime_directory.iterdir()], ["note"])
        self.assertIn(f"kept    {stack.runtime_directory}: holds files that are not visitd's", done.stdout)

    def test_visits_that_no_spool_holds_are_not_thrown_away_unasked(self):
        stack = self.stack()
        ids = self.segments_of(stack)
        self.leave_undurable_visits(stack)
        refused = stack.visitctl("remove", "--yes", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertRegex(refused.stderr, r"its ring holds \d+ bytes of visits that no spool is known to hold")
        self.assertEqual(self.there(ids), {"ring", "cache"})
        stack.visitctl("remove", "--yes", "--discard-visits")
        self.assertEqual(self.there(ids), set())

    def test_clean_takes_what_nobody_uses_and_keeps_what_holds_visits(self):
        living, stopped, left, holding = (self.stack() for _ in range(4))
        ids = {stack: self.segments_of(stack) for stack in (living, stopped, left, holding)}
        for stack in (living, stopped, left):
            stack.post("home")
            self.assertEqual(stack.get("home"), 1)
        self.end(stopped)
        self.end(left)
        self.leave_undurable_visits(holding)
        for stack in (left, holding):
            shutil.rmtree(stack.runtime_directory)

        for stack in ids:
            for entry in self.entries(ids[stack]).values():
                self.assertEqual(entry["runtime_directory"], str(stack.runtime_directory))
        # tests/run would say that they were left.
        unused = unused_segments()
        self.assertIn(f"of {left.runtime_directory}", unused[ids[left]["ring"]])
        self.assertLessEqual(set(ids[left].values()) | set(ids[stopped].values()), set(unused))
        self.assertFalse(set(ids[living].values()) & set(unused))
        text = visitctl("ipcs", "--all").stdout
        self.assertRegex(text, rf"ring +{ids[left]['ring']} .*{left.runtime_directory} +removes it")
        self.assertRegex(text, rf"ring +{ids[living]['ring']} .*keeps it: it is in use")
        done = visitctl("clean")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([self.there(ids[stack]) for stack in (living, stopped, left, holding)],
                         [{"ring", "cache"}, {"ring", "cache"}, set(), {"ring", "cache"}])  # fmt: skip
        self.assertIn(f"removed ring {ids[left]['ring']}", done.stdout)
        self.assertRegex(done.stdout, rf"kept    ring {ids[holding]['ring']} .*it holds \d+ bytes of visits")
        self.assertRegex(done.stdout, rf"kept    cache {ids[holding]['cache']} .*its ring is kept")
        self.assertIn(f"visitctl remove --instance {stopped.runtime_directory} ends it", done.stdout)
        living.post("home")
        self.assertEqual(living.get("home"), 2)

        # The visits come back: the ring is found though its runtime directory was removed.
        holding.runtime_directory.mkdir(mode=0o700)
        holding.start_one("flusher")
        holding.start_one(holding.frontends[0])
        holding.wait_ready()
        wait_for("the visit is counted", lambda: holding.shows("late", 1))

    def test_a_segment_of_another_version_is_kept(self):
        stack = self.stack()
        ids = self.segments_of(stack)
        self.end(stack)
        shutil.rmtree(stack.runtime_directory)
        LIBC.shmat.restype = ctypes.c_void_p
        address = LIBC.shmat(ids["ring"], None, 0)
        ctypes.memmove(address + 80, b"\xff" * 8, 8)  # the format of its records
        LIBC.shmdt(ctypes.c_void_p(address))
        done = visitctl("clean")
        self.assertEqual(self.there(ids), {"ring", "cache"})
        self.assertRegex(done.stdout, rf"kept    ring {ids['ring']} .*another version of visitd, so it may hold visits")

    @unittest.skipUnless(os.geteuid() == 0, "needs to become another user")
    def test_another_user_removes_nothing_and_is_told_what_it_cannot_see(self):
        stack = self.stack()
        ids = self.segments_of(stack)
        self.end(stack)
        shutil.rmtree(stack.runtime_directory)
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(VISITCTL), "clean"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env={})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"\d+ segments of other users may not be looked into: root sees all")
        self.assertEqual(self.there(ids), {"ring", "cache"})


if __name__ == "__main__":
    unittest.main()
