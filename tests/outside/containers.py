"""compose.yaml without a container engine: each service in namespaces of its own, made with unshare(1) and joined with nsenter(1), in the tree
that the image holds. What the file says of command, user, namespaces, volumes, environment, read-only root and health is what is done.

Two things differ from an engine: a network is one network namespace, in which each service has an address of the loopback; and Redis is
this machine's. Needs root.
"""

import concurrent.futures
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from harness import LIBC, SOURCE_ROOT, Answer, wait_for

CLONE_NEWNET = 0x40000000
NOBODY = 65534


def compose_file() -> dict:
    return yaml.safe_load((SOURCE_ROOT / "compose.yaml").read_text())


def image_settings() -> dict[str, str]:
    """USER and PATH of the last stage of the Dockerfile."""
    words = [line.split(None, 1) for line in (SOURCE_ROOT / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    last = max(number for number, line in enumerate(words) if line[0] == "FROM")
    stage = {line[0]: line[1] for line in words[last:]}
    return {"user": stage["USER"], "path": stage["ENV"].removeprefix("PATH=")}


class Container:
    """One running container: the process of unshare(1), whose one child is the program, process 1 of its namespace."""

    def __init__(self, name: str, process: subprocess.Popen, user: str):
        self.name, self.process, self.user = name, process, user

    @property
    def program(self) -> int:
        """The program's process id on the host; 0: it has not begun."""
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        except OSError:
            return 0
        return int(children[0]) if children else 0

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.program, number)

    def stop(self, limit_s: float = 30.0) -> int:
        """SIGTERM to the program, as an engine does it; the exit status."""
        self.signal(signal.SIGTERM)
        return self.process.wait(limit_s)


class Network:
    """A network namespace in which services find each other by name."""

    def __init__(self, folder: Path, name: str):
        self.hosts = folder / f"hosts-{name}"
        self.hosts.write_text("127.0.0.1 localhost\n")
        self._services = 0
        self.holder: Container | None = None

    def join(self, service: str) -> str:
        """The service's address."""
        self._services += 1
        address = f"127.0.1.{self._services}"
        with open(self.hosts, "a") as hosts:
            hosts.write(f"{address} {service}\n")
        return address


class Compose:
    """The services of compose.yaml. `image`: the tree of the container image."""

    def __init__(self, image: Path, environment: dict[str, str]):
        self.folder = Path(tempfile.mkdtemp(prefix="visitd-compose-"))
        self.folder.chmod(0o711)  # Redis finds its own folder below
        self.image, self.extra_environment = image, environment
        self.file = compose_file()
        self.containers: dict[str, Container] = {}
        self.lived: list[Container] = []
        self.volumes: dict[str, Path] = {}
        self.networks = {name: Network(self.folder, name) for name in self.file["networks"]}
        # All at once, so that those that are started later are found by those that were started before.
        self.addresses = {
            service: self.networks[network].join(service)
            for service, about in self.file["services"].items()
            for network in about.get("networks", [])
        }

    # --- starting

    def start_all(self) -> None:
        services = dict(self.file["services"])
        while services:
            ready = [name for name, about in services.items() if not any(other in services for other in about.get("depends_on", []))]
            assert ready, f"these depend on each other: {', '.join(services)}"
            for name in ready:
                replicas = services.pop(name).get("deploy", {}).get("replicas", 1)
                for number in range(1, replicas + 1):
                    self.start(f"{name}-{number}" if replicas > 1 else name)

    def about(self, container: str) -> dict:
        services = self.file["services"]
        return services[container] if container in services else services[container.rpartition("-")[0]]

    def start(self, name: str) -> Container:
        about = self.about(name)
        if about["image"] != "visitd":
            return self._start_redis(name, about)
        join, own = [], ["--mount", "--pid"]
        ipc = about["ipc"]
        if ipc.startswith("service:"):
            join.append(f"--ipc=/proc/{self.containers[ipc.removeprefix('service:')].program}/ns/ipc")
        else:
            assert ipc == "shareable", f"{name}: ipc: {ipc}"
            own.append("--ipc")
        network = self._network_of(name, about)
        own_network = about.get("networks") == ["web"]
        if own_network:
            own.append("--net")
        else:
            join.append(f"--net=/proc/{network}/ns/net")
        image = image_settings()
        user, group = map(int, about.get("user", image["user"]).split(":"))
        mounts = {}
        for volume in about.get("volumes", []):
            source, target = volume.split(":")
            mounts[target] = str(self._volume(source, target))
        for shared in about.get("networks", []):
            mounts["/etc/hosts"] = str(self.networks[shared].hosts)
        assert about["cap_drop"] == ["ALL"] and about["security_opt"] == ["no-new-privileges:true"], name
        entered = {
            "root": str(self.image), "read_only": about["read_only"], "mounts": mounts, "own_network": own_network, "user": user, "group": group,
            "command": about["command"], "environment": {"PATH": image["path"], **about.get("environment", {}), **self.extra_environment},
        }  # fmt: skip
        return self._run(name, join, own, entered)

    def _network_of(self, name: str, about: dict) -> int:
        """A process in the network that a service is to join; 0: it makes its own."""
        mode = about.get("network_mode", "")
        if mode.startswith("service:"):
            return self.containers[mode.removeprefix("service:")].program
        (network,) = about["networks"]
        if network == "web":
            return 0
        if self.networks[network].holder is None:
            nobody = {"root": None, "own_network": True, "user": NOBODY, "group": NOBODY, "command": ["sleep", "infinity"], "environment": dict(os.environ)}
            self.networks[network].holder = self._run(f"network {network}", [], ["--net", "--pid"], nobody)
        return self.networks[network].holder.program

    def _start_redis(self, name: str, about: dict) -> Container:
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        os.chown(folder, NOBODY, NOBODY)
        assert about["volumes"] == [f"{name}:/data"], name
        command = [*about["command"], "--bind", self.addresses[name], "--port", "6379", "--dir", str(folder)]
        join = [f"--net=/proc/{self._network_of(name, about)}/ns/net"]
        entered = {"root": None, "own_network": False, "user": NOBODY, "group": NOBODY, "command": command, "environment": dict(os.environ)}
        return self._run(name, join, ["--pid"], entered)

    def _volume(self, name: str, target: str) -> Path:
        if name not in self.volumes:
            folder = self.volumes[name] = self.folder / f"volume-{name}"
            options = (self.file["volumes"][name] or {}).get("driver_opts")
            if options:
                folder.mkdir()
                subprocess.run(["mount", "-t", options["type"], "-o", options["o"], options["device"], folder], check=True)
            else:
                # An engine fills a new volume with what the image has there.
                subprocess.run(["cp", "-a", f"{self.image}{target}", folder], check=True)
        return self.volumes[name]

    def _run(self, name: str, join: list[str], own: list[str], entered: dict) -> Container:
        enter = ["nsenter", *join, "--"] if join else []
        argv = [*enter, "unshare", *own, "--propagation=private", "--fork", "--kill-child", "--"] if "--mount" in own else \
               [*enter, "unshare", *own, "--fork", "--kill-child", "--"]  # fmt: skip
        argv += [sys.executable, "-B", str(Path(__file__).with_name("enter_container.py")), json.dumps(entered)]
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                       preexec_fn=lambda: LIBC.prctl(1, signal.SIGKILL))  # fmt: skip
        container = Container(name, process, f"{entered['user']}:{entered['group']}")
        self.containers[name] = container
        self.lived.append(container)

        def runs() -> bool:
            assert container.alive, f"{name} ended: {self.log(name)}"
            try:
                return container.program != 0 and os.path.basename(entered["command"][0]) in Path(f"/proc/{container.program}/cmdline").read_text().split("\0")[0]
            except OSError:
                return False

        wait_for(f"{name} runs", runs, 30)
        return container

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")[-4000:]

    # --- looking

    def inside(self, name: str, *command: str) -> subprocess.CompletedProcess:
        """Runs a command of the image in a container, as `docker exec` does."""
        container = self.containers[name]
        user, group = container.user.split(":")
        return subprocess.run(
            ["nsenter", "-t", str(container.program), "--mount", "--pid", "--ipc", "--net", "--root", "--wd", "--setgid", group, "--setuid", user, "--", *command],
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env={"PATH": image_settings()["path"]})  # fmt: skip

    def is_healthy(self, name: str) -> bool:
        test = self.about(name)["healthcheck"]["test"]
        assert test[0] == "CMD", name
        return self.inside(name, *test[1:]).returncode == 0

    def visitctl(self, name: str, *arguments: str) -> dict:
        done = self.inside(name, "visitctl", *arguments, "--json")
        assert done.returncode == 0, f"visitctl {' '.join(arguments)} in {name}: {done.stdout}{done.stderr}"
        return json.loads(done.stdout)

    def client(self, name: str = "namespaces", port: int = 8000) -> "InsideClient":
        return InsideClient(self.containers[name].program, port)

    # --- the end

    def close(self) -> None:
        for container in reversed(self.lived):
            if container.alive:
                container.process.kill()  # and with it, by --kill-child, the program
            container.process.wait(10)
        for name, folder in self.volumes.items():
            if (self.file["volumes"][name] or {}).get("driver_opts"):
                # The processes are gone, their mounts may be for a moment more.
                wait_for(f"volume {name} is unmounted", lambda folder=folder: subprocess.run(["umount", folder]).returncode == 0, 20, 0.1)
        shutil.rmtree(self.folder, ignore_errors=True)


class InsideClient:
    """A keep-alive HTTP connection to a port in another network namespace."""

    def __init__(self, process: int, port: int):
        self._namespace = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        # A thread enters a namespace for itself alone, and a socket stays in the one in which it was made.
        self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1, initializer=self._enter)
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def _enter(self) -> None:
        if LIBC.setns(self._namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Raises OSError or HTTPException where no whole answer came."""
        try:
            if self._connection is None:
                connected = self._thread.submit(socket.create_connection, ("127.0.0.1", self._port), 10.0).result()
                self._connection = http.client.HTTPConnection("127.0.0.1", self._port)
                self._connection.sock = connected
            self._connection.request(method, path, body=body)
            answer = self._connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except (OSError, http.client.HTTPException):
            self.disconnect()
            raise

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disconnect()
        self._thread.shutdown()
        os.close(self._namespace)
