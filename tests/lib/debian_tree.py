"""A fresh, minimal Debian in a folder, from where this machine's own packages come. Needs root and mmdebstrap."""

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

MAKE_LIMIT_S = 1200
RELEASES = {"12": "bookworm", "13": "trixie"}
# Nobody reads these in a test; without them there is less to unpack and to copy.
LEFT_OUT = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*/*", "/usr/share/info/*"]


def apt_words(*words: str) -> str:
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def sources(suite: str) -> list[str]:
    """Where apt of this machine gets Debian's packages and their updates, for a release of any name: no name of a server stands in our files."""
    targets = apt_words("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
    found = {}
    for line in targets.splitlines():
        uri, _, release = line.partition(" ")
        if own := re.fullmatch(r"(?:bookworm|trixie|stable|testing|sid)(-updates|-security)?", release):
            found[own[1] or ""] = f"deb {uri.rstrip('/')} {suite}{own[1] or ''} main"
    if "" not in found:
        raise AssertionError("apt-get indextargets names no source of Debian's packages")
    return [found[kind] for kind in sorted(found)]


def network_options() -> list[str]:
    """How apt of this machine reaches its sources: proxies and the like."""
    said = apt_words("apt-config", "dump")
    return [line for line in said.splitlines() if re.match(r"Acquire::(https?::|Retries|Check-)", line)]


def make_tree(folder: Path, suite: str, packages: list[str]) -> None:
    """Makes `folder`, a minimal Debian with these packages and what they depend on; keeps one of the same content. Of tests side by
    side, one makes it and the others wait."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make_tree(folder, suite, packages)


def _make_tree(folder: Path, suite: str, packages: list[str]) -> None:
    note = folder.with_name(folder.name + ".made")
    content = f"{suite} {' '.join(sorted(packages))}\n"
    if folder.exists() and note.exists() and note.read_text() == content:
        return
    note.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    # mmdebstrap makes what debootstrap makes, in half the time: it unpacks each package once.
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", "--dpkgopt=force-unsafe-io"]
    command += [f"--aptopt={option}" for option in network_options()]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [f"--include={','.join(sorted(packages))}", suite, str(folder), *sources(suite)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=os.environ | {"LC_ALL": "C.UTF-8"}, timeout=MAKE_LIMIT_S)  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(f"mmdebstrap ended with {done.returncode}:\n{done.stdout[-6000:]}")
    note.write_text(content)


def dependencies(package: Path) -> list[str]:
    """Names of the packages that this .deb depends on; of alternatives the first."""
    field = apt_words("dpkg-deb", "--field", str(package), "Depends")
    return sorted({re.match(r"[a-z0-9.+-]+", one.strip())[0] for one in field.split(",") if one.strip()})
