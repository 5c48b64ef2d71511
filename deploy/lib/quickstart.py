#!/usr/bin/env python3
"""Runs what deploy/quickstart built: Redis servers, flusher and frontends, each started again when it dies, stopped in order."""

import argparse
import fcntl
import http.client
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from supervise import Child

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HOPELESS = 6  # so many quick deaths in a row before the first count was read: given up
READY_LIMIT_S = 60.0
LOG_LIMIT_BYTES = 16 << 20
SOCKET_NAME_ROOM = 80  # a Unix socket's path has 107 bytes; the rest is for names below the runtime folder
CHECK_PAGE = "quickstart"  # read, and never counted
OWN_FILES = ("visitd.toml", "children.json", "children.json.new")
OWN_FOLDERS = ("run", "spool", "log")
LEAST_LANES = 8
FORMER_BEGINNING = "# Written by deploy/quickstart at each start"
# What would send this instance elsewhere than to its own servers and folders.
FOREIGN_SETTINGS = re.compile(r"REDIS_|VISITD_(PATHS|REDIS)_|VISITD_HTTP_LISTEN$|CREDENTIALS_DIRECTORY$")


class Trouble(Exception):
    """What the user has to know and mend; the message stands by itself."""


def start_time(pid: int) -> str | None:
    """When the process was started, in clock ticks since boot. None: no process has this pid.

    Pid and start time together name one process.
    """
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
class Instance:
    """What is kept in the state folder, and which processes belong to it."""

    state: Path
    port: int
    shard_ports: list[int]
    frontends: int = 0
    build: Path = Path()
    since: float = field(default_factory=time.time)
    children: list[Child] = field(default_factory=list)  # in the order in which they are started
    said_dead: set[str] = field(default_factory=set)  # children that are said to run again
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
            with open(child.log, "rb") as file:
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
        try:
            str(self.state).encode()
        except UnicodeEncodeError:
            raise Trouble(f"--state {os.fsencode(self.state)!r} is not UTF-8, which a settings file has to be") from None
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
            {"name": c.name, "pid": c.pid, "start": start_time(c.pid), "stop_limit_s": self.stop_limit_s(c)}
            for c in self.children
            if c.alive
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

    def settings_file(self) -> Path:
        return self.state / "visitd.toml"

    def write_settings(self) -> None:
        """Where there is none. From then on the file is the user's, and only looked at."""
        path = self.settings_file()
        if path.exists() and not path.read_text(encoding="utf-8").startswith(FORMER_BEGINNING):
            return

        def text(value: Path) -> str:
            return json.dumps(str(value), ensure_ascii=False)

        path.write_text(
            "# Yours: deploy/quickstart writes this file only where there is none. Its options give the folders, http.listen,\n"
            "# the shards and the least number of lanes, whatever stands here; all else you may set (docs/configure.md lists it).\n"
            f"[paths]\nruntime_directory = {text(self.state / 'run')}\nstate_directory = {text(self.state / 'spool')}\n",
            encoding="utf-8",
        )

    def settings(self) -> dict:
        """What the user's file says."""
        try:
            return tomllib.loads(self.settings_file().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise Trouble(f"{self.settings_file()}: {error}") from error

    def environment(self, shards: dict[str, int], settings: dict) -> dict[str, str]:
        """Of flusher and frontends: what the options give stands above the file."""
        lanes = settings.get("ring", {}).get("lanes", LEAST_LANES)
        environment = {name: value for name, value in os.environ.items() if not FOREIGN_SETTINGS.match(name)}
        return environment | {
            "VISITD_PATHS_RUNTIME_DIRECTORY": str(self.state / "run"),
            "VISITD_PATHS_STATE_DIRECTORY": str(self.state / "spool"),
            "VISITD_HTTP_LISTEN": f"[::]:{self.port}",
            "VISITD_REDIS_SHARDS": ",".join(f"{name}=redis://127.0.0.1:{port}" for name, port in shards.items()),
            "VISITD_RING_LANES": str(max(lanes, self.frontends) if isinstance(lanes, int) else LEAST_LANES),
        }

    def say_what_has_no_effect(self, settings: dict) -> None:
        paths, http, redis = (settings.get(name, {}) for name in ("paths", "http", "redis"))
        own = {"runtime_directory": str(self.state / "run"), "state_directory": str(self.state / "spool")}
        elsewhere = [f"paths.{key}" for key, value in own.items() if paths.get(key) != value]
        if elsewhere:
            raise Trouble(f"{self.settings_file()} names other folders, which visitctl would look at: put {' and '.join(elsewhere)} right, or "
                          "remove the file, and quickstart writes it anew")  # fmt: skip
        for key, given, option in (("http.listen", "listen" in http, "--port"), ("redis.shards", "shards" in redis or "shard" in redis, "--shard-ports")):
            if given:
                self.say(f"{self.settings_file()}: {key} has no effect here: {option} gives it")

    def write_redis_settings(self, name: str, port: int) -> Path:
        folder = self.state / name
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / "redis.conf"
        # Redis takes the bytes in quotes as they are, but for these two.
        quoted = str(folder).replace("\\", "\\\\").replace('"', '\\"')
        path.write_text(
            f'# Written by deploy/quickstart at each start.\nbind 127.0.0.1\nport {port}\ndir "{quoted}"\n'
            'daemonize no\nappendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\nsave ""\n',
            encoding="utf-8",
        )
        return path

    # --- the processes

    def plan(self) -> None:
        shards = self.shards()
        self.write_settings()
        settings = self.settings()
        self.say_what_has_no_effect(settings)
        environment = self.environment(shards, settings)
        config = ["--config", str(self.settings_file())]
        for name, port in shards.items():
            self.add(name, [self.redis, str(self.write_redis_settings(name, port))], environment)
        self.add("flusher", [str(self.build / "flusher/visit-flusher"), *config], environment)
        for number in range(1, self.frontends + 1):
            self.add(f"frontend-{number}", [str(self.build / "frontend/visit-frontend"), *config], environment)

    def add(self, name: str, argv: list[str], environment: dict[str, str]) -> None:
        self.children.append(Child(name, argv, self.log_path(name), environment, self.state))

    @staticmethod
    def stop_limit_s(child: Child) -> float:
        return {"redis": 15.0, "flusher": 20.0}.get(child.name.partition("_")[0], 10.0)

    def start(self, child: Child) -> None:
        if child.log.exists() and child.log.stat().st_size > LOG_LIMIT_BYTES:
            child.log.rename(child.log.with_suffix(".log.old"))
        child.wanted = True
        child.start()
        self.note_children()

    def say_who_died(self) -> None:
        for child in self.children:
            death = child.death()
            if death is None:
                continue
            words = f"{child.name} (pid {death.pid}) {death.text()}" + ("" if death.status < 0 else f": {self.last_words(child)}")
            if death.pause_s < 1.0:
                self.say(f"{words}; starting it again")
            else:
                self.say(f"{words}; it died {child.quick_deaths} times in a row, next try in {death.pause_s:.1f} s; its log: {child.log}")
            self.said_dead.add(child.name)

    def restart_due(self) -> None:
        for child in self.children:
            if child.due_in_s() == 0.0 and child.starts > 0:
                self.start(child)
                if child.name in self.said_dead:
                    self.say(f"{child.name} runs again as pid {child.pid}")

    def watch(self, timeout_s: float) -> bool:
        """Waits for a signal or a death, and starts again what died. True: it is time to stop."""
        dues = [child.due_in_s() for child in self.children]
        timeout_s = min([timeout_s, *(due for due in dues if due is not None)])
        info = signal.sigtimedwait((*STOP_SIGNALS, signal.SIGCHLD), timeout_s)
        if info is not None and info.si_signo != signal.SIGCHLD:
            self.say(f"{signal.Signals(info.si_signo).name}: stopping")
            return True
        self.say_who_died()
        self.restart_due()
        return False

    def stop(self) -> bool:
        """Stops all, frontends first, Redis last: what was answered is handed on before the next one goes. True: all ended well."""
        well = True
        for prefix in ("frontend-", "flusher", "redis_"):
            group = [child for child in self.children if child.alive and child.name.startswith(prefix)]
            for child in group:
                child.wanted = False
                child.running.terminate()
            for child in group:
                try:
                    status = child.running.wait(self.stop_limit_s(child))
                    # Who died of SIGTERM had not begun yet: each program handles it from its first step on.
                    if status not in (0, -signal.SIGTERM):
                        well = False
                        self.say(f"{child.name} ended with status {status}; its log: {child.log}")
                except subprocess.TimeoutExpired:
                    well = False
                    child.running.kill()
                    child.running.wait()
                    self.say(f"{child.name} did not end within {self.stop_limit_s(child):.0f} s and was killed; its log: {child.log}")
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
                raise Trouble(f"{hopeless[0].name} does not stay up; its log: {hopeless[0].log}")
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

        # A read of a page that nobody has visited goes to a frontend, the flusher and a shard, and counts nothing.
        if not self.wait_until("no count was read", lambda: self.ask("GET", f"/visits/{CHECK_PAGE}") is not None):
            return False
        url = f"http://localhost:{self.port}"
        self.say(f"visitd counts on {url} (ready after {time.time() - self.since:.1f} s)")
        self.say(f"  try    curl -X POST {url}/visit/home")
        self.say(f"         curl {url}/visits/home")
        self.say(f"         {shlex.quote(os.path.relpath(self.build))}/ctl/visitctl --config {shlex.quote(str(self.settings_file()))} status")
        self.say(f"  logs   {self.state}/log")
        self.say("  Ctrl-C stops everything; the counts stay")
        return True


    # --- the end

    def remove(self, with_state: bool) -> None:
        """Ends the instance: its segments and runtime folder; `with_state`: all else that quickstart made, with every count."""
        visitctl = self.build / "ctl/visitctl"
        if not visitctl.exists():
            raise Trouble(f"{visitctl} is missing, which knows the segments: build first (deploy/quickstart without --remove), or name --build")
        if self.settings_file().exists():
            self.write_settings()
            options = ["--state", "--discard-visits"] if with_state else []
            done = subprocess.run([visitctl, "--config", self.settings_file(), "remove", "--yes", *options], capture_output=True, text=True,
                                  env=self.environment({}, {}) | {"VISITD_REDIS_SHARDS": ""})  # fmt: skip
            if done.returncode != 0 and "neither the runtime directory" not in done.stderr:
                raise Trouble(done.stderr.strip().removeprefix("visitctl: "))
            print(done.stdout, end="")
        if with_state:
            self.remove_folder()

    def remove_folder(self) -> None:
        """Only what quickstart made: what somebody else put there stays, and the folder with it."""
        for path in [*(self.state / name for name in OWN_FOLDERS), *self.state.glob("redis_*")]:
            shutil.rmtree(path, ignore_errors=True)
        for name in (*OWN_FILES, "quickstart.lock"):
            (self.state / name).unlink(missing_ok=True)
        try:
            self.state.rmdir()
            print(f"removed {self.state}")
        except OSError as error:
            print(f"kept    {self.state}: {error.strerror}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="data, runtime folder, logs and settings file")
    parser.add_argument("--port", type=int, required=True, help="port of the frontends")
    parser.add_argument("--shard-ports", required=True, help="ports of the two Redis servers: A,B")
    parser.add_argument("--frontends", type=int, default=2, help="number of frontends")
    parser.add_argument("--build", type=Path, help="build folder of the programs")
    parser.add_argument("--since", type=float, default=time.time(), help="Unix time at which the user began to wait")
    parser.add_argument("--remove", action="store_true", help="end the instance: its segments and runtime folder")
    parser.add_argument("--with-state", action="store_true", help="with --remove: all else of the state folder too")
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
        if options.remove:
            if not instance.state.exists():
                raise Trouble(f"there is no state folder {instance.state}; name it with --state")
            instance.acquire()
            instance.build = options.build.resolve()
            instance.remove(options.with_state)
            return 0
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
