"""Debian's Chromium, without a window."""

import shutil
import subprocess

LIMIT_S = 120
# It runs as root, and speaks to nobody but the page.
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
           "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
# Of the page's clock: what its scripts still wait for then does not show.
PAGE_TIME_MS = 10000


def show(url: str, profile: str, *options: str) -> subprocess.CompletedProcess:
    """Opens a page. stdout: its document after its scripts have run; stderr: what the browser said. `profile`: a folder for it."""
    chromium = shutil.which("chromium")
    assert chromium, "chromium is not installed"
    words = [chromium, *OPTIONS, f"--user-data-dir={profile}", *options, f"--virtual-time-budget={PAGE_TIME_MS}", "--dump-dom", url]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
