#!/usr/bin/env python3
"""subprojects/*.wrap: the build finds in them what the system lacks. Nothing is fetched: each archive's folder stands there already."""

import configparser
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from debian import copy_project
from project_files import SOURCE_ROOT

WRAPS = {path.stem: path for path in (SOURCE_ROOT / "subprojects").glob("*.wrap")}
WRAPPED = {"cpp-httplib", "doctest", "CLI11", "tomlplusplus", "nlohmann_json"}
LIMIT_S = 120


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(path)
    return parser


class Wraps(unittest.TestCase):
    def test_each_names_one_release_by_its_sum(self):
        self.assertEqual(set(WRAPS), WRAPPED)
        for name, path in WRAPS.items():
            with self.subTest(name):
                wrap = read(path)["wrap-file"]
                self.assertRegex(wrap["source_hash"], r"^[0-9a-f]{64}$")
                version = re.search(r"\d+\.\d+\.\d+$", wrap["directory"])[0]
                self.assertIn(f"v{version}", wrap["source_url"])
                ours = (SOURCE_ROOT / "subprojects/packagefiles" / wrap["patch_directory"] / "meson.build").read_text()
                self.assertIn(f"version: '{version}'", ours)

    def test_the_build_takes_each_of_them_where_it_is_told_to(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        tree = folder / "tree"
        copy_project(tree)
        for path in WRAPS.values():
            wrap = read(path)["wrap-file"]
            unpacked = tree / "subprojects" / wrap["directory"]
            shutil.copytree(SOURCE_ROOT / "subprojects/packagefiles" / wrap["patch_directory"], unpacked)
            (unpacked / "include").mkdir()
        done = subprocess.run(["meson", "setup", f"--force-fallback-for={','.join(WRAPPED)}", "--wrap-mode=nodownload", folder / "build", tree],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for name in WRAPPED:
            self.assertRegex(done.stdout, rf"Dependency {name} .*found: YES .*\(overridden\)|Dependency {name} from subproject .* found: YES")


if __name__ == "__main__":
    unittest.main()
