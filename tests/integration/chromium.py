"""Debian's Chromium, without a window."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
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


# The browser speaks with who drives it through its descriptors 3 and 4.
THROUGH_PIPES = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'


class Tab:
    """A page that this program drives: what a person would do in it is done by JavaScript."""

    def __init__(self, folder: str, *options: str):
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()
        argv = ["bash", "-c", THROUGH_PIPES, "bash", str(to_browser), str(from_browser),
                *words("about:blank", f"{folder}/profile", "--remote-debugging-pipe", "--hide-scrollbars", *options)]  # fmt: skip
        with open(f"{folder}/log", "wb") as said:
            self._browser = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                                             pass_fds=(to_browser, from_browser))  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._answers = os.fdopen(self._from, "rb")
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.tell("Page.enable")

    def tell(self, method: str, **parameters) -> dict:
        """One command of the DevTools protocol, and its result."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters} | ({"sessionId": self._session} if self._session else {})
        os.write(self._to, json.dumps(command).encode() + b"\0")
        while (message := self._next()).get("id") != self._number:
            pass
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def _next(self) -> dict:
        while b"\0" not in self._buffer:
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def size(self, width: int, height: int) -> None:
        self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def open(self, url: str) -> None:
        """Until the page is loaded."""
        self.tell("Page.navigate", url=url)
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str):
        """The inside of an async function. What it returns."""
        done = self.tell("Runtime.evaluate", expression=f"(async () => {{ {script} }})()", awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def picture(self) -> bytes:
        """What is seen, as PNG, without the window's empty end."""
        width, height = self.run("return [innerWidth, Math.min(innerHeight, Math.ceil(document.body.getBoundingClientRect().bottom))];")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode(self.tell("Page.captureScreenshot", format="png", clip=clip)["data"])

    def close(self) -> None:
        os.close(self._to)
        self._browser.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._browser.wait(END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._browser.pid, signal.SIGKILL)  # its children are of its session
        self._browser.wait(END_S)
        self._answers.close()


@contextlib.contextmanager
def tab(*options: str) -> Iterator[Tab]:
    with tempfile.TemporaryDirectory(prefix="visitd-tab-", ignore_cleanup_errors=True) as folder, contextlib.closing(Tab(folder, *options)) as opened:
        yield opened
