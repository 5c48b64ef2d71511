#!/usr/bin/env python3
"""The package's scripts, run by dpkg from outside of a tree (DPKG_ROOT): the tree has all of it, and this host nothing.

dpkg runs on a copy of this host that is laid over it, in which every change can be seen and none is kept.
"""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import packages

LIMIT_S = 120
TREE = "scratch"  # the tree's folder, in the copy
WANTS = "etc/systemd/system/visitd.target.wants"
FRONTENDS = ["visit-frontend@1.service", "visit-frontend@2.service"]
SHARDS = ["visit-redis@7070.service", "visit-redis@7071.service"]
# What a package that runs on this host would have: no script may touch it.
OF_THE_HOST = ["run/visitd/rings", "var/lib/visitd/spool.db", "var/lib/visitd-redis-7070/dump.rdb", "etc/visitd/redis_password",
               "etc/visitd/visitd.toml", f"{WANTS}/visit-frontend@3.service"]  # fmt: skip
OVERLAY = """
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/host"
mount -t proc proc "$1/host/proc"
mount --rbind /dev "$1/host/dev"
host=$1; shift
exec chroot "$host/host" "$@"
"""


def said(*words: str | Path, **options) -> str:
    done = subprocess.run([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=LIMIT_S, env=os.environ | {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}, **options)  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))}: ended with {done.returncode}: {done.stdout}")
    return done.stdout


class Host:
    """A copy of this host with a tree in it."""

    def __init__(self, folder: Path):
        self.folder, self.upper = folder, folder / "upper"
        for name in ("upper", "work", "host"):
            (folder / name).mkdir()
        for name in OF_THE_HOST:
            path = self.upper / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("999 999\n")
        self.tree = self.upper / TREE
        for name in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "etc", "run", "usr/lib"):
            (self.tree / name).mkdir(parents=True)
        for name in ("var/lib/dpkg/status", "var/lib/dpkg/available"):
            (self.tree / name).touch()
        self.before = self.outside()

    def outside(self) -> dict[str, tuple]:
        """All that this copy has of its own, but for the tree."""
        found = {}
        for folder, folders, files in os.walk(self.upper):
            if Path(folder) == self.upper:
                folders.remove(TREE)
            for name in (*folders, *files):
                path = Path(folder, name)
                found[str(path.relative_to(self.upper))] = (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        return found

    def dpkg(self, action: str, what: Path | str) -> str:
        if isinstance(what, Path):
            what = "/" + str(self.put(what).relative_to(self.upper))
        return said("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "sh", "-ec", OVERLAY, "sh", self.folder,
                    "dpkg", f"--root=/{TREE}", f"--log=/{TREE}/dpkg.log", "--force-script-chrootless", "--force-depends", action, what)  # fmt: skip

    def put(self, package: Path) -> Path:
        (self.tree / package.name).write_bytes(package.read_bytes())
        return self.tree / package.name

    def wanted(self) -> list[str]:
        return sorted(path.name for path in (self.tree / WANTS).glob("*"))


def earlier_build(current: Path, folder: Path) -> Path:
    """The package as it was when its target named the frontends."""
    root = folder / "earlier"
    said("dpkg-deb", "--raw-extract", current, root)
    target = next(root.rglob("systemd/system/visitd.target"))
    target.write_text(target.read_text().replace("visit-flusher.service\n", f"visit-flusher.service {' '.join(FRONTENDS)}\n", 1))
    (root / "DEBIAN/preinst").unlink()
    postinst = root / "DEBIAN/postinst"
    postinst.write_text(postinst.read_text().replace("for unit in visit-frontend@1 visit-frontend@2 ", "for unit in "))
    control = root / "DEBIAN/control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 0.0.", 1))
    said("dpkg-deb", "--root-owner-group", "--build", root, folder / "visitd-earlier.deb")
    return folder / "visitd-earlier.deb"


class FromOutside(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("a tree of another's files needs root")
        cls.made = packages.build()

    def setUp(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="visitd-scripts-")))
        said("mount", "-t", "tmpfs", "tmpfs", folder)
        self.addCleanup(said, "umount", folder)
        self.folder, self.host = folder, Host(folder)

    def check_outside(self) -> None:
        self.assertEqual(self.host.outside(), self.host.before)

    def test_installed_upgraded_removed_and_purged_it_touches_the_tree_alone(self):
        tree = self.host.tree
        self.host.dpkg("--install", self.made.current)
        self.check_outside()
        self.assertEqual(self.host.wanted(), sorted([*FRONTENDS, *SHARDS]))
        groups = {line.split(":")[0]: line.split(":")[2] for line in (tree / "etc/group").read_text().splitlines()}
        settings = (tree / "etc/visitd/visitd.toml").stat()
        self.assertEqual((settings.st_mode & 0o777, str(settings.st_gid)), (0o640, groups["visitd"]))
        self.host.dpkg("--install", self.made.following)
        self.check_outside()
        for name in ("var/lib/visitd", "var/lib/visitd-redis-7070"):
            (tree / name).mkdir(exist_ok=True)
        self.host.dpkg("--remove", "visitd")
        self.check_outside()
        self.assertTrue((tree / "var/lib/visitd").exists())
        self.host.dpkg("--purge", "visitd")
        self.check_outside()
        left = [path for path in ("var/lib/visitd", "var/lib/visitd-redis-7070", "etc/visitd", WANTS) if (tree / path).exists()]
        self.assertEqual(left, [])
        self.assertNotIn("visit", (tree / "etc/passwd").read_text() + (tree / "etc/group").read_text())

    def test_an_earlier_build_that_named_its_frontends_gets_links_for_those_that_were_not_masked(self):
        earlier = earlier_build(self.made.current, Path(self.enterContext(tempfile.TemporaryDirectory())))
        self.host.dpkg("--install", earlier)
        self.assertEqual(self.host.wanted(), SHARDS)
        masked = self.host.tree / "etc/systemd/system" / FRONTENDS[1]
        masked.symlink_to("/dev/null")
        self.host.dpkg("--install", self.made.current)
        self.assertEqual(self.host.wanted(), sorted([FRONTENDS[0], *SHARDS]))
        # From then on a link that somebody takes away stays away.
        (self.host.tree / WANTS / FRONTENDS[0]).unlink()
        masked.unlink()
        self.host.dpkg("--install", self.made.following)
        self.assertEqual(self.host.wanted(), SHARDS)
        self.check_outside()


if __name__ == "__main__":
    unittest.main()
