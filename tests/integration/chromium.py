"""Debian's Chromium, without a window."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

LIMIT_S = 120
# It runs as root, and speaks to nobody but the page.
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
           "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
# Of the page's clock: what its scripts still wait for then does not show.
PAGE_TIME_MS = 10000
END_S = 20


def words(url: str, profile: str, *options: str) -> list[str]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed"
    return [chromium, *OPTIONS, f"--user-data-dir={profile}", *options, url]


def show(url: str, profile: str, *options: str) -> subprocess.CompletedProcess:
    """Opens a page. stdout: its document after its scripts have run; stderr: what the browser said. `profile`: a folder for it."""
    argv = words(url, profile, *options, f"--virtual-time-budget={PAGE_TIME_MS}", "--dump-dom")
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S)


@contextlib.contextmanager
def browsing(url: str, profile: str, log: Path, *options: str) -> Iterator[subprocess.Popen]:
    """Opens a page and stays, in the time of the clock on the wall, while the block runs: a page may go to another one. It tells by requests
    what it sees. `log`: a file for what the browser says."""
    with open(log, "wb") as said:
        # A port for a debugger is what makes it stay; nobody asks there.
        browser = subprocess.Popen(words(url, profile, "--remote-debugging-port=0", *options), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                   start_new_session=True)  # fmt: skip
    try:
        yield browser
    finally:
        browser.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            browser.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)  # its children are of its session
        browser.wait(END_S)
