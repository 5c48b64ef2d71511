"""What the HTTP benchmarks share: servers that are pinned, clients, turns and medians, and how a figure is shown.

A server and its client run on core 0 together; flusher, shards and whatever stands behind another server run on the others.
Needs wrk; nginx, its Lua module and webdis where they are asked. VISITD_BUILD_ROOT names the build folder.
"""

import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "integration"))
from harness import BUILD_ROOT, FRONTEND, VISITCTL, Client, Shard, Stack, free_port, wait_for  # noqa: E402, F401

FLOOR = BUILD_ROOT / "tests/bench/floor-server"
LOAD_CLIENT = BUILD_ROOT / "tests/bench/load-client"

SERVED = {0}
OTHERS = set(range(1, os.cpu_count() or 1)) or {0}

# Room for what a bench records between two commits: nothing is refused for want of it.
SETTINGS = {
    "ring": {"lane_bytes": 64 << 20},
    "cache": {"entries": 65536},
    "http": {},
    "flusher": {"flush_interval_ms": 1000, "commit_interval_ms": 100},
}
NGINX = """
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json; server_tokens off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  lua_shared_dict counts 16m;
  server {{
    listen 127.0.0.1:{port};
    location ~ ^/visit/([^/]+)$ {{
      content_by_lua_block {{
        ngx.shared.counts:incr(ngx.var[1], 1, 0)
        local body = '{{"status":"success","message":"Visit recorded for page ' .. ngx.var[1] .. '"}}'
        ngx.header['Content-Length'] = #body
        ngx.header['Vary'] = 'Origin'
        ngx.header['Access-Control-Allow-Origin'] = '*'
        ngx.print(body)
      }}
    }}
    location ~ ^/visits/([^/]+)$ {{
      content_by_lua_block {{
        local body = '{{"count":' .. (ngx.shared.counts:get(ngx.var[1]) or 0) .. ',"served_via":"in-memory"}}'
        ngx.header['Content-Length'] = #body
        ngx.header['Vary'] = 'Origin'
        ngx.header['Access-Control-Allow-Origin'] = '*'
        ngx.header['Cache-Control'] = 'no-store'
        ngx.print(body)
      }}
    }}
  }}
}}
"""


@dataclass
class Server:
    """Who answers on a port, and whose CPU time that takes."""

    port: int
    pids: list[int]
    paths: dict[str, str] = field(default_factory=lambda: {"POST": "/visit/home", "GET": "/visits/home"})
    visit_method: str = "POST"


# --- processes


def pin(pid: int, cores: set[int]) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


def cpu_s(pids: list[int]) -> float:
    """CPU time of all threads of these processes."""
    return sum(int((task / "schedstat").read_text().split()[0]) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


@contextlib.contextmanager
def running(argv: list, cores: set[int], **options) -> Iterator[subprocess.Popen]:
    """A process on these cores, until the block is left. In a session of its own, as the frontend is: a kernel that shares a
    busy core out by sessions treats all alike."""
    process = subprocess.Popen([str(word) for word in argv], start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, cores), **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def awake(limit_s: float) -> Iterator[None]:
    """No core sleeps: on each, a process runs that gives way to every other one, and ends by itself after that time.

    Waking a core takes a virtual machine longer than most requests, and the longer the more its other cores have to do.
    """
    spin = "import time, sys\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"
    with contextlib.ExitStack() as spinning:
        for core in SERVED | OTHERS:
            process = spinning.enter_context(running([sys.executable, "-c", spin, limit_s], {core}))
            os.sched_setscheduler(process.pid, os.SCHED_IDLE, os.sched_param(0))
            session = Path(f"/proc/{process.pid}/autogroup")  # a kernel that shares a core out by sessions
            if session.exists():
                session.write_text("19")
        yield


@contextlib.contextmanager
def visitd(settings: dict | None = None) -> Iterator[tuple[Stack, Server]]:
    """A flusher, two shards and one frontend; settings change SETTINGS."""
    merged = {section: values | (settings or {}).get(section, {}) for section, values in SETTINGS.items()}
    with Stack(frontends=1, settings=merged) as stack:
        for name, process in stack.processes.items():
            pin(process.pid, SERVED if name == "frontend_1" else OTHERS)
        stack.post("home")
        yield stack, Server(stack.port, [stack.processes["frontend_1"].pid])


@contextlib.contextmanager
def another_frontend(stack: Stack, cores: set[int], environment: dict | None = None, before: tuple = ()) -> Iterator[Server]:
    """One more frontend of a stack, on a port of its own; `before` stands before its command line."""
    port = free_port()
    changed = {"VISITD_HTTP_LISTEN": f"127.0.0.1:{port}"} | (environment or {})
    argv = [*before, FRONTEND, "--config", stack.settings_file]
    with running(argv, cores, env=stack.processes["frontend_1"].environment | changed, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                 stdout=subprocess.DEVNULL) as process:  # fmt: skip
        wait_for_port(port)
        yield Server(port, [process.pid])


@contextlib.contextmanager
def floor(kind: str) -> Iterator[Server]:
    """The floor server with the answer of "post" or "get"."""
    port = free_port()
    with running([FLOOR, port, kind], SERVED) as process:
        wait_for_port(port)
        yield Server(port, [process.pid])


@contextlib.contextmanager
def nginx() -> Iterator[Server]:
    """One worker that counts in a lua_shared_dict and answers what we answer."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="visitd-nginx-") as folder:
        os.chmod(folder, 0o755)
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, port=port))
        with running(["nginx", "-c", config, "-p", folder], SERVED) as process:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            workers = wait_for("nginx's worker", lambda: children.read_text().split())
            wait_for_port(port)
            yield Server(port, [int(pid) for pid in workers])


@contextlib.contextmanager
def redis(cores: set[int]) -> Iterator[Server]:
    """A Redis server that keeps nothing on disk."""
    port = free_port()
    with running(["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"], cores,
                 stdout=subprocess.DEVNULL) as process:  # fmt: skip
        wait_for_port(port)
        yield Server(port, [process.pid])


@contextlib.contextmanager
def webdis(cores_of_redis: set[int]) -> Iterator[Server]:
    """webdis on the served core, with a Redis server of its own, whose CPU time counts too: no answer comes without it."""
    port = free_port()
    with redis(cores_of_redis) as behind, tempfile.TemporaryDirectory(prefix="visitd-webdis-") as folder:
        config = Path(folder) / "webdis.json"
        config.write_text(json.dumps({"redis_host": "127.0.0.1", "redis_port": behind.port, "http_host": "127.0.0.1", "http_port": port,
                                      "threads": 1, "pool_size": 4, "daemonize": False, "verbosity": 0, "logfile": f"{folder}/log"}))  # fmt: skip
        with running(["webdis", config], SERVED, stderr=subprocess.DEVNULL) as process:
            wait_for_port(port)
            # It answers a GET of INCR faster than a POST.
            yield Server(port, [process.pid, *behind.pids], {"POST": "/INCR/home", "GET": "/GET/home"}, visit_method="GET")


def wait_for_port(port: int) -> None:
    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    wait_for(f"port {port} answers", answers)


# --- clients


def wrk(port: int, path: str, connections: int, seconds: int, script: str = "", cores: set[int] = SERVED) -> tuple[float, int]:
    """Requests a second, and requests, of one run; all must have been answered 2xx. `script`: Lua."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", file.name, f"http://127.0.0.1:{port}{path}"]
        if not script:
            command[4:6] = []
        done = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, cores))
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise RuntimeError(f"not all were answered 200:\n{done.stdout}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1]), int(re.search(r"(\d+) requests in", done.stdout)[1])


def load(port: int, request: bytes, cores: set[int] = SERVED, all_200: bool = True, latencies_us: list[float] | None = None,
         **options: int) -> dict[str, float]:  # fmt: skip
    """What load-client prints; options are its own. `all_200`: an answer with another status is an error. Every latency
    is put behind `latencies_us`, where that is given."""
    if latencies_us is not None:
        options["all"] = 1
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        words = [str(word) for name, value in options.items() for word in (f"--{name}", int(value))]
        done = subprocess.run([LOAD_CLIENT, str(port), file.name, *words], capture_output=True, text=True,
                              preexec_fn=lambda: os.sched_setaffinity(0, cores))  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    result: dict[str, float] = {}
    for name, value in (line.split() for line in done.stdout.splitlines()):
        if name == "latency_us" and latencies_us is not None:
            latencies_us.append(float(value))
        else:
            result[name] = float(value)
    if all_200 and result.get("status_200") != result["requests"]:
        raise RuntimeError(f"not all were answered 200:\n{done.stdout}")
    return result


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """The bytes of one request."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n".encode() + body


# --- figures


def argument(number: int, default: float) -> float:
    return float(sys.argv[number]) if len(sys.argv) > number else default


def in_turn(rounds: int, runs: dict[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Runs all, one after the other, so many times. Returns the medians of what they return."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            results[name].append(run())
    return {name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in results.items()}


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<58} {value:>14,.2f} {unit}", flush=True)


def judge(name: str, value: float, least: float | None = None, most: float | None = None, unit: str = "x") -> None:
    """A figure with its target. A missed one fails nothing: machines differ."""
    reached = value >= least if least is not None else value <= most
    target = f"at least {least:,g}" if least is not None else f"at most {most:,g}"
    print(f"{name:<58} {value:>14,.2f} {unit} ({target}: {'reached' if reached else 'missed'})", flush=True)
