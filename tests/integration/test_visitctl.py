"""visitctl on a live, an idle, a stopped, a dead and a corrupt instance: right answers or clear errors, never a crash."""

import ctypes
import os
import subprocess
import unittest

from harness import LIBC, VISITCTL, Stack, Traffic, wait_for

SETTINGS = {"ring": {"lanes": 4, "lane_bytes": "1MiB"}, "flusher": {"flush_interval_ms": 600_000}}
COMMANDS = (["status"], ["lanes"], ["peek"], ["page", "home"], ["refusals", "--measure", "0.1"], ["ipcs"])


class Visitctl(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(settings=SETTINGS))

    def look_at_all(self) -> dict[str, int]:
        """Runs every command that looks, as text and as JSON; their exit statuses."""
        statuses = {}
        for command in COMMANDS:
            text = self.stack.visitctl(*command, check=False)
            json = self.stack.visitctl(*command, "--json", check=False)
            self.assertIn(text.returncode, (0, 1), (command, text))
            self.assertEqual(text.returncode, json.returncode, (command, text, json))
            self.assertNotEqual(text.stdout + text.stderr, "", command)
            statuses[command[0]] = text.returncode
        return statuses

    def processes(self) -> dict[str, str]:
        status = self.stack.status()
        running = {f"frontend at lane {frontend['lane']}": frontend["process"] for frontend in status["frontends"]}
        return {"flusher": status["flusher"]["process"], **running}

    def overwrite(self, offset: int, noise) -> None:
        """Writes what `noise` makes of the bytes that are left into both segments."""
        LIBC.shmat.restype = ctypes.c_void_p
        for segment in self.stack.status("ipcs")["segments"]:
            address = LIBC.shmat(segment["shmid"], None, 0)
            bytes_ = noise(segment["bytes"] - offset)
            ctypes.memmove(address + offset, bytes_, len(bytes_))
            LIBC.shmdt(ctypes.c_void_p(address))

    def test_a_live_instance(self):
        for _ in range(5):
            self.stack.post("home")
        self.assertEqual(self.stack.get("home"), 5)
        status = self.stack.status()
        pids = {self.stack.processes[name].pid for name in self.stack.frontends}
        self.assertEqual({frontend["pid"] for frontend in status["frontends"]}, pids)
        self.assertEqual(set(self.processes().values()), {"running"})
        self.assertEqual(status["flusher"]["pid"], self.stack.processes["flusher"].pid)
        self.assertEqual({shard["state"] for shard in status["shards"]}, {"up"})
        self.assertEqual(status["spool"]["pending_visits"], 5)
        self.assertIsNone(status["last_flush_age_ms"])

        page = self.stack.status("page", "home")
        self.assertEqual((page["count"], page["open"], page["base"], page["redis"]["count"]), (5, 5, 0, 0))
        flushed = self.stack.status("flush")
        self.assertEqual(flushed["visits"], 5)
        page = self.stack.status("page", "home")
        self.assertEqual((page["count"], page["open"], page["inflight"], page["redis"]["count"]), (5, 0, 0, 5))
        self.assertEqual(self.stack.redis_places()["home"], (page["shard"], 5))
        self.assertIsNotNone(self.stack.status()["last_flush_age_ms"])

        segments = {segment["what"]: segment for segment in self.stack.status("ipcs")["segments"]}
        access = {what: {(process["pid"], process["access"]) for process in segment["attached"]} for what, segment in segments.items()}
        flusher = self.stack.processes["flusher"].pid
        self.assertEqual(access["ring"], {(flusher, "read-only")} | {(pid, "read-write") for pid in pids})
        self.assertEqual(access["cache"], {(flusher, "read-write")} | {(pid, "read-only") for pid in pids})
        for segment in segments.values():
            self.assertEqual((segment["nattch"], segment["attached_unseen"], segment["perms"]), (3, 0, "640"))
        self.assertEqual(set(self.look_at_all().values()), {0})
        refused = self.stack.visitctl("accept", "redis_none", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("redis_none", refused.stderr)

    def test_a_page_that_was_never_read_has_its_open_visits(self):
        for _ in range(3):
            self.stack.post("unread")
        wait_for("the visits are counted", lambda: self.stack.status("page", "unread")["redis"].get("open") == 3)
        page = self.stack.status("page", "unread")
        self.assertEqual((page["entry"], page["sum"], page["unapplied"]), (False, 3, 0))
        text = self.stack.visitctl("page", "unread").stdout
        self.assertIn("unread has 3 visits:", text)
        self.assertIn("3  counted by the flusher, and not sent yet", text)
        self.assertNotIn("field", text)
        self.stack.status("flush")
        self.assertIn("3  in Redis", self.stack.visitctl("page", "unread").stdout)

    def test_status_says_where_somebody_should_look(self):
        self.assertEqual(self.stack.visitctl("status", "--exit-code").returncode, 0)
        self.assertGreater(self.stack.status("status", "--measure", "0.1")["rates"]["measured_ms"], 0)
        self.stack.kill9("flusher")
        done = self.stack.visitctl("status", "--exit-code", check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("look at   the flusher is away: ended", done.stdout)

    @unittest.skipUnless(os.geteuid() == 0, "needs to become another user")
    def test_without_access_it_says_whose_the_directory_is(self):
        self.stack.post("home")
        self.stack.folder.chmod(0o755)
        self.stack.runtime_directory.chmod(0o700)
        for command in COMMANDS:
            argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(VISITCTL), *command]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                                  env={"VISITD_PATHS_RUNTIME_DIRECTORY": str(self.stack.runtime_directory)})  # fmt: skip
            self.assertEqual(done.returncode, 1, (command, done))
            self.assertIn("Permission denied", done.stderr)
            self.assertIn("belongs to user root and group root, mode 700; this process is user nobody of the groups nogroup", done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)

    def test_under_load_a_page_is_exact_at_every_look(self):
        traffic = Traffic(self.stack, clients=4, readers=0, pages=1).start()
        try:
            self.stack.get("page-0")
            looks = 0
            for _ in range(30):
                before = traffic.acknowledged["page-0"]
                page = self.stack.status("page", "page-0")
                if page["count"] is None:
                    continue  # its entry was just evicted, or is made anew
                self.assertGreaterEqual(page["count"], before)
                looks += 1
                self.assertLessEqual(page["count"], traffic.acknowledged["page-0"] + 4)
            self.assertGreater(looks, 10)
        finally:
            traffic.stop()

    def test_a_stopped_and_a_dead_flusher(self):
        self.stack.post("home")
        self.assertEqual(self.stack.get("home"), 1)
        self.stack.pause("flusher")
        try:
            wait_for("the flusher is halted", lambda: self.processes()["flusher"] == "halted")
            self.stack.post("home")
            page = self.stack.status("page", "home")
            self.assertEqual((page["count"], page["unapplied"]), (2, 1))
            records = [record["page"] for lane in self.stack.status("peek")["rings"][0]["lanes"] for record in lane["records"]]
            self.assertEqual(records, ["home"])
            refused = self.stack.visitctl("flush", "--timeout", "0.1", check=False)
            self.assertEqual(refused.returncode, 1)
            self.assertIn("does not answer", refused.stderr)
        finally:
            self.stack.resume("flusher")
        self.stack.kill9("flusher")
        self.stack.post("home")
        self.assertEqual(self.processes()["flusher"], "ended")
        page = self.stack.status("page", "home")
        self.assertEqual(page["count"], 3)
        self.assertEqual(page["redis"], {"error": "the flusher is away"})
        refused = self.stack.visitctl("flush", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("the flusher is away", refused.stderr)
        self.assertEqual(set(self.look_at_all().values()), {0})
        self.stack.restart("flusher")
        wait_for("the flusher flushes", lambda: self.stack.visitctl("flush", check=False).returncode == 0)
        self.stack.wait_for_redis({"home": 3})

    def test_a_dead_instance_and_no_segments(self):
        self.stack.post("home")
        for name in [*self.stack.frontends, "flusher"]:
            self.stack.kill9(name)
        self.assertEqual(set(self.processes().values()), {"ended"})
        self.assertEqual(set(self.look_at_all().values()), {0})
        for segment in self.stack.status("ipcs")["segments"]:
            LIBC.shmctl(segment["shmid"], 0, None)  # IPC_RMID
        statuses = self.look_at_all()
        self.assertEqual((statuses["status"], statuses["lanes"], statuses["page"]), (1, 1, 1))
        self.assertIn("no such segment", self.stack.visitctl("status", check=False).stderr)

    def test_a_corrupt_instance(self):
        self.stack.post("home")
        self.stack.get("home")
        for name in [*self.stack.frontends, "flusher"]:
            self.stack.kill9(name)
        # Behind the first 128 bytes, which say what it is and of what shape, anything.
        self.overwrite(128, os.urandom)
        self.look_at_all()
        self.overwrite(8, lambda _: b"\xff" * 8)  # the version of the layout
        statuses = self.look_at_all()
        self.assertEqual((statuses["status"], statuses["lanes"], statuses["page"]), (1, 1, 1))
        self.assertIn("another version of visitd", self.stack.visitctl("status", check=False).stderr)


if __name__ == "__main__":
    unittest.main()
