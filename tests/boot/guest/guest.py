"""What the tests inside of a booted Debian share: units, requests, and traffic that knows what it was promised."""

import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

PORT = 8000
PRIVATE_PORT = 8001  # health and metrics
FOLDER = Path(__file__).resolve().parent
KEPT = Path("/var/lib/visitd-boot-tests")  # on the disk: survives the reboot
EMULATED = "visitd.emulated" in Path("/proc/cmdline").read_text()
# What is promised is a second, on a machine that does nothing else (boot.py --here --strict). Beside other tests, or emulated, it takes
# what it takes, but not for ever.
LIMIT_S = float(os.environ.pop("VISITD_BOOT_LIMIT_S", 300))
TRIES = 5  # how often what takes longer is tried
WAIT_S = 300.0 if EMULATED else 30.0
SHARDS = {"redis_7070": 7070, "redis_7071": 7071}
FRONTENDS = ["visit-frontend@1.service", "visit-frontend@2.service"]
SERVICES = [*FRONTENDS, "visit-flusher.service", "visit-redis@7070.service", "visit-redis@7071.service"]
PACKAGES = {name: FOLDER / f"visitd-{name}.deb" for name in ("current", "following")}


def run(*words: str, limit_s: float = WAIT_S, check: bool = True) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=limit_s,
                          env=os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"})  # fmt: skip
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: ended with {done.returncode}: {done.stdout[-4000:]}")
    return done.stdout


def wait_for(what: str, condition, limit_s: float = WAIT_S, pause_s: float = 0.05):
    """The first true value of condition(). Fails, naming `what`, when there is none within the limit."""
    deadline = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {limit_s} s")
        time.sleep(pause_s)


def show(unit: str, *properties: str) -> dict[str, str]:
    out = run("systemctl", "show", unit, "--property", ",".join(properties))
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def main_pid(unit: str) -> int:
    return int(show(unit, "MainPID")["MainPID"])


def is_active(unit: str) -> bool:
    return show(unit, "ActiveState")["ActiveState"] == "active"


def journal(unit: str = "visit*", lines: int = 60) -> str:
    return run("journalctl", "--no-pager", "-b", "-o", "short-monotonic", "-n", str(lines), "-u", unit, check=False)


def documented(document: str, heading: str, language: str = "sh") -> str:
    """The first commands, or the first drop-in, below a heading of a document of docs/."""
    text = (FOLDER / "docs" / document).read_text()
    section = re.split(rf"^#+ {re.escape(heading)}$", text, maxsplit=1, flags=re.MULTILINE)[1]
    found = re.search(rf"^( *)```{language}\n(.*?)^ *```", section, re.MULTILINE | re.DOTALL)
    assert found, f"{document} has no {language} below: {heading}"
    return "".join(line.removeprefix(found[1]) for line in found[2].splitlines(keepends=True))


def do(document: str, heading: str) -> str:
    """Runs the commands that a document has below a heading; root needs no sudo."""
    return run("sh", "-ec", documented(document, heading).replace("sudo ", ""))


def status() -> dict:
    """What visitctl says; without shards where it cannot say."""
    try:
        return json.loads(run("visitctl", "--config", "/etc/visitd/visitd.toml", "status", "--json", check=False))
    except ValueError:
        return {"shards": []}


def wait_for_shards(*states: str) -> None:
    wait_for(f"both shards are {' or '.join(states)}",
             lambda: len(status().get("shards") or []) == 2 and all(shard["state"] in states for shard in status()["shards"]))  # fmt: skip


class Answer:
    def __init__(self, status: int, headers, body: bytes):
        self.status, self.headers, self.body = status, headers, body


def ask(method: str, path: str, body: bytes | None = None, port: int = PORT) -> Answer:
    """One request on a connection of its own. Raises OSError or HTTPException where no whole answer came."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def is_refused(port: int = PORT) -> bool:
    """Nobody listens at the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def post(page: str, visits: int = 1) -> None:
    for _ in range(visits):
        answer = ask("POST", f"/visit/{page}")
        assert answer.status == 200, f"POST /visit/{page}: {answer.status} {answer.body!r}"


def count(page: str) -> int | None:
    """None: not known just now."""
    try:
        answer = ask("GET", f"/visits/{page}")
    except (OSError, http.client.HTTPException):
        return None
    return json.loads(answer.body)["count"] if answer.status == 200 else None


def wait_for_count(page: str, expected: int) -> None:
    seen = []

    def reached() -> bool:
        seen.append(count(page))
        return seen[-1] == expected

    try:
        wait_for(f"{page} is read as {expected}", reached)
    except AssertionError as late:
        raise AssertionError(f"{late}; last read: {seen[-1]}\n{journal()}") from None


def redis_count(page: str) -> int:
    """What all shards hold of it, asked past visitd."""
    # One command a shard: every bucket of a deployment has a key.
    script = """
        local total = 0
        for _, key in ipairs(redis.call('keys', 'visits:{*}')) do
          total = total + (redis.call('hget', key, ARGV[1]) or 0)
        end
        return total"""
    return sum(int(run("redis-cli", "-p", str(port), "--raw", "eval", script, "0", page)) for port in SHARDS.values())


def flush() -> None:
    """Carries everything to Redis; a flusher that is starting again is waited for."""

    def done() -> bool:
        flushed = subprocess.run(["visitctl", "--config", "/etc/visitd/visitd.toml", "flush"], capture_output=True, timeout=WAIT_S)
        return flushed.returncode == 0

    wait_for("visitctl flush", done, pause_s=0.5)


class Traffic:
    """Visits to some pages, a connection each, while the host is being hurt. Leaving it, every count must be what was acknowledged, or
    more by at most what was never answered."""

    def __init__(self, name: str, pages: int = 3):
        self.pages = [f"{name}-{number}" for number in range(pages)]
        self.acknowledged = dict.fromkeys(self.pages, 0)
        self.unanswered = dict.fromkeys(self.pages, 0)
        self.refused_connections = 0
        self.not_taken: dict[str, int] = {}
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(page,)) for page in self.pages]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if kind is None:
            self.check()

    def _visit(self, page: str) -> None:
        while not self._ending.is_set():
            try:
                answer = ask("POST", f"/visit/{page}")
            except ConnectionRefusedError:
                self.refused_connections += 1  # nothing was sent
            except (OSError, http.client.HTTPException):
                self.unanswered[page] += 1
            else:
                if answer.status == 200:
                    self.acknowledged[page] += 1
                else:
                    reason = f"{answer.status} {answer.body[:200]!r}"
                    self.not_taken[reason] = self.not_taken.get(reason, 0) + 1
            time.sleep(0.01)

    @property
    def total(self) -> int:
        return sum(self.acknowledged.values())

    def wait_for_more(self, visits: int = 10) -> None:
        """Until so many more visits were acknowledged: traffic flows."""
        since = self.total
        wait_for(f"{visits} more visits", lambda: self.total >= since + visits)

    def check(self) -> None:
        assert self.total > 0, "no visit was acknowledged"
        for page in self.pages:
            least, most = self.acknowledged[page], self.acknowledged[page] + self.unanswered[page]
            seen = wait_for(f"{page} is read", lambda page=page: count(page))
            assert least <= seen <= most, f"{page} is read as {seen}; acknowledged {least}, never answered {most - least}\n{journal()}"
            self.acknowledged[page], self.unanswered[page] = seen, 0

    def check_redis(self) -> None:
        """And so it stands in Redis."""
        flush()
        for page in self.pages:
            held = redis_count(page)
            assert held == self.acknowledged[page], f"{page} is {held} in Redis and was read as {self.acknowledged[page]}\n{journal()}"


def remember(**values) -> None:
    """For the tests after the reboot."""
    KEPT.mkdir(exist_ok=True)
    (KEPT / "remembered.json").write_text(json.dumps(values))
    os.sync()


def remembered() -> dict:
    return json.loads((KEPT / "remembered.json").read_text())


def processes_of_visitd() -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if re.search(rb"/visit(-|ctl)|redis-server .*:707[01]", words[0]):
            found.append(f"{folder.name}: {b' '.join(words).decode(errors='replace')}")
    return found
