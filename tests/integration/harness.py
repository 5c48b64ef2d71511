"""Real processes for tests: Redis shards, the flusher and frontends, in a folder and on ports of their own.

    with Stack(frontends=2, settings={"flusher": {"flush_interval_ms": 200}}) as stack:
        stack.post("home")
        stack.kill9("flusher")
        stack.restart("flusher")
        assert stack.get("home") == 1

Whatever a test does, leaving the block ends every process and removes the segments that they made; what they logged is printed
when the block is left with an exception. Needs Python 3.11 and nothing else.
"""

import atexit
import collections
import concurrent.futures
import contextlib
import ctypes
import fcntl
import functools
import http.client
import itertools
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
from pathlib import Path
from urllib.parse import quote

_TREE = Path(__file__).resolve().parents[2]
sys.path += [str(_TREE / "tests/lib"), str(_TREE / "deploy/lib")]

from project_files import BUILD_ROOT, SOURCE_ROOT  # noqa: E402, F401
from supervise import ALWAYS_AT_ONCE, Child  # noqa: E402

FRONTEND = BUILD_ROOT / "frontend/visit-frontend"
FLUSHER = BUILD_ROOT / "flusher/visit-flusher"
VISITCTL = BUILD_ROOT / "ctl/visitctl"
# Another one than this machine's, such as that of another Debian: tests/outside/test_servers.py.
REDIS_SERVER = shlex.split(os.environ.pop("VISITD_TEST_REDIS_SERVER", "redis-server"))

# How long a test waits for what should happen at once, before it says that it did not: this machine may stand still for seconds.
PATIENCE_S = 30.0

LIBC = ctypes.CDLL(None, use_errno=True)
SANITIZER_REPORT = re.compile(r"ERROR: (Address|Leak|Thread)Sanitizer|: runtime error: ")
# What a developer's environment must not change.
SETTING_VARIABLES = ("VISITD_", "REDIS_", "VIRTUAL_NODES", "BATCH_INTERVAL_SECONDS", "API_PREFIX", "DEBUG", "CREDENTIALS_DIRECTORY")

DEFAULTS = {
    "ring": {"lanes": 4, "lane_bytes": 1 << 20},
    # Limits of time are wider than a user's: what a busy machine delays is not what a test looks at, unless it says so.
    "cache": {"entries": 4096, "flusher_away_ms": 5000},
    "http": {"lookup_timeout_ms": 5000},
    "flusher": {"flush_interval_ms": 300, "commit_interval_ms": 50},
    "redis": {"timeout_ms": 10_000, "reconnect_interval_ms": 100},
}

_given_ports: set[int] = set()
PORTS_OF_A_TEST = 1000
_open_stacks: set["Stack"] = set()


@atexit.register
def _close_what_is_open() -> None:
    for stack in list(_open_stacks):
        stack.close()


# A test that is told to end, such as one that ran out of time, cleans up too.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@functools.cache
def _own_ports() -> tuple[range, socket.socket]:
    """Ports that no other test of this machine takes meanwhile, below those that the kernel hands out to outgoing connections, and
    what keeps them: a name that goes with this process."""
    for first in range(12000, 32000, PORTS_OF_A_TEST):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0visitd-test-ports-{first}")
        except OSError:
            name.close()
            continue
        return range(first, first + PORTS_OF_A_TEST), name
    raise RuntimeError("more tests run at once than there are ports for")


def free_port() -> int:
    """A TCP port that nobody uses; it stays free over a restart."""
    ports, _ = _own_ports()
    for _ in range(1000):
        port = random.choice(ports)
        if port in _given_ports:
            continue
        try:
            for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
                if family == socket.AF_INET6 and not has_ipv6():
                    continue
                with socket.socket(family, socket.SOCK_STREAM) as probe:
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((host, port))
        except OSError:
            continue
        _given_ports.add(port)
        return port
    raise RuntimeError("no free port was found in 1000 tries")


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def wait_for(what: str, condition, limit_s: float = PATIENCE_S, pause_s: float = 0.01):
    """The first true value of condition(). Fails, naming `what`, when there is none within the limit."""
    deadline = time.monotonic() + limit_s
    while True:
        begun = time.monotonic()
        value = condition()
        if value:
            return value
        now = time.monotonic()
        if now > deadline:
            raise AssertionError(f"{what}: not within {limit_s} s")
        # What takes long to ask, such as a program that has to be started, leaves the processors to others as long.
        time.sleep(max(pause_s, min(now - begun, 0.5)))


class Redis:
    """A client of one Redis server, no more than tests need. Strings come back as str, with surrogates for odd bytes."""

    def __init__(self, port: int, timeout_s: float = PATIENCE_S):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __call__(self, *words):
        return self.pipeline([words])[0]

    def pipeline(self, commands) -> list:
        """Sends all commands at once. An error reply is raised after all replies were read."""
        out = bytearray()
        for words in commands:
            out += b"*%d\r\n" % len(words)
            for word in words:
                data = word if isinstance(word, bytes) else str(word).encode(errors="surrogateescape")
                out += b"$%d\r\n%s\r\n" % (len(data), data)
        self._socket.sendall(out)
        replies = [self._reply() for _ in commands]
        for reply in replies:
            if isinstance(reply, RuntimeError):
                raise reply
        return replies

    def _reply(self):
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the Redis connection was closed")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return RuntimeError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if rest == b"-1":
                return None
            return self._file.read(int(rest) + 2)[:-2].decode(errors="surrogateescape")
        if kind == b"*":
            return None if rest == b"-1" else [self._reply() for _ in range(int(rest))]
        raise ConnectionError(f"the Redis reply {line!r} is none")


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers, body: bytes):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:200]!r}>"


class Client:
    """A keep-alive HTTP connection; connects again by itself after it was closed, but sends nothing twice."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout_s: float = PATIENCE_S):
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> Answer:
        """Raises OSError or HTTPException where no whole answer came: then the request may have been carried out, or not."""
        try:
            self._connection.request(method, path, body=body, headers=headers or {})
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def listening_at(port: int) -> socket.socket:
    """At a port of the loopback address; 0: a free one."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(4096)
    return listening


# Takes the place of systemd: so many descriptors become 3, 4 …, and the process is named that they are for.
PASS_SOCKETS = """
count=$1 copies=() at=3; shift
for ((i = 0; i < count; ++i)); do exec {copy}<&"$1"; eval "exec $1<&-"; copies+=("$copy"); shift; done
for copy in "${copies[@]}"; do eval "exec $at<&$copy $copy<&-"; ((++at)); done
LISTEN_PID=$$ LISTEN_FDS=$count exec "$@"
"""


class Process(Child):
    """One process that can be killed and started again. It ends with the test."""

    def __init__(self, name: str, argv: list[str], log: Path, environment: dict[str, str], folder: Path):
        super().__init__(name, argv, log, environment, folder, signal.SIGKILL, ALWAYS_AT_ONCE)

    def pass_sockets(self, sockets: dict[str, socket.socket]) -> None:
        """From its next start on it inherits these listening sockets, each under its name, as from systemd."""
        fds = [one.fileno() for one in sockets.values()]
        self.argv = ["bash", "-c", PASS_SOCKETS, "bash", str(len(fds)), *map(str, fds), *self.argv]
        self.environment = self.environment | {"LISTEN_FDNAMES": ":".join(sockets)}
        self.pass_fds = tuple(fds)


class Shard:
    """Name and port of a Redis server."""

    def __init__(self, name: str, port: int, folder: Path, host: str = "127.0.0.1"):
        """`host`: what the settings call its machine."""
        self.name, self.port, self.folder, self.host = name, port, folder, host
        self.tls_port: int | None = None  # the settings name this one, where it has one: over TLS
        self.user = ""
        self.settings: dict[str, str] = {}  # further keys of its table

    @property
    def url(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"rediss://{user}{self.host}:{self.tls_port}" if self.tls_port else f"redis://{user}{self.host}:{self.port}"

    def client(self) -> Redis:
        return Redis(self.port)


class Stack:
    """Shards, flusher and frontends. Names of processes: flusher, frontend_1 …, and a shard's name (redis_PORT)."""

    def __init__(self, frontends: int = 2, shards: int = 2, settings: dict | None = None, environment: dict | None = None,
                 redis_arguments: tuple[str, ...] = (), supervised: bool = False, servers_at: str = "127.0.0.1"):  # fmt: skip
        """`servers_at`: the address by which the settings, and servers each other, know the servers; these tests use the loopback address."""
        self.folder = Path(tempfile.mkdtemp(prefix="visitd-"))
        self.port = free_port()
        self.settings_file = self.folder / "visitd.toml"
        self.runtime_directory = self.folder / "run"
        self.state_directory = self.folder / "state"
        self.processes: dict[str, Process] = {}
        self.shards: list[Shard] = []
        self.settings = {section: dict(values) for section, values in DEFAULTS.items()}
        for section, values in (settings or {}).items():
            self.settings.setdefault(section, {}).update(values)
        self._pids: set[int] = set()
        # One thread starts every process: the kernel kills a process that wants to die with its parent when the thread that
        # started it ends.
        self._spawner = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self._supervised = supervised
        self._ending = threading.Event()
        self._lock = threading.RLock()
        self._supervisor: threading.Thread | None = None
        _open_stacks.add(self)

        for folder in (self.runtime_directory, self.state_directory, self.folder / "log"):
            folder.mkdir(mode=0o700)
        base = {k: v for k, v in os.environ.items() if not k.startswith(SETTING_VARIABLES)}
        self._environment = base | (environment or {})
        self._redis_arguments = redis_arguments
        self.servers_at = servers_at
        for _ in range(shards):
            self.shards.append(self._add_shard())
        self._add("flusher", [str(FLUSHER), "--config", str(self.settings_file)])
        for number in range(1, frontends + 1):
            self._add(f"frontend_{number}", [str(FRONTEND), "--config", str(self.settings_file)])
        self.write_settings()

    def spare(self, *arguments: str) -> Shard:
        """One more server of the same kind, running, which is no shard yet and which the settings do not name."""
        shard = self._add_shard(*arguments)
        self.start_one(shard.name)
        self.wait_for_shard(shard)
        return shard

    def _add_shard(self, *arguments: str) -> Shard:
        port = free_port()
        shard = Shard(f"redis_{port}", port, self.folder / f"redis_{port}", self.servers_at)
        shard.folder.mkdir()
        # fmt: off
        self._add(shard.name, [*REDIS_SERVER, "--bind", *self.bound_to, "--protected-mode", "no", "--port", str(port), "--dir", str(shard.folder),
                               "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
                               "--maxmemory-policy", "noeviction", *self._redis_arguments, *arguments])
        # fmt: on
        return shard

    @property
    def bound_to(self) -> list[str]:
        """The addresses at which servers listen."""
        return list(dict.fromkeys((self.servers_at, "127.0.0.1")))

    def _add(self, name: str, argv: list[str]) -> None:
        self.processes[name] = Process(name, argv, self.folder / "log" / f"{name}.log", self._environment, self.folder)

    # --- settings

    def write_settings(self) -> None:
        """Writes the settings file from self.settings; a restart makes it count."""

        def value(item) -> str:
            return json.dumps(item)  # a TOML value too, for all that stands here

        sections = {
            "paths": {"runtime_directory": str(self.runtime_directory), "state_directory": str(self.state_directory)},
            "http": {"listen": [f"127.0.0.1:{self.port}"] + ([f"[::1]:{self.port}"] if has_ipv6() else [])},
        }
        for section, values in self.settings.items():
            sections.setdefault(section, {}).update(values)
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]"] + [f"{key} = {value(item)}" for key, item in values.items()] + [""]
        for shard in self.shards:
            table = {"name": shard.name, "url": shard.url} | shard.settings
            lines += ["[[redis.shard]]"] + [f"{key} = {value(item)}" for key, item in table.items()] + [""]
        # At once: what is just starting must not read half of it.
        fresh = self.settings_file.with_suffix(".new")
        fresh.write_text("\n".join(lines))
        with contextlib.suppress(FileNotFoundError):
            former = self.settings_file.stat()
            os.chown(fresh, former.st_uid, former.st_gid)
            fresh.chmod(stat.S_IMODE(former.st_mode))
        fresh.replace(self.settings_file)

    # --- the processes

    def preload(self, name: str, library: Path, **environment: str) -> None:
        """From its next start on a process has this library preloaded, and these variables beside its others."""
        process = self.processes[name]
        asan = process.environment.get("ASAN_OPTIONS", "")
        process.environment = process.environment | environment | {
            "LD_PRELOAD": str(library), "ASAN_OPTIONS": f"{asan}:verify_asan_link_order=0".lstrip(":")}  # fmt: skip

    @property
    def frontends(self) -> list[str]:
        return [name for name in self.processes if name.startswith("frontend_")]

    def start(self) -> "Stack":
        """Starts everything and waits until it counts."""
        self.start_servers()
        self.start_one("flusher")
        for name in self.frontends:
            self.start_one(name)
        self.wait_ready()
        if self._supervised:
            self.supervise()
        return self

    def start_servers(self) -> None:
        """Starts what the flusher counts on, and waits until it answers."""
        for shard in self.shards:
            self.start_one(shard.name)
        for shard in self.shards:
            self.wait_for_shard(shard)

    @contextlib.contextmanager
    def only_servers(self):
        """Starts what the flusher counts on, and nothing else; ends all that runs afterwards, with its logs where something failed."""
        try:
            self.start_servers()
            yield self
        except BaseException:
            self.print_logs()
            raise
        finally:
            self.close()

    @contextlib.contextmanager
    def started_anyhow(self):
        """Starts everything, and records a visit, however the shards do; ends it afterwards, with its logs where something failed."""
        with self.only_servers():
            self.start_one("flusher")
            self.start_one("frontend_1")
            wait_for("the frontend listens", lambda: self.listens(self.processes["frontend_1"].pid))
            self.post("home")
            yield self

    def start_one(self, name: str) -> None:
        process = self.processes[name]
        with self._lock:
            assert not process.alive, f"{name} runs already"
            process.wanted = True
            self._spawn(process)

    def _spawn(self, process: Process) -> None:
        self._spawner.submit(process.start).result()
        self._pids.add(process.pid)

    def supervise(self) -> None:
        """From now on, starts again whatever dies without having been stopped, within a tenth of a second."""
        self._supervised = True
        if self._supervisor is None:
            self._supervisor = threading.Thread(target=self._watch, daemon=True)
            self._supervisor.start()

    def _watch(self) -> None:
        while not self._ending.wait(0.05):
            with self._lock:
                for process in list(self.processes.values()):
                    process.death()
                    if process.due_in_s() == 0.0:
                        self._spawn(process)

    def kill9(self, name: str) -> None:
        """SIGKILL. A supervised stack starts it again."""
        self._end(name, signal.SIGKILL, PATIENCE_S)

    def stop_one(self, name: str, limit_s: float = PATIENCE_S) -> int:
        """SIGTERM, and waits. Returns the exit status. It stays down also in a supervised stack."""
        with self._lock:
            self.processes[name].wanted = False
        return self._end(name, signal.SIGTERM, limit_s)

    def _end(self, name: str, number: signal.Signals, limit_s: float) -> int:
        process = self.processes[name]
        with self._lock:
            running = process.running
            if not self._supervised:
                process.wanted = False
        assert running is not None, f"{name} was never started"
        if running.poll() is None:
            running.send_signal(number)
            # Only where it is paused: SIGCONT takes back a stop that is on its way, which the leak sanitizer would wait for.
            if number == signal.SIGTERM and is_paused(running.pid):
                running.send_signal(signal.SIGCONT)
        try:
            return running.wait(limit_s)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(PATIENCE_S)
            raise AssertionError(f"{name} did not end within {limit_s} s after {number.name}") from None

    def restart(self, name: str) -> None:
        """Starts it, after SIGTERM where it still runs."""
        process = self.processes[name]
        if process.alive:
            self.stop_one(name)
        with self._lock:
            if not process.alive:
                self.start_one(name)
        for shard in self.shards:
            if shard.name == name:
                self.wait_for_shard(shard)

    def pause(self, name: str) -> None:
        os.kill(self.processes[name].pid, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        os.kill(self.processes[name].pid, signal.SIGCONT)

    def stop_all(self) -> None:
        """Stops everything in order, as an operator would, and demands that each ends well."""
        for name in [*self.frontends, "flusher", *(shard.name for shard in self.shards)]:
            if self.processes[name].alive:
                status = self.stop_one(name)
                assert status == 0, f"{name} ended with status {status}: {self.processes[name].text()[-2000:]}"
            self.processes[name].wanted = False

    def wait_for_shard(self, shard: Shard, limit_s: float = PATIENCE_S) -> None:
        def answers() -> bool:
            try:
                with Redis(shard.port, 1.0) as redis:
                    return redis("PING") == "PONG"
            except (OSError, RuntimeError):
                return False

        wait_for(f"{shard.name} answers", answers, limit_s)

    def wait_ready(self, limit_s: float = PATIENCE_S) -> None:
        """Waits until every frontend that was started listens and has attached ring and cache, and a count can be read."""

        def readable() -> bool:
            for process in self.processes.values():
                if process.wanted and not self._supervised and not process.alive:
                    raise AssertionError(f"{process.name} died while starting: {process.text()[-2000:]}")
            # One that was there before the flusher attaches the cache within a second.
            listening = sum(self.listens(process.pid) and len(attached_segments(process.pid)) >= 2 for process in self.processes.values()
                            if process.name.startswith("frontend_") and process.alive)  # fmt: skip
            wanted = sum(self.processes[name].wanted for name in self.frontends)
            return listening >= wanted and self.read("ready").status == 200

        wait_for("the stack counts", readable, limit_s)

    def listens(self, pid: int) -> bool:
        """Whether a process listens on the frontends' port."""
        try:
            held = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            return False
        for table in (f"/proc/{pid}/net/tcp", f"/proc/{pid}/net/tcp6"):
            if not os.path.exists(table):
                continue
            with open(table) as lines:
                next(lines)
                # Listening sockets come first; what follows may be thousands of connections that are over.
                for parts in itertools.takewhile(lambda parts: parts[3] == "0A", map(str.split, lines)):
                    if int(parts[1].rpartition(":")[2], 16) == self.port and f"socket:[{parts[9]}]" in held:
                        return True
        return False

    # --- counting

    def inside(self) -> contextlib.AbstractContextManager:
        """Moves the thread at hand to where clients and operators of this stack are: here, unless it is a host of its own."""
        return contextlib.nullcontext()

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> Answer:
        """One request on a connection of its own, so that any frontend may get it. No answer: status 0."""
        try:
            with self.inside(), Client(self.port) as client:
                return client.ask(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, {}, repr(error).encode())

    def post(self, page: str, prefix: str = "") -> Answer:
        """Records a visit, which must be answered with success."""
        answer = self.ask("POST", f"{prefix}/visit/{quote(page, safe='')}")
        assert answer.status == 200, f"POST of {page!r}: {answer}"
        return answer

    def read(self, page: str, prefix: str = "") -> Answer:
        return self.ask("GET", f"{prefix}/visits/{quote(page, safe='')}")

    def get(self, page: str, prefix: str = "") -> int:
        """The count of a page, which must be known."""
        answer = self.read(page, prefix)
        assert answer.status == 200, f"GET of {page!r}: {answer}"
        return answer.json()["count"]

    def shows(self, page: str, count: int) -> bool:
        """Whether a read of the page is answered, with this count."""
        answer = self.read(page)
        return answer.status == 200 and answer.json()["count"] == count

    def redis_counts(self) -> dict[str, int]:
        """What the shards hold: page and count, over all buckets. A page that two shards hold is an error."""
        return {page: count for page, (_, count) in self.redis_places().items()}

    def redis_places(self) -> dict[str, tuple[str, int]]:
        """The same, with the shard's name: page, (shard, count)."""
        places: dict[str, tuple[str, int]] = {}
        for shard in self.shards:
            with shard.client() as redis:
                keys, cursor = [], "0"
                while True:
                    cursor, some = redis("SCAN", cursor, "MATCH", "visits:{*}", "COUNT", "1000")
                    keys += some
                    if cursor == "0":
                        break
                for fields in redis.pipeline([("HGETALL", key) for key in set(keys)]):
                    if "\x01moved" in fields[::2]:
                        continue  # what has moved counts where it went
                    for page, count in zip(fields[::2], fields[1::2]):
                        if page.startswith("\x01"):
                            continue
                        assert page not in places, f"{page!r} is on {places[page][0]} and on {shard.name}"
                        places[page] = (shard.name, int(count))
        return places

    def wait_for_redis(self, expected: dict[str, int], limit_s: float = PATIENCE_S) -> None:
        """Waits until the shards hold exactly these counts."""

        def holds() -> bool:
            try:
                return self.redis_counts() == expected
            except (OSError, RuntimeError):
                return False

        try:
            wait_for("the shards hold what was counted", holds, limit_s, 0.05)
        except AssertionError:
            held = self.redis_counts()
            wrong = {page: (expected.get(page, 0), held.get(page, 0)) for page in expected.keys() | held.keys()
                     if expected.get(page, 0) != held.get(page, 0)}  # fmt: skip
            raise AssertionError(f"page: (expected, held): {dict(sorted(wrong.items())[:20])}") from None

    def flush(self) -> None:
        """Asks the flusher to carry all to Redis now, and waits until it has."""
        self.visitctl("flush")

    def visitctl(self, *arguments: str, check: bool = True, limit_s: float = 2 * PATIENCE_S) -> subprocess.CompletedProcess:
        """Runs visitctl on this stack."""
        with self.inside():
            done = subprocess.run([str(VISITCTL), "--config", str(self.settings_file), *arguments], capture_output=True, text=True,
                                  timeout=limit_s, env=self._environment, stdin=subprocess.DEVNULL)  # fmt: skip
        assert not check or done.returncode == 0, f"visitctl {' '.join(arguments)}: {done.returncode} {done.stdout}{done.stderr}"
        return done

    def status(self, command: str = "status", *arguments: str) -> dict:
        """What visitctl reports, as JSON."""
        return json.loads(self.visitctl(command, *arguments, "--json").stdout)

    def shard_status(self, name: str) -> dict:
        """What visitctl status says of a shard. While the flusher starts, it says nothing of it: state and reason are empty."""
        said = self.visitctl("status", "--json", check=False).stdout
        shards = json.loads(said).get("shards") or [] if said else []
        return next((shard | {"reason": shard["reason"] or ""} for shard in shards if shard["name"] == name), {"state": "", "reason": ""})

    def wait_shard(self, name: str, state: str, *words: str) -> None:
        """Waits until visitctl status says that the shard is in this state, for a reason with these words."""
        last = {}

        def says() -> bool:
            nonlocal last
            last = self.shard_status(name)
            return last["state"] == state and all(word in last["reason"] for word in words)

        try:
            wait_for(f"{name} is {state}: {words}", says)
        except AssertionError as fault:
            raise AssertionError(f"{fault}; it is {last}") from None

    # --- the end

    def close(self) -> None:
        """Ends everything, whatever state it is in, and removes the segments, and the folder."""
        _open_stacks.discard(self)
        self._ending.set()
        if self._supervisor is not None:
            self._supervisor.join()
        for process in self.processes.values():
            process.wanted = False
            if process.alive:
                process.running.kill()
        for process in self.processes.values():
            if process.running is not None:
                process.running.wait(PATIENCE_S)
        self._spawner.shutdown()
        remove_segments_of(self._pids)
        shutil.rmtree(self.folder, ignore_errors=True)

    def print_logs(self) -> None:
        for process in self.processes.values():
            text = process.text()
            report = SANITIZER_REPORT.search(text)
            shown = text[report.start() :][:8000] if report else text[-4000:]
            print(f"--- {process.name} ({process.starts} starts)\n{shown}", flush=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.print_logs()
            self.close()
            raise

    def __exit__(self, kind, *_):
        faults = [process.name for process in self.processes.values() if SANITIZER_REPORT.search(process.text())]
        if kind is not None or faults:
            self.print_logs()
        self.close()
        if kind is None and faults:
            raise AssertionError(f"a sanitizer reported a fault in {', '.join(faults)}; its log is above")


def started_host(first: Stack, exits: unittest.TestCase, settings: dict, supervised: bool = True, frontends: int = 2) -> Stack:
    """One more host: a runtime and a state directory of its own, and the shards of the first."""
    host = Stack(frontends=frontends, shards=0, settings=settings)
    exits.addCleanup(host.close)
    host.shards = first.shards
    host.write_settings()
    for name in ["flusher", *host.frontends]:
        host.start_one(name)
    host.wait_ready()
    if supervised:
        host.supervise()
    return host


@contextlib.contextmanager
def mounted(folder: Path, options: str):
    """A file system of its own at a folder, in memory, such as "size=1m"; it goes with its last user."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Leaves no room in a folder's file system. Returns the file that takes it."""
    ballast = folder / "ballast"
    with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


def is_paused(pid: int) -> bool:
    """Whether SIGSTOP holds a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def segments() -> list[dict[str, int]]:
    """The System V segments of this machine, as the kernel lists them: id, creator's pid, how many are attached …"""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()
    names = lines[0].split()
    return [dict(zip(names, map(int, line.split()))) for line in lines[1:]]


def attached_segments(pid: int) -> set[int]:
    """The System V segments that a process has attached; none once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {int(line.split()[4]) for line in lines if "/SYSV" in line}


def server_ends(stack: Stack) -> dict[int, tuple[str, int]]:
    """By the client's port: the state of the server's end as the kernel writes it, and the bytes that the server has yet to read."""
    rows = (line.split(maxsplit=5) for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    local = f":{stack.port:04X}"
    return {int(row[2].partition(":")[2], 16): (row[3], int(row[4].partition(":")[2], 16)) for row in rows if row[1].endswith(local)}


def has_read_all(stack: Stack, connections: list[socket.socket]) -> bool:
    """Whether the server has read all that these have sent."""
    unsent = any(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0] for connection in connections)
    ends = server_ends(stack)
    return not unsent and all(ends[connection.getsockname()[1]][1] == 0 for connection in connections)


def remove_segments_of(pids: set[int]) -> None:
    """Removes the segments that these processes made. A process that a test ends only later may still have one: it goes with that process."""
    for segment in segments():
        if segment["cpid"] in pids:
            LIBC.shmctl(segment["shmid"], 0, None)  # IPC_RMID


def check_sums(traffic: "list[Traffic]", held: dict[str, int]) -> None:
    """What the shards hold is what all of these were acknowledged, plus at most what was not answered."""
    wrong = {}
    for page in traffic[0].pages:
        least = sum(one.acknowledged[page] for one in traffic)
        most = least + sum(one.unanswered[page] for one in traffic)
        if not least <= held.get(page, 0) <= most:
            wrong[page] = (least, most, held.get(page, 0))
    assert not wrong, f"page: (at least, at most, held): {wrong}"


class Traffic:
    """Clients that record visits and read counts at once, and check every read while the stack is being hurt.

    A read must not fall below an earlier one of the same page, nor below what was acknowledged before it began. `acknowledged` and
    `unanswered` say what became of the visits, page by page: the shards must end up with acknowledged, plus at most unanswered.
    """

    def __init__(self, stack: Stack, clients: int = 8, readers: int = 2, pages: int = 50, visits: int | None = None):
        self.stack = stack
        self.pages = [f"page-{number}" for number in range(pages)]
        self.together = [self]  # all that count on the same shards, of several hosts
        self.acknowledged: collections.Counter[str] = collections.Counter()
        self.unanswered: collections.Counter[str] = collections.Counter()
        self.refused = 0
        self.reads = 0
        self.faults: list[str] = []
        # If no number of visits ends them, clients pause between requests, so that the processes under test have the processors.
        self._pause_s = 0.003 if visits is None else 0.0
        self._left = visits
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._ending = threading.Event()
        self._writers = [threading.Thread(target=self._guard, args=(self._write, n), daemon=True) for n in range(clients)]
        self._readers = [threading.Thread(target=self._guard, args=(self._read, n), daemon=True) for n in range(readers)]

    def start(self) -> "Traffic":
        for thread in self._writers + self._readers:
            thread.start()
        return self

    def wait(self, limit_s: float = 120.0) -> None:
        """Waits until the given number of visits is acknowledged, then ends all."""
        deadline = time.monotonic() + limit_s
        for thread in self._writers:
            thread.join(max(0.0, deadline - time.monotonic()))
        late = any(thread.is_alive() for thread in self._writers)
        self.stop()
        assert not late, f"only {self.acknowledged.total()} visits were acknowledged within {limit_s} s"

    def stop(self) -> None:
        self._ending.set()
        for thread in self._writers + self._readers:
            thread.join(30)

    def check(self, limit_s: float = 30.0) -> dict[str, int]:
        """After the traffic: no read was wrong, and the shards hold what they must. Returns what they hold."""
        assert not self.faults, "\n".join(self.faults[:20])

        def settled() -> bool:
            held = self.stack.redis_counts()
            return all(held.get(p, 0) >= self.acknowledged[p] for p in self.pages)

        wait_for("the shards hold every acknowledged visit", settled, limit_s, 0.1)
        time.sleep(2 * self.stack.settings["flusher"]["flush_interval_ms"] / 1000)
        held = self.stack.redis_counts()
        check_sums([self], held)
        for page in self.pages:
            assert self.stack.get(page) == held.get(page, 0), f"{page}: read {self.stack.get(page)}, Redis holds {held.get(page, 0)}"
        return held

    def _guard(self, work, number: int) -> None:
        try:
            with self.stack.inside():
                work(random.Random(number))
        except Exception as error:  # noqa: BLE001 - a thread's failure must reach the test
            self.faults.append(f"{work.__name__}: {error!r}")

    def _take(self) -> bool:
        with self._lock:
            if self._left is None:
                return True
            self._left -= 1
            return self._left >= 0

    def _write(self, chance: random.Random) -> None:
        with Client(self.stack.port) as client:
            while not self._ending.is_set() and self._take():
                time.sleep(self._pause_s)
                page = chance.choice(self.pages)
                while not self._ending.is_set():
                    try:
                        answer = client.ask("POST", f"/visit/{page}")
                    except ConnectionRefusedError:
                        time.sleep(0.01)  # nobody listens: it was not carried out
                        continue
                    except (OSError, http.client.HTTPException):
                        with self._lock:
                            self.unanswered[page] += 1
                        continue
                    if answer.status == 200:
                        with self._lock:
                            self.acknowledged[page] += 1
                        break
                    if answer.status != 503:
                        self.faults.append(f"POST of {page}: {answer}")
                        return
                    with self._lock:
                        self.refused += 1
                    time.sleep(0.02)

    def _read(self, chance: random.Random) -> None:
        with Client(self.stack.port) as client:
            while not self._ending.is_set():
                time.sleep(self._pause_s)
                page = chance.choice(self.pages)
                with self._lock:
                    least = max(self._seen.get(page, 0), self.acknowledged[page])
                try:
                    answer = client.ask("GET", f"/visits/{page}")
                except (OSError, http.client.HTTPException):
                    time.sleep(0.01)
                    continue
                if answer.status == 503:
                    time.sleep(0.01)
                    continue
                if answer.status != 200:
                    self.faults.append(f"GET of {page}: {answer}")
                    return
                count = answer.json()["count"]
                with self._lock:
                    self.reads += 1
                    if count < least:
                        self.faults.append(f"{page} was read as {count} after {least} ({answer.headers.get('Cache-Status')})")
                    most = sum(one.acknowledged[page] + one.unanswered[page] + len(one._writers) for one in self.together)
                    if count > most:
                        self.faults.append(f"{page} was read as {count} where at most {most} were sent")
                    self._seen[page] = max(self._seen.get(page, 0), count)
