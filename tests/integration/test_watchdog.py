"""The watchdog of systemd is fed by progress: by a flusher whose turns end and whose commits come back, by a frontend whose loop turns."""

import os
import socket
import threading
import time
import unittest
from pathlib import Path

from harness import BUILD_ROOT, SANITIZER_REPORT, Stack, wait_for

# Of the watchdog: a unit has 10 s. Short, so that the test is; a frontend that has nothing to do turns once a second.
LIMIT_S = 2
LIMIT_OF_WAITS_S = 90
STUCK_DISK = BUILD_ROOT / "tests/integration/libstuck_disk.so"


class Manager:
    """systemd's end of the notify socket of one process."""

    def __init__(self, folder: Path, name: str):
        self.path = folder / f"notify-{name}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(0.2)
        self._lock = threading.Lock()
        self._told: list[tuple[float, str]] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(LIMIT_S * 1_000_000)}

    def _receive(self) -> None:
        while not self._ending.is_set():
            try:
                message = self._socket.recv(4096).decode()
            except TimeoutError:
                continue
            with self._lock:
                self._told += [(time.monotonic(), line) for line in message.splitlines()]

    def told(self, what: str) -> list[float]:
        """When it was told so."""
        with self._lock:
            return [at for at, line in self._told if line == what]

    def is_fed(self, since: float, times: int = 3) -> bool:
        return len([at for at in self.told("WATCHDOG=1") if at > since]) >= times

    def would_bite(self) -> bool:
        """Whether there has been nothing for so long that systemd would have ended the process."""
        fed = self.told("WATCHDOG=1")
        return bool(fed) and time.monotonic() - fed[-1] > LIMIT_S

    def close(self) -> None:
        self._ending.set()
        self._thread.join(10)
        self._socket.close()


class Watchdog(unittest.TestCase):
    def setUp(self):
        self.stack = Stack(frontends=1, shards=1)
        self.addCleanup(self.stack.close)
        self.managers = {}
        for name in ("flusher", "frontend_1"):
            manager = self.managers[name] = Manager(self.stack.folder, name)
            self.addCleanup(manager.close)
            self.stack.processes[name].environment = self.stack.processes[name].environment | manager.environment()

    def test_a_working_stack_feeds_it_and_one_that_stands_still_does_not(self):
        self.stack.start()
        for name, manager in self.managers.items():
            with self.subTest(name):
                self.assertTrue(manager.told("READY=1"))
                wait_for(f"{name} feeds its watchdog while it has nothing to do", lambda m=manager: m.is_fed(0), LIMIT_OF_WAITS_S)
                self.stack.pause(name)
                wait_for(f"a paused {name} feeds none", manager.would_bite, LIMIT_OF_WAITS_S)
                self.stack.resume(name)
                since = time.monotonic()
                wait_for(f"{name} feeds it again", lambda m=manager, t=since: m.is_fed(t), LIMIT_OF_WAITS_S)

    def test_a_flusher_is_ready_and_feeds_it_while_there_is_no_ring(self):
        # The frontends' start is ordered after it, so that one that waited for them would wait for ever.
        self.stack.start_one(self.stack.shards[0].name)
        self.stack.start_one("flusher")
        manager = self.managers["flusher"]
        wait_for("the flusher is ready", lambda: manager.told("READY=1"), LIMIT_OF_WAITS_S)
        wait_for("it feeds its watchdog", lambda: manager.is_fed(0), LIMIT_OF_WAITS_S)

    def test_a_frontend_that_cannot_look_at_its_ring_starves_it_though_its_loop_turns(self):
        self.stack.start()
        manager = self.managers["frontend_1"]
        wait_for("it feeds its watchdog", lambda: manager.is_fed(0), LIMIT_OF_WAITS_S)
        folder, aside = self.stack.runtime_directory, self.stack.runtime_directory.with_name("aside")
        folder.rename(aside)
        folder.symlink_to(folder)  # whoever looks at a file in it finds neither it nor that it is gone
        try:
            wait_for("the watchdog would end it", manager.would_bite, LIMIT_OF_WAITS_S)
            self.assertEqual(self.stack.post("home").status, 200)
            self.assertTrue(manager.would_bite())
        finally:
            folder.unlink()
            aside.rename(folder)
        since = time.monotonic()
        wait_for("it is fed again once it can look", lambda: manager.is_fed(since), LIMIT_OF_WAITS_S)

    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "nothing can be loaded before the sanitizer")
    def test_a_flusher_whose_commit_does_not_come_back_starves_it_though_its_loop_turns(self):
        stuck = self.stack.folder / "stuck"
        flusher, manager = self.stack.processes["flusher"], self.managers["flusher"]
        flusher.environment = flusher.environment | {"LD_PRELOAD": str(STUCK_DISK), "STUCK_DISK_FILE": str(stuck)}
        self.stack.start()
        stuck.touch()
        self.stack.post("home")
        wait_for("the watchdog would end it", manager.would_bite, LIMIT_OF_WAITS_S)
        # Its loop goes on all the same: only that asks a shard for a page that nobody has asked for.
        wait_for("a page that is not in the cache is read", lambda: self.stack.read("another").status == 200, LIMIT_OF_WAITS_S)
        self.assertTrue(manager.would_bite())
        stuck.unlink()
        since = time.monotonic()
        wait_for("a disk that comes back is fed for", lambda: manager.is_fed(since), LIMIT_OF_WAITS_S)
        self.assertNotRegex(flusher.text(), SANITIZER_REPORT)


if __name__ == "__main__":
    unittest.main()
