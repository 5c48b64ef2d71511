"""A Debian with nothing installed, in a folder: made once, copied for each use, and entered by chroot in namespaces of its own, so that
whatever is started in it ends with it. Needs root."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from debian_tree import RELEASES, make_tree
from project_files import BUILD_ROOT, SOURCE_ROOT, project_files

# Where the pristine trees are kept; another place saves making them again.
TREES = Path(os.environ.pop("VISITD_DEBIAN_TREES", BUILD_ROOT / "debian-trees"))


def packages_for(*purposes: str) -> list[str]:
    """deploy/packages: those with one of these purposes."""
    lines = [line.split() for line in (SOURCE_ROOT / "deploy/packages").read_text().splitlines() if line and not line.startswith("#")]
    return [words[0] for words in lines if words[1] in purposes]


def copy_project(folder: Path) -> None:
    """Copies what git knows, with the changes that are not committed yet."""
    for name in project_files(SOURCE_ROOT):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SOURCE_ROOT / name, target)


class Debian:
    """A copy of a release, for one use."""

    def __init__(self, release: str):
        if os.geteuid() != 0:
            raise unittest.SkipTest("a Debian in a folder needs root")
        self.release = release
        suite = RELEASES[release]
        make_tree(TREES / suite, suite, ["ca-certificates"])
        self.root = Path(tempfile.mkdtemp(prefix=f"{suite}-", dir=TREES))
        subprocess.run(["cp", "-a", "--reflink=auto", f"{TREES / suite}/.", self.root], check=True)
        for name in ("resolv.conf", "hosts"):
            shutil.copyfile(f"/etc/{name}", self.root / "etc" / name)
        self._trust_what_this_machine_trusts()

    def _trust_what_this_machine_trusts(self) -> None:
        """What stands between this machine and its sources may speak with a certificate of its own."""
        authorities = Path("/usr/local/share/ca-certificates")
        if authorities.is_dir() and any(authorities.iterdir()):
            shutil.copytree(authorities, self.root / authorities.relative_to("/"), dirs_exist_ok=True)
            self.run("update-ca-certificates")

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

    def __enter__(self) -> "Debian":
        return self

    def __exit__(self, *_) -> None:
        self.close()
