"""What surrounds the programs is wrong: each says what it is and what to do about it, loses nothing, and goes on once it is put right."""

import contextlib
import os
import re
import struct
import subprocess
import unittest

from harness import BUILD_ROOT, LIBC, Stack, Traffic, fill, mounted, segments, wait_for

SHIFTED_CLOCK = BUILD_ROOT / "tests/crash/libshifted_clock.so"
DAY_S = 86_400
# Users and a group of no system: numbers are enough.
FRONTEND_USER, FLUSHER_USER, GROUP, OTHER_USER, OTHER_GROUP = 64_601, 64_602, 64_600, 64_603, 64_604
LIMIT_S = 30


def wait_for_log(stack: Stack, name: str, *texts: str) -> None:
    for text in texts:
        wait_for(f"{name} says {text!r}", lambda text=text: text in stack.processes[name].text(), LIMIT_S)


def as_user(user: int, group: int, argv: list[str]) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *argv]


def prepared(**arguments):
    """A stack of which nothing runs yet but its shards."""
    return Stack(**arguments).only_servers()


class WallClock(unittest.TestCase):
    def test_it_jumps_forward_and_back_under_load(self):
        with prepared(frontends=2, settings={"flusher": {"keep_batches_s": 600}, "cache": {"ttl_ms": 500}},
                      redis_arguments=("--appendfsync", "always")) as stack:  # fmt: skip
            shift = stack.folder / "shift"
            shift.write_bytes(struct.pack("q", 0))

            def set_shift(seconds: int) -> None:
                with open(shift, "r+b", buffering=0) as file:
                    file.write(struct.pack("q", seconds))

            for name in ("flusher", *stack.frontends):
                stack.preload(name, SHIFTED_CLOCK, SHIFTED_CLOCK_FILE=str(shift))
                stack.start_one(name)
            stack.wait_ready(LIMIT_S)

            traffic = Traffic(stack, clients=4, readers=2, pages=20).start()
            wait_for("batches are kept", lambda: kept_and_answered(stack)[0] > 5, LIMIT_S)
            for seconds, said in ((DAY_S, "the wall clock went forward by 8"), (-30 * DAY_S, "the wall clock went back by 26")):
                before = kept_and_answered(stack)[0]
                set_shift(seconds)
                wait_for_log(stack, "flusher", said)
                counted = traffic.acknowledged.total()
                wait_for("visits are counted", lambda counted=counted: traffic.acknowledged.total() > counted + 200, LIMIT_S)

                def answered_more(before=before, former=kept_and_answered(stack)[1]) -> bool:
                    kept, answered = kept_and_answered(stack)
                    # None of those kept so far was taken to be old.
                    return answered > former and kept >= max(before, answered)

                wait_for("every answered batch is kept", answered_more, LIMIT_S)
                lives = stack.processes["flusher"].text().count("pending pages of ring segment")
                stack.kill9("flusher")
                stack.start_one("flusher")
                wait_for("the next life has begun",
                         lambda lives=lives: stack.processes["flusher"].text().count("pending pages of ring segment") > lives)  # fmt: skip

                def kept_from_before(before=before) -> bool:
                    kept, answered = kept_and_answered(stack)
                    return answered > 0 and kept >= before + answered

                wait_for("the next life keeps them too", kept_from_before, LIMIT_S)
            traffic.stop()
            traffic.check()


def kept_and_answered(stack: Stack) -> tuple[int, int]:
    """Batches that the spool keeps, and those that were answered in this life of the flusher; (0, 0) where nobody tells."""
    text = stack.ask("GET", "/metrics").body.decode()
    kept, answered = (re.search(rf"^visitd_flusher_{name} (\d+)", text, re.MULTILINE) for name in ("kept_batches", "batches_answered_total"))
    return (int(kept[1]), int(answered[1])) if kept and answered else (0, 0)


class FullRuntimeDirectory(unittest.TestCase):
    def test_who_runs_goes_on_and_who_starts_says_what_to_do(self):
        with prepared(frontends=2) as stack, mounted(stack.runtime_directory, "size=128k,nr_inodes=64"):
            try:
                stack.start_one("flusher")
                stack.start_one("frontend_1")
                wait_for("it counts", lambda: stack.read("home").status == 200, LIMIT_S)
                stack.post("home")
                ballast = fill(stack.runtime_directory)
                stack.post("home")
                stack.wait_for_redis({"home": 2})
                # The settings want another cache, whose name cannot be written down.
                before = {segment["shmid"] for segment in segments()}
                stack.settings["cache"]["entries"] = 100
                stack.write_settings()
                stack.stop_one("flusher")
                stack.start_one("flusher")
                self.assertEqual(stack.processes["flusher"].running.wait(LIMIT_S), 1)
                wait_for_log(stack, "flusher", f"{stack.runtime_directory}/cache cannot be written; the file system of ",
                             "is full: make room there")  # fmt: skip
                mine = {segment["shmid"] for segment in segments() if segment["cpid"] == stack.processes["flusher"].pid}
                self.assertEqual(mine - before, set(), "a cache that nobody can find was left behind")
                stack.post("home")
                ballast.unlink()
                stack.start_one("flusher")
                stack.wait_for_redis({"home": 3})
                # No more files: a new frontend cannot make its doorbell.
                for number in range(100):
                    try:
                        (stack.runtime_directory / f"file-{number}").touch()
                    except OSError:
                        break
                else:
                    self.fail("there is no end of files")
                stack.start_one("frontend_2")
                self.assertEqual(stack.processes["frontend_2"].running.wait(LIMIT_S), 1)
                wait_for_log(stack, "frontend_2", "is full: make room there")
                for number in range(100):
                    (stack.runtime_directory / f"file-{number}").unlink(missing_ok=True)
                stack.start_one("frontend_2")
                wait_for("it serves", lambda: stack.listens(stack.processes["frontend_2"].pid), LIMIT_S)
            finally:
                end_all(stack)


def end_all(stack: Stack) -> None:
    """Before what they use is unmounted."""
    for process in stack.processes.values():
        process.wanted = False
        if process.alive:
            process.running.kill()
            process.running.wait()


class FullStateDirectory(unittest.TestCase):
    def test_a_flusher_that_starts_says_what_to_do_and_goes_on_when_there_is_room(self):
        with prepared(frontends=1) as stack, mounted(stack.state_directory, "size=1m"):
            try:
                ballast = fill(stack.state_directory)
                stack.start_one("flusher")
                self.assertEqual(stack.processes["flusher"].running.wait(LIMIT_S), 1)
                wait_for_log(stack, "flusher", "spool.db: the disk is full; the file system of ", "make room there (df ")
                stack.start_one("frontend_1")
                wait_for("visits are taken", lambda: stack.ask("POST", "/visit/home").status == 200, LIMIT_S)
                ballast.unlink()
                stack.start_one("flusher")
                stack.wait_for_redis({"home": 1})
                fill(stack.state_directory)
                stack.post("home")
                wait_for_log(stack, "flusher", "make room there (df ", "visits wait in the lanes, and are refused once those are full")
                self.assertEqual(stack.get("home"), 2)
                (stack.state_directory / "ballast").unlink()
                stack.wait_for_redis({"home": 2})
                wait_for_log(stack, "flusher", "the spool has room again")
            finally:
                end_all(stack)


class Users(unittest.TestCase):
    """Frontends and flusher are different users of one group."""

    @contextlib.contextmanager
    def two_users(self, flusher_group: int = GROUP):
        with prepared(frontends=1) as stack:
            stack.folder.chmod(0o755)
            stack.settings_file.chmod(0o644)
            os.chown(stack.runtime_directory, FRONTEND_USER, GROUP)
            stack.runtime_directory.chmod(0o2770)
            os.chown(stack.state_directory, FLUSHER_USER, flusher_group)
            for name, user, group in (("frontend_1", FRONTEND_USER, GROUP), ("flusher", FLUSHER_USER, flusher_group)):
                process = stack.processes[name]
                process.argv = as_user(user, group, process.argv)
            yield stack

    def test_two_users_of_one_group_count(self):
        with self.two_users() as stack:
            stack.start_one("flusher")
            stack.start_one("frontend_1")
            wait_for("a count can be read", lambda: stack.read("home").status == 200, LIMIT_S)
            stack.post("home")
            stack.wait_for_redis({"home": 1})

    def test_a_flusher_that_is_not_in_the_group_says_so(self):
        with self.two_users(OTHER_GROUP) as stack:
            stack.start_one("frontend_1")
            wait_for("visits are taken", lambda: stack.ask("POST", "/visit/home").status == 200, LIMIT_S)
            stack.start_one("flusher")
            self.assertEqual(stack.processes["flusher"].running.wait(LIMIT_S), 1)
            wait_for_log(stack, "flusher", f"belongs to user {FRONTEND_USER} and group {GROUP}, mode",
                         f"this process is user {FLUSHER_USER} of the groups {OTHER_GROUP}")
            # The runtime directory lets it in by mistake: the ring does not.
            stack.runtime_directory.chmod(0o777)
            for file in stack.runtime_directory.iterdir():
                file.chmod(0o666)
            stack.start_one("flusher")
            self.assertEqual(stack.processes["flusher"].running.wait(LIMIT_S), 1)
            ring = int((stack.runtime_directory / "rings").read_text().split()[1])
            wait_for_log(stack, "flusher", f"shared memory segment {ring} cannot be looked at; it belongs to user {FRONTEND_USER} and group {GROUP}")
            # In the group it counts what was recorded meanwhile.
            os.chown(stack.state_directory, FLUSHER_USER, GROUP)
            process = stack.processes["flusher"]
            process.argv = as_user(FLUSHER_USER, GROUP, process.argv[4:])
            stack.start_one("flusher")
            stack.wait_for_redis({"home": 1})

    def test_a_segment_that_belongs_to_somebody_else_is_named_with_its_owner(self):
        with self.two_users() as stack:
            # As if the frontend had once been started by hand, as another user of the group.
            process = stack.processes["frontend_1"]
            right = process.argv
            process.argv = as_user(OTHER_USER, GROUP, right[4:])
            stack.start_one("frontend_1")
            wait_for("visits are taken", lambda: stack.ask("POST", "/visit/home").status == 200, LIMIT_S)
            stack.kill9("frontend_1")
            process.argv = right
            stack.start_one("frontend_1")
            self.assertEqual(process.running.wait(LIMIT_S), 1)
            ring = int((stack.runtime_directory / "rings").read_text().split()[1])
            wait_for_log(stack, "frontend_1", f"shared memory segment {ring} cannot be attached read-write",
                         f"it belongs to user {OTHER_USER} and group {GROUP}, mode")
            # What docs/operate.md says to do: run as that user until all is flushed, then remove it.
            stack.start_one("flusher")
            stack.wait_for_redis({"home": 1})
            LIBC.shmctl(ring, 0, None)
            # The flusher lets go of it within a second; until then the frontend cannot start, and is started again.
            stack.supervise()
            process.wanted = True
            wait_for("visits are taken", lambda: stack.ask("POST", "/visit/home").status == 200, LIMIT_S)
            stack.wait_for_redis({"home": 2})


class SmallSharedMemory(unittest.TestCase):
    """In an IPC namespace of its own, whose limits are its own too."""

    def start(self, stack: Stack, limit: str, value: int) -> str:
        """What a frontend says there that cannot start."""
        argv = stack.processes["frontend_1"].argv
        script = f'echo {value} > /proc/sys/kernel/{limit} && exec "$@"'
        done = subprocess.run(["unshare", "--ipc", "--fork", "--kill-child", "sh", "-c", script, "sh", *argv],
                              capture_output=True, text=True, timeout=60, env=stack.processes["frontend_1"].environment)  # fmt: skip
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr

    def test_shmmax(self):
        with prepared(frontends=1, shards=0) as stack:
            said = self.start(stack, "shmmax", 1_000_000)
            self.assertIn("kernel.shmmax is 1000000: raise it (sysctl -w kernel.shmmax=", said)
            self.assertIn("ring.lane_bytes", said)
            needed = int(said.split("kernel.shmmax=")[1].split(",")[0])
            self.assertGreater(needed, 4 << 20)
            self.assertEqual(list(stack.runtime_directory.glob("rings*")), [])

    def test_shmall(self):
        with prepared(frontends=1, shards=0) as stack:
            said = self.start(stack, "shmall", 100)
            self.assertIn("kernel.shmall (100 pages of 4096 bytes)", said)
            self.assertIn("ipcrm -m", said)


if __name__ == "__main__":
    unittest.main()
