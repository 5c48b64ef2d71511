"""Builds the Debian package from a clean copy of this tree, twice: as it is, and as the version that would follow it.

    made = packages.build()      # in the build folder; made once, again when a file of the tree changed
    made.current, made.following # the two files

Tests side by side may ask at once: one builds, the others wait.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE_ROOT / "tests/lib"))

from project_files import project_files  # noqa: E402

BUILD_ROOT = Path(os.environ.get("VISITD_BUILD_ROOT", SOURCE_ROOT / "build")).resolve()
FOLDER = BUILD_ROOT / "package"
BUILD_LIMIT_S = 1200
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
        if not name.startswith("tests/") or name == "tests/package/packages.py":
            digest.update(f"{name}\0{(SOURCE_ROOT / name).stat().st_mode}\0".encode() + (SOURCE_ROOT / name).read_bytes())
    return digest.hexdigest()


def version_of(tree: Path) -> str:
    found = re.match(r"visitd \(([^)]+)\)", (tree / "debian/changelog").read_text())
    assert found, "debian/changelog does not begin with: visitd (VERSION)"
    return found[1]


def build_one(tree: Path) -> Path:
    """dpkg-buildpackage of this tree; what an earlier one compiled there is used again."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DEB_", "VISITD_", "REDIS_", "MAKE", "NINJA"))}
    environment |= {
        "DEB_BUILD_OPTIONS": f"noautodbgsym nocheck parallel={os.cpu_count() or 2}",
        # What only a debugger needs takes a third of the time to compile, and would be stripped.
        "DEB_CXXFLAGS_APPEND": "-g0",
        "LC_ALL": "C.UTF-8",
    }
    if shutil.which("ccache"):
        environment |= {"CXX": "ccache g++", "CCACHE_BASEDIR": str(tree), "CCACHE_NOHASHDIR": "1"}
    with open(tree.parent / "build.log", "ab") as log:
        done = subprocess.run(["dpkg-buildpackage", "-b", "-us", "-uc", "--no-pre-clean"], cwd=tree, env=environment,
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=BUILD_LIMIT_S)  # fmt: skip
    if done.returncode != 0:
        sys.stderr.write((tree.parent / "build.log").read_text(errors="replace")[-20000:])
        raise AssertionError(f"dpkg-buildpackage failed with {done.returncode}; all that it said: {tree.parent / 'build.log'}")
    version = version_of(tree)
    found = sorted(tree.parent.glob(f"visitd_{version}_*.deb"))
    assert len(found) == 1, f"dpkg-buildpackage made {found} of version {version}"
    return found[0]


def to_following_version(tree: Path, version: str) -> None:
    """Makes of the tree the next version, and of debian/ one that was not built yet, without throwing away what was compiled."""
    meson = (tree / "meson.build").read_text()
    changed = re.sub(r"^  version: '[^']+',", f"  version: '{version}',", meson, count=1, flags=re.MULTILINE)
    assert changed != meson, "meson.build names no version"
    (tree / "meson.build").write_text(changed)
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


def build() -> Packages:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = project_files(SOURCE_ROOT)
        current = version_of(SOURCE_ROOT)
        following = f"{current}+following1"
        wanted = fingerprint(names)
        done = FOLDER / "done"
        if not done.exists() or done.read_text() != wanted:
            done.unlink(missing_ok=True)
            tree = FOLDER / "tree"
            shutil.rmtree(tree, ignore_errors=True)
            for old in FOLDER.glob("visitd_*"):
                old.unlink()
            (FOLDER / "build.log").unlink(missing_ok=True)
            for name in names:
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(SOURCE_ROOT / name, tree / name)
            build_one(tree)
            to_following_version(tree, following)
            build_one(tree)
            shutil.rmtree(tree)
            done.write_text(wanted)
    return Packages(next(FOLDER.glob(f"visitd_{current}_*.deb")), next(FOLDER.glob(f"visitd_{following}_*.deb")), current, following)
