"""Processes that are kept running: each is started, found dead, and started again, at once at first and later where it dies
again and again. deploy/quickstart and the tests keep theirs with this."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Restarts:
    """How soon a process that died is started again."""

    at_once: int = 3  # so many quick deaths in a row make no pause
    quick_death_s: float = 5.0  # a life shorter than this ended in a quick death
    first_pause_s: float = 0.2  # doubled with each further quick death
    slowest_s: float = 10.0

    def pause_s(self, quick_deaths: int) -> float:
        if quick_deaths <= self.at_once:
            return 0.0
        return min(self.first_pause_s * 2.0 ** min(quick_deaths - self.at_once - 1, 30), self.slowest_s)


# However often it dies.
ALWAYS_AT_ONCE = Restarts(at_once=sys.maxsize)


@dataclass(frozen=True)
class Death:
    """The end of a process that was wanted, or not."""

    pid: int
    status: int
    pause_s: float  # until it is started again

    def text(self) -> str:
        return f"was killed by {signal.Signals(-self.status).name}" if self.status < 0 else f"ended with status {self.status}"


class Child:
    """One process, which appends what it says to `log`. It ends by the signal `orphaned` with the thread that started it."""

    def __init__(self, name: str, argv: list[str], log: Path, environment: dict[str, str], folder: Path,
                 orphaned: signal.Signals = signal.SIGTERM, restarts: Restarts = Restarts()):  # fmt: skip
        self.name, self.argv, self.log, self.environment, self.folder = name, argv, log, environment, folder
        self.pass_fds: tuple[int, ...] = ()  # what it inherits beside the standard streams
        self.running: subprocess.Popen | None = None  # the last one that was started, alive or not
        self.wanted = False  # it is started again when it dies
        self.starts = 0
        self.quick_deaths = 0  # in a row
        self._orphaned, self._restarts = orphaned, restarts
        self._started = 0.0
        self._told_dead = True
        self._start_at = 0.0

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.poll() is None

    @property
    def pid(self) -> int:
        assert self.running is not None, f"{self.name} was never started"
        return self.running.pid

    def text(self) -> str:
        """All that it said, over all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        assert not self.alive, f"{self.name} runs already"
        parent = os.getpid()

        def in_child() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, self._orphaned)
            if os.getppid() != parent:
                os._exit(1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

        with open(self.log, "ab") as log:
            # A session of its own: a terminal's Ctrl-C reaches the parent alone, which stops its children in order.
            self.running = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=self.environment,
                start_new_session=True, pass_fds=self.pass_fds, preexec_fn=in_child,
            )  # fmt: skip
        self.starts += 1
        self._started = time.monotonic()
        self._told_dead = False

    def death(self) -> Death | None:
        """Tells once that it died, and from then on when it is due."""
        if self._told_dead or self.alive:
            return None
        self._told_dead = True
        now = time.monotonic()
        lived = now - self._started
        self.quick_deaths = self.quick_deaths + 1 if lived < self._restarts.quick_death_s else 1
        death = Death(self.running.pid, self.running.returncode, self._restarts.pause_s(self.quick_deaths))
        self._start_at = now + death.pause_s
        return death

    def due_in_s(self) -> float | None:
        """How long until it is to be started again; None: it is not."""
        if not self.wanted or not self._told_dead or self.alive:
            return None
        return max(0.0, self._start_at - time.monotonic())
