#!/usr/bin/env python3
"""The kinds of server that visitd counts on, beside this machine's own: Redis 8 and Valkey of Debian 13. The tests of TLS, of access
control, of Sentinel, of clusters and of replicas that are waited for run on each."""

import os
import re
import subprocess
import sys
import unittest

from debian import TREES, make_tree
from project_files import SOURCE_ROOT

TESTS = SOURCE_ROOT / "tests"
LIMIT_S = 600.0


class Servers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            raise unittest.SkipTest("a Debian in a folder needs root")
        cls.tree = TREES / "trixie-servers"
        make_tree(cls.tree, "trixie", ["redis-server", "valkey-server"])

    def server(self, name: str) -> str:
        """The command of a server of the tree, with the libraries of its own Debian, in this machine's folders."""
        loader = next((self.tree / "lib64").glob("ld-linux-*"))
        libraries = next((self.tree / "usr/lib").glob("*-linux-gnu*"))
        return f"{loader} --library-path {libraries} {self.tree / 'usr/bin' / name}"

    def check(self, name: str, version: str) -> None:
        server = self.server(name)
        said = subprocess.run([*server.split(), "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
        self.assertRegex(said, rf"v={version}\.")
        for test in ("integration/test_acl.py", "integration/test_sentinel.py", "integration/test_tls.py", "crash/test_cluster.py", "crash/test_replicas.py"):
            with self.subTest(test):
                done = subprocess.run([sys.executable, TESTS / test, "-v"], env=os.environ | {"VISITD_TEST_REDIS_SERVER": server},
                                      stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)  # fmt: skip
                self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-6000:])
                self.assertRegex(done.stderr, r"(?m)^Ran [1-9]")
                self.assertFalse(re.search(r"skipped=", done.stderr), done.stderr[-2000:])

    def test_redis_8(self):
        self.check("redis-server", "8")

    def test_valkey_8(self):
        self.check("valkey-server", "8")


if __name__ == "__main__":
    unittest.main()
