"""A Debian tree booted here, with a systemd of its own, in namespaces: seconds instead of the minutes of an emulated machine.

    with Machine(tree, layers=[folder_with_what_is_to_be_added]) as machine:
        machine.run("systemctl", "is-active", "visitd.target")

The kernel is this host's; processes, mounts, network, System V IPC and control groups are the machine's own and end with it. Nothing
is written to the tree or the layers. Needs root, overlayfs and a cgroup2 hierarchy that may be written to.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READY_LIMIT_S = 60.0
END_LIMIT_S = 20.0
CLEAN_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/",
    "SYSTEMD_PAGER": "cat",
}
DEVICES = {"null": "1 3", "zero": "1 5", "full": "1 7", "random": "1 8", "urandom": "1 9", "tty": "5 0"}


def cgroup2_mount() -> Path | None:
    """Where this host's unified control groups are; None: nowhere."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "cgroup2" and os.access(where, os.W_OK):
            return Path(where)
    return None


def why_not() -> str:
    """What this host lacks to boot a tree; empty: nothing."""
    if os.geteuid() != 0:
        return "only root can make the namespaces"
    if cgroup2_mount() is None:
        return "no cgroup2 hierarchy is mounted here, or it is read-only"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup", "sh", "-ec",
         'mount -t tmpfs tmpfs /tmp; cd /tmp; mkdir a u w r; mount -t overlay -o lowerdir=a,upperdir=u,workdir=w overlay r'],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)  # fmt: skip
    return "" if tried.returncode == 0 else f"namespaces or overlayfs are not to be had here: {tried.stderr.strip()}"


class Machine:
    def __init__(self, tree: Path, layers: list[Path] | None = None):
        """`layers`: folders that are laid over the tree, the first one on top."""
        self._tree = Path(tree)
        self._layers = [Path(layer) for layer in layers or []]
        self._outer: subprocess.Popen | None = None
        self._init = 0

    def __enter__(self) -> "Machine":
        try:
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def boot(self) -> None:
        """Returns when everything has been started."""
        unified = cgroup2_mount()
        assert unified is not None, why_not()
        self._cgroup = unified / f"visitd-boot-{os.getpid()}-{id(self):x}"
        self._cgroup.mkdir()
        self._folder = Path(tempfile.mkdtemp(prefix="visitd-boot-"))
        self._console = open(self._folder / "console", "wb")
        lower = ":".join(str(path) for path in [*self._layers, self._tree])
        self._outer = subprocess.Popen(
            # However this process ends, the machine ends with it.
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup",
             sys.executable, __file__, lower, str(self._folder)],
            stdin=subprocess.DEVNULL, stdout=self._console, stderr=self._console, start_new_session=True,
            preexec_fn=lambda: (self._cgroup / "cgroup.procs").write_text(str(os.getpid())))  # fmt: skip
        deadline = time.monotonic() + READY_LIMIT_S
        while True:
            if self._outer.poll() is not None:
                raise RuntimeError(f"the machine ended while it was booting:\n{self.console()}")
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            self._init = int(children[0]) if children else 0
            if self._init and self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the machine did not boot within {READY_LIMIT_S} s:\n{self.console()}\n{self.jobs()}")
            time.sleep(0.05)

    def command(self, *command: str) -> list[str]:
        """What runs a command in the machine, from here."""
        enter = ["nsenter", "--target", str(self._init), "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]
        return [*enter, "env", "-i", *(f"{name}={value}" for name, value in CLEAN_ENVIRONMENT.items()), *command]

    def run(self, *command: str, check: bool = True, limit_s: float = 60.0, **options) -> subprocess.CompletedProcess:
        done = subprocess.run(self.command(*command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def path(self, name: str) -> Path:
        """A file of the machine, as this process may open it."""
        return Path(f"/proc/{self._init}/root/{name.lstrip('/')}")

    def console(self) -> str:
        return (self._folder / "console").read_text(errors="replace")

    def jobs(self) -> str:
        return self.run("systemctl", "list-jobs", "--no-pager", check=False).stdout if self._init else ""

    def journal(self) -> str:
        return self.run("journalctl", "--boot", "--no-pager", "--output=short-monotonic", check=False).stdout

    def close(self) -> None:
        """As by pulling the plug."""
        if self._outer is None:
            return
        if self._outer.poll() is None:
            # Its first process takes all others of the machine with it, and the mounts.
            os.kill(self._init or self._outer.pid, signal.SIGKILL)
            self._outer.wait(END_LIMIT_S)
        self._outer = None
        self._console.close()
        deadline = time.monotonic() + END_LIMIT_S
        for group in sorted(self._cgroup.rglob("*/"), reverse=True) + [self._cgroup]:
            while True:
                try:
                    group.rmdir()
                    break
                except OSError:  # its last processes are just going
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
        shutil.rmtree(self._folder)


def inside(lower: str, folder: str) -> None:
    """The first process of the machine: makes its root and becomes its systemd."""

    def call(*command: str) -> None:
        subprocess.run(command, check=True)

    root = f"{folder}/root"
    call("mount", "--make-rprivate", "/")
    # Neither what is written nor the mounts outlive the namespace.
    call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    for name in ("root", "upper", "work"):
        os.mkdir(f"{folder}/{name}")
    call("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work", "overlay", root)
    call("mount", "-t", "proc", "-o", "nosuid,nodev,noexec", "proc", f"{root}/proc")
    call("mount", "-t", "sysfs", "-o", "nosuid,nodev,noexec", "sysfs", f"{root}/sys")
    call("mount", "-t", "cgroup2", "-o", "nosuid,nodev,noexec", "cgroup2", f"{root}/sys/fs/cgroup")
    call("mount", "-t", "tmpfs", "-o", "nosuid,mode=755", "tmpfs", f"{root}/dev")
    call("mount", "-t", "tmpfs", "-o", "nosuid,nodev,mode=755", "tmpfs", f"{root}/run")
    for name, numbers in DEVICES.items():
        call("mknod", "-m", "666", f"{root}/dev/{name}", "c", *numbers.split())
    for name in ("pts", "shm", "mqueue"):
        os.mkdir(f"{root}/dev/{name}")
    call("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=666,mode=620,gid=5", "devpts", f"{root}/dev/pts")
    call("mount", "-t", "tmpfs", "-o", "nosuid,nodev,mode=1777", "tmpfs", f"{root}/dev/shm")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    for name, target in {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}.items():
        os.symlink(target, f"{root}/dev/{name}")
    os.mkdir(f"{root}/run/former")
    os.chdir(root)
    call("pivot_root", ".", "run/former")
    os.chroot(".")
    call("/bin/umount", "--lazy", "/run/former")
    os.rmdir("/run/former")
    # As systemd makes it where it is not in a container: what it mounts for one unit, it mounts from a namespace of its own.
    call("/bin/mount", "--make-rshared", "/")
    environment = CLEAN_ENVIRONMENT | {"container": "visitd-boot"}
    os.execve("/lib/systemd/systemd", ["systemd", "--log-target=journal", "--show-status=no"], environment)


if __name__ == "__main__":
    inside(sys.argv[1], sys.argv[2])
