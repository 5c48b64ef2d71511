"""A Debian with nothing installed, in a folder: made once by debootstrap, copied for each use, and entered by chroot in namespaces of its own,
so that whatever is started in it ends with it. Needs root, debootstrap and the mirror that this machine's apt uses."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import BUILD_ROOT, SOURCE_ROOT

# Where the pristine trees are kept; another place saves making them again.
TREES = Path(os.environ.get("VISITD_DEBIAN_TREES", BUILD_ROOT / "debian-trees"))
RELEASES = {"12": "bookworm", "13": "trixie"}


def purpose_of_packages() -> dict[str, str]:
    """deploy/packages: each package's purpose."""
    lines = (SOURCE_ROOT / "deploy/packages").read_text().splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if line and not line.startswith("#")}


def project_files() -> list[str]:
    """Every file of the project, as git knows it, with the changes that are not committed yet."""
    listed = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=SOURCE_ROOT, capture_output=True, text=True, check=True).stdout  # fmt: skip
    return sorted(name for name in set(listed.split("\0")) if name and (SOURCE_ROOT / name).is_file())


def copy_project(folder: Path) -> None:
    for name in project_files():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SOURCE_ROOT / name, target)


def mirror() -> str:
    """The Debian mirror of this machine's apt."""
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for source in sources:
        if source.is_file() and (found := re.search(r"^(?!#).*?(https?://\S+/debian)/?(?:\s|$)", source.read_text(), re.MULTILINE)):
            return found[1]
    raise RuntimeError("no Debian mirror is named in /etc/apt")


def pristine(release: str) -> Path:
    """The tree of a release, made where it is not there yet."""
    suite = RELEASES[release]
    TREES.mkdir(parents=True, exist_ok=True)
    tree = TREES / suite
    with open(TREES / f"{suite}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.exists():
            return tree
        part = TREES / f"{suite}.part"
        shutil.rmtree(part, ignore_errors=True)
        source = mirror()
        # Its mounts are to end with it, however it ends.
        subprocess.run(["unshare", "--mount", "--propagation=private", "debootstrap", "--variant=minbase", "--include=ca-certificates", suite, part, source],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        security = source.removesuffix("/debian") + "/debian-security"
        (part / "etc/apt/sources.list").write_text("".join(
            f"deb {where} {name} main\n" for where, name in ((source, suite), (source, f"{suite}-updates"), (security, f"{suite}-security"))
        ))  # fmt: skip
        # Of this machine's settings only how it reaches the network.
        dumped = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
        network = [line for line in dumped.splitlines() if re.match(r"Acquire::(https?::|Retries)", line)]
        (part / "etc/apt/apt.conf.d/90network").write_text("\n".join([*network, 'Acquire::Retries "3";', ""]))
        own_authorities = Path("/usr/local/share/ca-certificates")
        if own_authorities.is_dir():
            shutil.copytree(own_authorities, part / own_authorities.relative_to("/"), dirs_exist_ok=True)
            subprocess.run(["chroot", part, "update-ca-certificates"], check=True, capture_output=True)
        part.rename(tree)
    return tree


class Debian:
    """A copy of a release, for one use."""

    def __init__(self, release: str):
        if os.geteuid() != 0:
            raise unittest.SkipTest("debootstrap and chroot need root")
        self.release = release
        tree = pristine(release)
        self.root = Path(tempfile.mkdtemp(prefix=f"{RELEASES[release]}-", dir=TREES))
        subprocess.run(["cp", "-a", "--reflink=auto", f"{tree}/.", self.root], check=True)
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(f"/etc/{name}", self.root / "etc" / name)

    def run(self, command: str, folder: str = "/", environment: dict[str, str] | None = None, limit_s: float = 3600.0) -> str:
        """Runs a line of shell as root in the tree; what it printed. Raises with that where it fails."""
        mounts = [f"mount -t proc proc {self.root}/proc", f"mount --rbind /dev {self.root}/dev",
                  f"mount -t tmpfs -o mode=1777 tmpfs {self.root}/dev/shm"]  # fmt: skip
        ccache = os.environ.get("CCACHE_DIR")
        if ccache:
            (self.root / "ccache").mkdir(exist_ok=True)
            mounts.append(f"mount --bind {ccache} {self.root}/ccache")
        script = " && ".join([*mounts, f'exec chroot {self.root} /usr/bin/env -i "$@"'])
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive",
            **({"CCACHE_DIR": "/ccache", "CCACHE_BASEDIR": folder, "CCACHE_NOHASHDIR": "1"} if ccache else {}),
            **{name: value for name in ("http_proxy", "https_proxy", "no_proxy") if (value := os.environ.get(name))},
            **(environment or {}),
        }  # fmt: skip
        done = subprocess.run(
            ["unshare", "--mount", "--propagation=private", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-c", script, "sh",
             *(f"{name}={value}" for name, value in variables.items()), "sh", "-c", f"cd {folder} && {command}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=limit_s)  # fmt: skip
        assert done.returncode == 0, f"Debian {self.release}: {command}: status {done.returncode}\n{done.stdout[-8000:]}"
        return done.stdout

    def install(self, *packages: str) -> None:
        self.run(f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {' '.join(packages)}")

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
