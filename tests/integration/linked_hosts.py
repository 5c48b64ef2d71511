"""Hosts of one network, each in namespaces of its own: network, System V memory and host name. Needs root and ip(8).

    make_network()  # once a process, before it has threads; this process is where the servers are
    with Stack(frontends=0, servers_at=SERVERS_AT).only_servers() as servers, LinkedHost(servers) as host:
        host.post("home")
        host.pull_cable()

A namespace ends with the last process and thread in it, and takes its cables and its segments along: nothing is left, however a test ends.
"""

import contextlib
import ctypes
import itertools
import shutil
import socket
import subprocess
import threading
from pathlib import Path

from harness import LIBC, Stack

KINDS = {"net": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000}  # CLONE_NEWNET …
# Of those that are kept for documentation: nobody's.
SERVERS_AT = "192.0.2.1"
SWITCH = "switch"
# Without one of its own a bridge has the lowest address of its cables: each new cable might change it, and for half a minute the others
# would send to nobody.
SWITCH_ADDRESS = "02:00:00:00:02:01"
_numbers = itertools.count(2)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what} (run as root)")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def make_network() -> None:
    """Moves this process to a network of its own, in which its servers have the address SERVERS_AT."""
    _check(LIBC.unshare(KINDS["net"]), "a network namespace of its own")
    for words in ("link set lo up", f"link add {SWITCH} address {SWITCH_ADDRESS} type bridge", f"addr add {SERVERS_AT}/24 dev {SWITCH}", f"link set {SWITCH} up"):
        ip(words)


class LinkedHost(Stack):
    """Flusher and frontends on a host of their own, that count on the servers of another stack."""

    def __init__(self, servers: Stack, settings: dict | None = None, frontends: int = 1, state_of: Stack | None = None):
        """`state_of`: this host begins with a copy of that host's state directory."""
        super().__init__(frontends=frontends, shards=0, settings=settings)
        self.number = next(_numbers)
        self.cable = f"cable{self.number}"
        self.shards = servers.shards
        self.settings["redis"] |= {key: value for key, value in servers.settings["redis"].items() if key in ("mode", "nodes")}
        self.write_settings()
        if state_of:
            shutil.copytree(state_of.state_directory, self.state_directory, dirs_exist_ok=True)
        # The thread that starts this stack's processes lives there, so they do.
        self._spawner.submit(self._move_out).result()
        ip(f"link add {self.cable} type veth peer name eth0 netns {self._thread}")
        ip(f"link set {self.cable} master {SWITCH} up")
        self._spawner.submit(self._take_address).result()

    def _move_out(self) -> None:
        self._thread = threading.get_native_id()
        _check(LIBC.unshare(sum(KINDS.values())), "a host's namespaces")
        socket.sethostname(f"host-{self.number}")

    def _take_address(self) -> None:
        for words in ("link set lo up", f"addr add 192.0.2.{self.number}/24 dev eth0", "link set eth0 up"):
            ip(words)

    @contextlib.contextmanager
    def inside(self):
        with contextlib.ExitStack() as files:
            here, there = ([(kind, files.enter_context(open(Path(f"/proc/self/task/{thread}/ns/{name}"), "rb")))
                            for name, kind in KINDS.items()] for thread in (threading.get_native_id(), self._thread))  # fmt: skip
            try:
                for kind, file in there:
                    _check(LIBC.setns(file.fileno(), kind), "another host's namespace")
                yield
            finally:
                for kind, file in here:
                    _check(LIBC.setns(file.fileno(), kind), "its own namespace")

    def pull_cable(self) -> None:
        """From now on what it sends is lost, and nothing comes, without a word to either end."""
        ip(f"link set {self.cable} down")

    def plug_cable(self) -> None:
        ip(f"link set {self.cable} up")
