"""Becomes the program of a container, in namespaces that were made for it: builds what it sees of the file system, drops what a container
may not do, and executes it. The one argument is JSON; tests/outside/containers.py says what stands in it."""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
LAST_CAPABILITY = int(Path("/proc/sys/kernel/cap_last_cap").read_text())


def checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    checked(LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, None), f"mount {source} on {target}")


def bind(source: str, target: str, read_only: bool) -> None:
    mount(source, target, "", MS_BIND)
    if read_only:
        mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def main() -> None:
    container = json.loads(sys.argv[1])
    if container["own_network"]:
        bring_loopback_up()
    root = container["root"]
    if root is not None:
        bind(root, root, container["read_only"])
        mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        for target, source in container["mounts"].items():
            bind(source, root + target, False)
        os.chroot(root)
        os.chdir("/")
    for capability in range(LAST_CAPABILITY + 1):
        checked(LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "drop a capability")
    os.setgroups([])
    os.setresgid(container["group"], container["group"], container["group"])
    os.setresuid(container["user"], container["user"], container["user"])
    checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "give up new privileges")
    # Another user no longer dies with unshare(1), as its --kill-child had it.
    checked(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "die with the parent")
    os.execvpe(container["command"][0], container["command"], container["environment"])


if __name__ == "__main__":
    main()
