#!/usr/bin/env python3
"""Two builds of the same sources have the same bits: in other folders, at another time, in another language and time zone, by another number
of jobs."""

import hashlib
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from debian import copy_project

PROGRAMS = ("frontend/visit-frontend", "flusher/visit-flusher", "ctl/visitctl")
WAYS = (
    ("one", {"LANG": "C", "TZ": "UTC"}, "2"),
    ("another/and-much-deeper/folder", {"LANG": "de_DE.UTF-8", "TZ": "Pacific/Kiritimati", "HOME": "/nonexistent"}, "3"),
)


def build(folder: Path, environment: dict[str, str], jobs: str, options: list[str]) -> dict[str, str]:
    """The hash of each program."""
    copy_project(folder)
    for path in folder.rglob("*"):
        os.utime(path)
    # Objects that were built before would make two builds the same.
    surroundings = os.environ | environment | {"CCACHE_DISABLE": "1"}
    for command in (["meson", "setup", "build", "-Dtests=false", *options], ["ninja", "-C", "build", "-j", jobs, *PROGRAMS]):
        done = subprocess.run(command, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout[-4000:]
    return {program: hashlib.sha256((folder / "build" / program).read_bytes()).hexdigest() for program in PROGRAMS}


class Reproducible(unittest.TestCase):
    def test_two_release_builds_are_the_same(self):
        with tempfile.TemporaryDirectory(prefix="visitd-reproducible-") as root:
            built = [build(Path(root) / name, environment, jobs, ["--buildtype=release", "-Doptimization=2"]) for name, environment, jobs in WAYS]
        self.assertEqual(*built)


if __name__ == "__main__":
    unittest.main()
