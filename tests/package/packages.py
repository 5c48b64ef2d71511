"""Builds the Debian package from a clean copy of this tree, twice: as it is, and as the version that would follow it.

    made = packages.build()      # in the build folder; made once, again when a file of the tree changed
    made = packages.build("13")  # the same on another Debian, in a tree of it
    made.current, made.following # the two files

Tests side by side may ask at once: one builds, the others wait.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from debian import Debian, copy_project  # noqa: E402
from project_files import BUILD_ROOT, SOURCE_ROOT, project_files  # noqa: E402

COMMAND = ["dpkg-buildpackage", "-b", "-us", "-uc", "--no-pre-clean"]
SETTINGS = {
    "DEB_BUILD_OPTIONS": f"noautodbgsym nocheck parallel={os.cpu_count() or 2}",
    # What only a debugger needs takes a third of the time to compile, and would be stripped.
    "DEB_CXXFLAGS_APPEND": "-g0",
    "LC_ALL": "C.UTF-8",
}
BUILD_LIMIT_S = 1200
# Of the layouts, as tests/crash has them: an upgrade is hardest where they are unequal. Of equal ones it is a restart, and that is tested too.
NEXT_VERSION = "tests/next_version"
CHANGELOG_ENTRY = """visitd ({version}) unstable; urgency=medium

  * The version that would follow, for tests of an upgrade.

 -- The visitd authors <maintainers@visitd.example>  {date}

"""


@dataclass
class Packages:
    current: Path
    following: Path
    current_version: str
    following_version: str


def fingerprint(names: list[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        # Tests are no part of the package.
        if not name.startswith("tests/") or name.startswith(NEXT_VERSION) or name == "tests/package/packages.py":
            digest.update(f"{name}\0{(SOURCE_ROOT / name).stat().st_mode}\0".encode() + (SOURCE_ROOT / name).read_bytes())
    return digest.hexdigest()


def version_of(tree: Path) -> str:
    found = re.match(r"visitd \(([^)]+)\)", (tree / "debian/changelog").read_text())
    assert found, "debian/changelog does not begin with: visitd (VERSION)"
    return found[1]


def build_here(tree: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DEB_", "VISITD_", "REDIS_", "MAKE", "NINJA"))} | SETTINGS
    if shutil.which("ccache"):
        environment |= {"CXX": "ccache g++", "CCACHE_BASEDIR": str(tree), "CCACHE_NOHASHDIR": "1"}
    with open(tree.parent / "build.log", "ab") as log:
        done = subprocess.run(COMMAND, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=BUILD_LIMIT_S)
    if done.returncode != 0:
        sys.stderr.write((tree.parent / "build.log").read_text(errors="replace")[-20000:])
        raise AssertionError(f"dpkg-buildpackage failed with {done.returncode}; all that it said: {tree.parent / 'build.log'}")


def inside(debian: Debian, tree: Path) -> str:
    return f"/{tree.relative_to(debian.root)}"


def install_what_it_builds_with(debian: Debian, tree: Path) -> None:
    """What debian/control asks for, and nothing else."""
    debian.install("dpkg-dev", "ccache")
    debian.run("apt-get build-dep -y -qq --no-install-recommends ./", inside(debian, tree))


def build_one(tree: Path, debian: Debian | None) -> Path:
    """dpkg-buildpackage of this tree, which may be in another Debian; what an earlier one compiled there is used again."""
    if debian:
        debian.run(" ".join(COMMAND), inside(debian, tree), SETTINGS | {"CXX": "ccache g++"}, BUILD_LIMIT_S)
    else:
        build_here(tree)
    version = version_of(tree)
    found = sorted(tree.parent.glob(f"visitd_{version}_*.deb"))
    assert len(found) == 1, f"dpkg-buildpackage made {found} of version {version}"
    return found[0]


def to_following_version(tree: Path, version: str) -> None:
    """Makes of the tree the next version, which has other layouts, and of debian/ one that was not built yet, without throwing away what was compiled."""
    meson = (tree / "meson.build").read_text()
    changed = re.sub(r"^  version: '[^']+',", f"  version: '{version}',", meson, count=1, flags=re.MULTILINE)
    assert changed != meson, "meson.build names no version"
    (tree / "meson.build").write_text(changed)
    # Written now, so that ninja sees the change.
    shutil.copytree(tree / NEXT_VERSION, tree, copy_function=shutil.copyfile, dirs_exist_ok=True)
    changelog = tree / "debian/changelog"
    text = changelog.read_text()
    date = re.search(r"^ -- .*>  (.*)$", text, re.MULTILINE)
    assert date, "debian/changelog has no date"
    changelog.write_text(CHANGELOG_ENTRY.format(version=version, date=date[1]) + text)
    for left in (".debhelper", "visitd", "debhelper-build-stamp", "files"):
        path = tree / "debian" / left
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for left in (*tree.glob("debian/*.debhelper"), *tree.glob("debian/*.substvars")):
        left.unlink()


def build(release: str = "") -> Packages:
    """On this machine, or on a release of Debian."""
    folder = BUILD_ROOT / (f"package-{release}" if release else "package")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = project_files(SOURCE_ROOT)
        current = version_of(SOURCE_ROOT)
        following = f"{current}+following1"
        wanted = fingerprint(names)
        done = folder / "done"
        if not done.exists() or done.read_text() != wanted:
            done.unlink(missing_ok=True)
            for old in folder.glob("visitd_*"):
                old.unlink()
            (folder / "build.log").unlink(missing_ok=True)
            with Debian(release) if release else contextlib.nullcontext() as debian:
                tree = (debian.root / "work" if debian else folder) / "tree"
                shutil.rmtree(tree, ignore_errors=True)
                copy_project(tree)
                if debian:
                    install_what_it_builds_with(debian, tree)
                made = [build_one(tree, debian)]
                to_following_version(tree, following)
                made.append(build_one(tree, debian))
                for package in made:
                    shutil.move(package, folder / package.name)
                shutil.rmtree(tree)
            done.write_text(wanted)
    return Packages(next(folder.glob(f"visitd_{current}_*.deb")), next(folder.glob(f"visitd_{following}_*.deb")), current, following)
