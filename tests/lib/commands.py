"""Commands, run at once or beside others: compilers and the checks of the sources run while tests wait."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """In the root of the tree."""
    return subprocess.run([str(word) for word in command], cwd=ROOT, stdin=subprocess.DEVNULL, **options)


def read(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """The same, with all that it says. Of work that is done beside other work, it gives way to all other processes."""
    if threading.current_thread() is not threading.main_thread():
        options |= {"preexec_fn": give_way, "start_new_session": True}
    return run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def give_way() -> None:
    """Of a process that is about to begin: it gets what all others leave of the processors, and ends with the thread that started it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # A kernel that groups processes by session shares the time out among sessions first.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


class Beside:
    """Does this work, in this order, beside what this thread does: compilers run while tests wait."""

    def __init__(self, *work: Callable[[], object]):
        self.results = [Future() for _ in work]
        # It ends with the program, and what it started with it.
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: tuple[Callable[[], object], ...]) -> None:
        for one, result in zip(work, self.results):
            try:
                result.set_result(one())
            except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
                result.set_exception(error)
