#!/usr/bin/env python3
"""Debian 12 and 13 build visitd with gcc and clang, in meson's default, release and sanitizer set-ups, and pass the unit tests. Each in a fresh
Debian that has nothing but what deploy/packages and the unit tests name."""

import unittest

from debian import Debian, copy_project, packages_for

CLANG = "clang++-19"
PROGRAMS = ("frontend/visit-frontend", "flusher/visit-flusher", "ctl/visitctl")
# What the unit tests need besides, and a second compiler. Objects that an earlier campaign built are taken where CCACHE_DIR is set.
FOR_UNIT_TESTS = ("doctest-dev", "redis-server", "sqlite3", "ccache", "clang-19")
SANITIZERS = "-Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1"


class Builds:
    release: str

    @classmethod
    def setUpClass(cls):
        cls.debian = Debian(cls.release)
        cls.addClassCleanup(cls.debian.close)
        cls.debian.install(*packages_for("build"), *FOR_UNIT_TESTS)
        copy_project(cls.debian.root / "src")

    def set_up(self, name: str, options: str, compiler: str) -> str:
        folder = f"/src/build-{name}"
        self.debian.run(f"meson setup {folder} {options}", "/src", {"CXX": f"ccache {compiler}"})
        return folder

    def unit_tests(self, folder: str) -> None:
        """Builds what they need, and runs them."""
        said = self.debian.run(f"meson test -C {folder} --suite unit --print-errorlogs", "/src")
        self.assertRegex(said, r"(?m)^Ok: +[1-9]")
        self.assertRegex(said, r"(?m)^Fail: +0\b")

    def programs(self, folder: str) -> None:
        self.debian.run(f"ninja -C {folder} {' '.join(PROGRAMS)}", "/src")
        for program in PROGRAMS:
            self.assertIn(program.rpartition("/")[2], self.debian.run(f"{folder}/{program} --version"))
            self.assertIn("7070", self.debian.run(f"{folder}/{program} --config deploy/visitd.toml --check-config", "/src"))

    def test_gcc_in_the_default_set_up(self):
        folder = self.set_up("default", "", "g++")
        self.programs(folder)
        self.unit_tests(folder)

    def test_gcc_with_sanitizers(self):
        self.unit_tests(self.set_up("sanitizers", SANITIZERS, "g++"))

    def test_without_openssl(self):
        folder = self.set_up("no-tls", "-Dtls=disabled -Dtests=false", "g++")
        self.debian.run(f"ninja -C {folder} {PROGRAMS[1]}", "/src")
        command = f"{folder}/{PROGRAMS[1]} --check-config"
        self.assertNotIn("libssl", self.debian.run(f"ldd {folder}/{PROGRAMS[1]}", "/src"))
        said = self.debian.run(f"! VISITD_REDIS_SHARDS=rediss://h:1 {command} 2>&1", "/src")
        self.assertIn("VISITD_REDIS_SHARDS", said)
        self.assertIn("stunnel", said)
        self.assertIn("redis://h:1", self.debian.run(f"VISITD_REDIS_SHARDS=redis://h:1 {command}", "/src"))

    def test_clang_in_the_release_set_up(self):
        folder = self.set_up("clang", "--buildtype=release", CLANG)
        self.programs(folder)
        self.unit_tests(folder)


class Debian12(Builds, unittest.TestCase):
    release = "12"


class Debian13(Builds, unittest.TestCase):
    release = "13"


if __name__ == "__main__":
    unittest.main()
