#!/usr/bin/env python3
"""Runs what deploy/quickstart built: Redis servers, flusher and frontends, each started again when it dies, stopped in order."""

import argparse
import ctypes
import fcntl
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
QUICK_DEATH_S = 5.0  # who lives shorter than this counts as dying again and again
FIRST_PAUSE_S = 0.2  # after a second quick death in a row; doubled with each further one
HOPELESS = 5  # so many quick deaths in a row before the first visit was counted: given up
SLOWEST_RESTART_S = 10.0
READY_LIMIT_S = 60.0
LOG_LIMIT_BYTES = 16 << 20
SOCKET_NAME_ROOM = 80  # a Unix socket's path has 107 bytes; the rest is for names below the runtime folder
CHECK_PAGE = "quickstart"
# What would send this instance elsewhere than to its own servers and folders.
FOREIGN_SETTINGS = re.compile(r"REDIS_|VISITD_(PATHS|REDIS)_|VISITD_HTTP_LISTEN$|CREDENTIALS_DIRECTORY$")


class Trouble(Exception):
    """What the user has to know and mend; the message stands by itself."""


def start_time(pid: int) -> str | None:
    """When a process was started, in clock ticks since boot: with the pid it names one process. None: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def listeners(port: int) -> list[tuple[str, int]]:
    """The sockets that listen on a TCP port: inode and user id of each."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue  # a kernel without IPv6
        for line in lines:
            parts = line.split()
            if parts[3] == "0A" and int(parts[1].rpartition(":")[2], 16) == port:
                found.append((parts[9], int(parts[7])))
    return found


def owner_of(inode: str) -> str | None:
    """The process that holds a socket, as text. None: it cannot be seen from here."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if any(os.readlink(fd) == f"socket:[{inode}]" for fd in (entry / "fd").iterdir()):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"pid {entry.name} ({command[:80]})"
        except OSError:
            continue  # another user's, or gone meanwhile
    return None


def refuse_ports_in_use(ports: list[int]) -> None:
    for port in ports:
        for inode, uid in listeners(port):
            try:
                user = pwd.getpwuid(uid).pw_name
            except KeyError:
                user = f"uid {uid}"
            who = owner_of(inode) or f"a process of user {user} that cannot be seen from here (not ours, or in another container)"
            raise Trouble(f"port {port} is in use by {who}; stop it, or choose other ports: --port, --shard-ports")


@dataclass
class Child:
    """One process that is kept running."""

    name: str
    argv: list[str]
    stop_limit_s: float
    process: subprocess.Popen | None = None
    started: float = 0.0
    start_at: float | None = None  # when to start it again
    quick_deaths: int = 0
    said_dead: bool = False


@dataclass
class Instance:
    """What is kept in the state folder, and which processes belong to it."""

    state: Path
    port: int
    shard_ports: list[int]
    frontends: int = 0
    build: Path = Path()
    since: float = field(default_factory=time.time)
    children: list[Child] = field(default_factory=list)  # in the order in which they are started
    lock: int = -1
    log: int = -1
    redis: str = ""

    # --- saying

    def say(self, text: str) -> None:
        line = f"{time.strftime('%H:%M:%S')} {text}\n"
        for fd in (1, self.log):
            if fd >= 0:
                try:
                    os.write(fd, line.encode())
                except OSError:
                    pass  # a terminal that went away must not stop the counting

    def last_words(self, child: Child) -> str:
        try:
            with open(self.log_path(child.name), "rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 4096))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip() if lines else ""

    def log_path(self, name: str) -> Path:
        return self.state / "log" / f"{name}.log"

    # --- the state folder

    def acquire(self) -> None:
        """Makes the state folder ours, or says whose it is; what a killed quickstart left running is stopped."""
        run = self.state / "run"
        if len(os.fsencode(run)) > SOCKET_NAME_ROOM:
            raise Trouble(f"--state {self.state} is too long a path: {SOCKET_NAME_ROOM - 4} bytes are allowed")
        try:
            for folder in (self.state, run, self.state / "spool", self.state / "log"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock = os.open(self.state / "quickstart.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Trouble(f"cannot use the state folder {self.state}: {error}; choose one with --state") from error
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self.lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise Trouble(f"a quickstart runs already in {self.state} (pid {holder}); stop it, or use another --state") from None
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, f"{os.getpid()}\n".encode(), 0)
        self.stop_leftovers()

    def stop_leftovers(self) -> None:
        try:
            noted = json.loads((self.state / "children.json").read_text())
        except (OSError, ValueError):
            return
        left = [entry for entry in noted if start_time(entry["pid"]) == entry["start"]]
        if not left:
            return
        self.say("an earlier quickstart was killed; stopping what it left: " + ", ".join(f"{e['name']} (pid {e['pid']})" for e in left))
        for entry in reversed(left):
            for number, limit in ((signal.SIGTERM, entry["stop_limit_s"]), (signal.SIGKILL, 5.0)):
                deadline = time.monotonic() + limit
                while start_time(entry["pid"]) == entry["start"] and time.monotonic() < deadline:
                    try:
                        os.kill(entry["pid"], number)
                    except OSError as error:
                        raise Trouble(f"cannot stop {entry['name']} (pid {entry['pid']}): {error}") from error
                    time.sleep(0.1)
            if start_time(entry["pid"]) == entry["start"]:
                raise Trouble(f"{entry['name']} (pid {entry['pid']}) of an earlier quickstart does not end; stop it by hand")

    def note_children(self) -> None:
        living = [
            {"name": c.name, "pid": c.process.pid, "start": start_time(c.process.pid), "stop_limit_s": c.stop_limit_s}
            for c in self.children
            if c.process
        ]
        new = self.state / "children.json.new"
        new.write_text(json.dumps(living))
        new.rename(self.state / "children.json")

    def shards(self) -> dict[str, int]:
        """Name and port of each shard. A shard keeps the name, and with it the counts, that it got at the first start."""
        names = {f"redis_{port}": port for port in self.shard_ports}
        known = sorted(path.name for path in self.state.glob("redis_*") if path.is_dir())
        if not known:
            return names
        kept = {name: port for name, port in names.items() if name in known}
        others = [name for name in known if name not in kept]
        return kept | dict(zip(others, [port for name, port in names.items() if name not in kept]))

    def write_settings(self, shards: dict[str, int]) -> Path:
        def text(value: object) -> str:
            return json.dumps(str(value), ensure_ascii=False)

        lines = [
            "# Written by deploy/quickstart at each start, from its options.",
            "[paths]",
            f"runtime_directory = {text(self.state / 'run')}",
            f"state_directory = {text(self.state / 'spool')}",
            "",
            "[ring]",
            f"lanes = {max(8, self.frontends)}",
            "",
            "[http]",
            f'listen = ["[::]:{self.port}"]',
        ]
        for name, port in shards.items():
            lines += ["", "[[redis.shard]]", f'name = "{name}"', f'url = "redis://127.0.0.1:{port}"']
        path = self.state / "visitd.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def write_redis_settings(self, name: str, port: int) -> Path:
        folder = self.state / name
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / "redis.conf"
        path.write_text(
            f"# Written by deploy/quickstart at each start.\nbind 127.0.0.1\nport {port}\ndir {json.dumps(str(folder))}\n"
            'daemonize no\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ""\n'
        )
        return path

    # --- the processes

    def plan(self) -> None:
        shards = self.shards()
        settings = str(self.write_settings(shards))
        for name, port in shards.items():
            self.children.append(Child(name, [self.redis, str(self.write_redis_settings(name, port))], 15.0))
        self.children.append(Child("flusher", [str(self.build / "flusher/visit-flusher"), "--config", settings], 20.0))
        for number in range(1, self.frontends + 1):
            self.children.append(
                Child(f"frontend-{number}", [str(self.build / "frontend/visit-frontend"), "--config", settings], 10.0)
            )

    def start(self, child: Child) -> None:
        path = self.log_path(child.name)
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.rename(path.with_suffix(".log.old"))
        libc = ctypes.CDLL(None)
        parent = os.getpid()

        def in_child() -> None:
            # Should this process be killed, its children end too, and in good order.
            libc.prctl(1, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())

        environment = {name: value for name, value in os.environ.items() if not FOREIGN_SETTINGS.match(name)}
        with open(path, "ab") as log:
            # A session of its own: Ctrl-C reaches this process alone, which then stops the others in order.
            child.process = subprocess.Popen(
                child.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.state, env=environment,
                start_new_session=True, preexec_fn=in_child,
            )  # fmt: skip
        child.started = time.monotonic()
        child.start_at = None
        self.note_children()

    def reap(self) -> None:
        """Says who died, and when it is started again."""
        for child in self.children:
            if child.process is None or child.process.poll() is None:
                continue
            pid, status = child.process.pid, child.process.returncode
            child.process = None
            now = time.monotonic()
            child.quick_deaths = child.quick_deaths + 1 if now - child.started < QUICK_DEATH_S else 1
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            words = "" if status < 0 else f": {self.last_words(child)}"
            pause = 0.0
            if child.quick_deaths > 1:
                pause = min(FIRST_PAUSE_S * 2.0 ** (child.quick_deaths - 2), SLOWEST_RESTART_S)
            child.start_at = now + pause
            if pause < 1.0:
                self.say(f"{child.name} (pid {pid}) {how}{words}; starting it again")
            else:
                self.say(f"{child.name} (pid {pid}) {how}{words}; it died {child.quick_deaths} times in a row, next try in "
                         f"{pause:.1f} s; its log: {self.log_path(child.name)}")  # fmt: skip
            child.said_dead = True

    def restart_due(self) -> None:
        for child in self.children:
            if child.process is None and child.start_at is not None and time.monotonic() >= child.start_at:
                self.start(child)
                if child.said_dead:
                    self.say(f"{child.name} runs again as pid {child.process.pid}")

    def watch(self, timeout_s: float) -> bool:
        """Waits for a signal or a death, and starts again what died. True: it is time to stop."""
        wake = [child.start_at for child in self.children if child.start_at is not None]
        if wake:
            timeout_s = max(0.0, min(timeout_s, min(wake) - time.monotonic()))
        info = signal.sigtimedwait((*STOP_SIGNALS, signal.SIGCHLD), timeout_s)
        if info is not None and info.si_signo != signal.SIGCHLD:
            self.say(f"{signal.Signals(info.si_signo).name}: stopping")
            return True
        self.reap()
        self.restart_due()
        return False

    def stop(self) -> bool:
        """Stops all, frontends first, Redis last: what was answered is handed on before the next one goes. True: all ended well."""
        well = True
        for prefix in ("frontend-", "flusher", "redis_"):
            group = [child for child in self.children if child.process and child.name.startswith(prefix)]
            for child in group:
                child.process.terminate()
            for child in group:
                try:
                    status = child.process.wait(child.stop_limit_s)
                    # Who died of SIGTERM had not begun yet: each program handles it from its first step on.
                    if status not in (0, -signal.SIGTERM):
                        well = False
                        self.say(f"{child.name} ended with status {status}; its log: {self.log_path(child.name)}")
                except subprocess.TimeoutExpired:
                    well = False
                    child.process.kill()
                    child.process.wait()
                    self.say(f"{child.name} did not end within {child.stop_limit_s:.0f} s and was killed; its log: {self.log_path(child.name)}")
                child.process = None
        self.note_children()
        return well

    # --- readiness

    def redis_answers(self, port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def ask(self, method: str, path: str) -> dict | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            return json.loads(body) if answer.status == 200 else None
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_until(self, what: str, condition) -> bool:
        """Watches until the condition holds. False: told to stop. Throws Trouble where it does not come to that."""
        deadline = time.monotonic() + READY_LIMIT_S
        while not condition():
            if self.watch(0.01):
                return False
            hopeless = [c for c in self.children if c.quick_deaths >= HOPELESS]
            if hopeless:
                raise Trouble(f"{hopeless[0].name} does not stay up; its log: {self.log_path(hopeless[0].name)}")
            if time.monotonic() > deadline:
                raise Trouble(f"{what} within {READY_LIMIT_S:.0f} s; logs: {self.state / 'log'}")
        return True

    def run(self) -> bool:
        """Starts all, watches over it until a signal says stop. True: all ended well."""
        signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGCHLD))
        self.log = os.open(self.log_path("quickstart"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.plan()
        try:
            if self.bring_up():
                while not self.watch(60.0):
                    pass
        except Trouble:
            self.stop()
            raise
        well = self.stop()
        self.say("all stopped; every visit is kept in " + str(self.state) if well else "stopped, not all of it in good order")
        return well

    def bring_up(self) -> bool:
        shards = [child for child in self.children if child.name.startswith("redis_")]
        for child in shards:
            self.start(child)
        if not self.wait_until("Redis did not answer", lambda: all(map(self.redis_answers, self.shard_ports))):
            return False
        for child in self.children:
            if child not in shards:
                self.start(child)

        before: list[int] = []
        recorded: list[bool] = []

        def counted() -> bool:
            answer = self.ask("GET", f"/visits/{CHECK_PAGE}")
            if answer is None:
                return False
            if not before:
                before.append(answer["count"])
            if not recorded:
                if self.ask("POST", f"/visit/{CHECK_PAGE}") is None:
                    return False
                recorded.append(True)
                answer = self.ask("GET", f"/visits/{CHECK_PAGE}") or answer
            return answer["count"] > before[0]

        if not self.wait_until("no visit was counted", counted):
            return False
        url = f"http://localhost:{self.port}"
        self.say(f"visitd counts on {url} (first visit counted after {time.time() - self.since:.1f} s)")
        self.say(f"  try    curl -X POST {url}/visit/home")
        self.say(f"         curl {url}/visits/home")
        self.say(f"         {os.path.relpath(self.build)}/ctl/visitctl --config {self.state}/visitd.toml status")
        self.say(f"  logs   {self.state}/log")
        self.say("  Ctrl-C stops everything; the counts stay")
        return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="data, runtime folder, logs and settings file")
    parser.add_argument("--port", type=int, required=True, help="port of the frontends")
    parser.add_argument("--shard-ports", required=True, help="ports of the two Redis servers: A,B")
    parser.add_argument("--frontends", type=int, default=2, help="number of frontends")
    parser.add_argument("--build", type=Path, help="build folder of the programs")
    parser.add_argument("--since", type=float, default=time.time(), help="Unix time at which the user began to wait")
    parser.add_argument("--prepare", action="store_true", help="only take the folder over, and look whether the ports are free")
    options = parser.parse_args()
    instance = Instance(
        state=Path(os.path.abspath(options.state)),
        port=options.port,
        shard_ports=[int(port) for port in options.shard_ports.split(",")],
        frontends=options.frontends,
        since=options.since,
    )
    try:
        ports = [instance.port, *instance.shard_ports]
        if not instance.state.exists():
            refuse_ports_in_use(ports)  # before a folder is made for nothing
        instance.acquire()
        refuse_ports_in_use(ports)
        if options.prepare:
            return 0
        instance.build = options.build.resolve()
        instance.redis = shutil.which("redis-server") or ""
        if not instance.redis:
            raise Trouble("redis-server is not on the PATH: install the package redis-server")
        return 0 if instance.run() else 1
    except Trouble as trouble:
        print(f"quickstart: {trouble}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
