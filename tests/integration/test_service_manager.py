#!/usr/bin/env python3
"""What the programs do for systemd, without one: their log in its journal, a reload by their own hand, and the pace of restarts.

tests/boot tries the same under systemd itself.
"""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from harness import FLUSHER, FRONTEND, Stack, wait_for

PAUSE_S = 5
LIMIT_S = 60


def journal_of(pipe: int) -> dict[str, str]:
    """As systemd names a stream that leads to the journal."""
    there = os.fstat(pipe)
    return os.environ | {"JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}


def said_to_journal(*command: str | Path) -> tuple[int, list[str]]:
    """How it ended, and the lines that it wrote to what it must take for the journal."""
    reading, writing = os.pipe()
    try:
        done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writing,
                              env=journal_of(writing), timeout=LIMIT_S)  # fmt: skip
    finally:
        os.close(writing)
    with open(reading, encoding="utf-8") as lines:
        return done.returncode, lines.read().splitlines()


def unit_command(*command: str | Path) -> list[str]:
    """The command, as systemd itself would have started it."""
    return ["sh", "-c", f"SYSTEMD_EXEC_PID=$$ exec {shlex.join(str(word) for word in command)}"]


class InJournal(unittest.TestCase):
    def test_a_line_has_its_priority_in_place_of_time_and_name(self):
        with Stack(frontends=1, shards=1) as stack:
            reading, writing = os.pipe()
            self.addCleanup(os.close, reading)
            second = subprocess.Popen([FRONTEND, "--config", stack.settings_file], stdin=subprocess.DEVNULL, stderr=writing, env=journal_of(writing))
            os.close(writing)
            # The flusher of this runtime directory runs: another one is refused.
            refused, lines = said_to_journal(FLUSHER, "--config", stack.settings_file)
            self.assertEqual(refused, 1)
            self.assertRegex(lines[-1], r"^<3>\S")
            self.assertEqual([line for line in lines if not re.match(r"<[3467]>[^\[\]]*$", line)], [])
            first = os.read(reading, 4096).decode().splitlines()[0]
            second.send_signal(signal.SIGTERM)
            second.wait(LIMIT_S)
            self.assertRegex(first, r"^<6>serving as lane \d+")

    def test_so_has_the_reason_for_which_a_program_does_not_start(self):
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder, "visitd.toml")
            settings.write_text("[ring]\nlanes = 0\n")
            ended, lines = said_to_journal(FRONTEND, "--config", settings)
        self.assertEqual(ended, 2)
        self.assertEqual(len(lines), 1)
        self.assertRegex(lines[0], r"^<3>.*lanes")

    def test_a_stream_that_is_not_the_journals_has_time_and_name(self):
        with tempfile.TemporaryDirectory() as folder, Stack(frontends=1, shards=1) as stack:
            log = Path(folder, "log")
            with open(log, "wb") as file:
                # The journal's stream is another one: somebody redirected this one.
                subprocess.run([FLUSHER, "--config", stack.settings_file], stdin=subprocess.DEVNULL, stderr=file,
                               env=os.environ | {"JOURNAL_STREAM": "1:1"}, timeout=LIMIT_S)  # fmt: skip
            self.assertRegex(log.read_text().splitlines()[-1], r"^\d{4}-\d\d-\d\dT\S+ visit-flusher\[\d+\] error: ")


class Reload(unittest.TestCase):
    def reload(self, program: Path, stack: Stack, pid: int) -> subprocess.CompletedProcess:
        return subprocess.run([program, "--config", stack.settings_file, "--reload", str(pid)], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=LIMIT_S)  # fmt: skip

    def test_a_program_lets_a_running_one_read_its_settings_again(self):
        with Stack(frontends=1, shards=1) as stack:
            stack.settings.setdefault("http", {})["retry_after_s"] = 7
            stack.settings.setdefault("redis", {})["held_recheck_ms"] = 777
            stack.write_settings()
            for name, program, key in (("frontend_1", FRONTEND, "http.retry_after_s"), ("flusher", FLUSHER, "redis.held_recheck_ms")):
                done = self.reload(program, stack, stack.processes[name].pid)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
                wait_for(f"{name} read {key}", lambda name=name, key=key: key in stack.processes[name].text())

    def test_with_wrong_settings_it_says_so_and_signals_nobody(self):
        with Stack(frontends=1, shards=1) as stack:
            stack.settings.setdefault("ring", {})["lanes"] = 0
            stack.write_settings()
            done = self.reload(FRONTEND, stack, stack.processes["frontend_1"].pid)
            self.assertEqual(done.returncode, 2)
            self.assertIn("lanes", done.stderr)
            time.sleep(0.5)
            self.assertNotIn("again", stack.processes["frontend_1"].text())

    def test_a_process_that_is_not_there_is_named(self):
        with Stack(frontends=1, shards=1) as stack:
            gone = subprocess.Popen(["true"])
            gone.wait(LIMIT_S)
            for pid in (gone.pid, 0, -1):
                done = self.reload(FRONTEND, stack, pid)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(str(pid), done.stderr)


class Elsewhere(unittest.TestCase):
    def test_a_shard_of_another_host_that_a_unit_cannot_reach_is_told_with_what_may_keep_it_back(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        settings = folder / "visitd.toml"
        settings.write_text(
            f'[paths]\nruntime_directory = "{folder}/run"\nstate_directory = "{folder}/state"\n'
            '[redis]\ntimeout_ms = 1000\nshards = ["there=redis://no-such-host.invalid:7070", "here=redis://127.0.0.1:1"]\n')  # fmt: skip
        for name in ("run", "state"):
            (folder / name).mkdir(mode=0o700)
        made = subprocess.run([FRONTEND, "--config", settings, "--prepare"], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
        self.assertEqual(made.returncode, 0, made.stderr)
        log = folder / "log"
        with open(log, "wb") as file:
            flusher = subprocess.Popen(unit_command(FLUSHER, "--config", settings), stdin=subprocess.DEVNULL, stderr=file)
        try:
            wait_for("both shards are down", lambda: all(f"shard {name} is down" in log.read_text() for name in ("there", "here")))
        finally:
            flusher.terminate()
            flusher.wait(LIMIT_S)
            for notes in (folder / "run/rings", folder / "run/cache"):
                for segment in notes.read_text().split()[1::2] if notes.exists() else []:
                    subprocess.run(["ipcrm", "--shmem-id", segment], check=False)
        said = {name: next(line for line in log.read_text().splitlines() if f"shard {name} is down" in line) for name in ("there", "here")}
        self.assertIn("IPAddressAllow=", said["there"])
        self.assertNotIn("IPAddressAllow=", said["here"])


class Pace(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.settings = self.folder / "visitd.toml"

    def write(self, text: str) -> Path:
        self.settings.write_text(text)
        return self.settings

    def took_s(self, command: list, ending: int) -> float:
        before = time.monotonic()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
        self.assertEqual(done.returncode, ending, done.stderr)
        self.assertNotEqual(done.stderr, "")
        return time.monotonic() - before

    def test_what_fails_as_a_unit_ends_after_a_pause_and_at_once_by_hand(self):
        wrong = [FRONTEND, "--config", self.write("[ring]\nlanes = 0\n"), "--check-config"]
        self.assertLess(self.took_s(wrong, 2), PAUSE_S)
        self.assertGreaterEqual(self.took_s(unit_command(*wrong), 2), PAUSE_S)
        # Who asks for a reload is told at once.
        self.assertLess(self.took_s(unit_command(*wrong[:3], "--reload", "1"), 2), PAUSE_S)
        # Settings are right, and the folder cannot be used.
        (self.folder / "file").write_text("")
        unusable = [FLUSHER, "--config", self.write(f'[paths]\nruntime_directory = "{self.folder}/file"\nstate_directory = "{self.folder}/state"\n')]
        self.assertLess(self.took_s(unusable, 1), PAUSE_S)
        self.assertGreaterEqual(self.took_s(unit_command(*unusable), 1), PAUSE_S)

    def test_a_stop_waits_for_no_pause(self):
        command = unit_command(FRONTEND, "--config", self.write("[ring]\nlanes = 0\n"))
        pausing = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.assertIn(b"lanes", pausing.stderr.readline())
        before = time.monotonic()
        pausing.send_signal(signal.SIGTERM)
        pausing.wait(LIMIT_S)
        pausing.stderr.close()
        self.assertLess(time.monotonic() - before, PAUSE_S - 1)


if __name__ == "__main__":
    unittest.main()
