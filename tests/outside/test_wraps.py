#!/usr/bin/env python3
"""subprojects/*.wrap: the build finds in them what the system lacks.

One wrap is built from its real archive, which Debian 13 has unchanged (doctest). The others' folders stand there already, empty: for them
it is seen that the build takes them, and each wrap's comment says what was built with it by hand.
"""

import configparser
import hashlib
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import debian_tree
from debian import copy_project
from project_files import SOURCE_ROOT

WRAPS = {path.stem: path for path in (SOURCE_ROOT / "subprojects").glob("*.wrap")}
WRAPPED = {"cpp-httplib", "doctest", "CLI11", "tomlplusplus", "nlohmann_json"}
LIMIT_S = 120
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
SMALL_TARGET = "tests/unit/libvisitd-test-main.a.p/main.cpp.o"


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(path)
    return parser


def said(*words: str | Path) -> str:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


def debian_source(package: str, version: str, folder: Path) -> Path | None:
    """The upstream archive of a package of Debian 13, from where this machine's own packages come; None: it is not to be had."""
    for part in ("state/lists/partial", "cache/archives/partial", "got"):
        (folder / part).mkdir(parents=True)
    try:
        lines = [line for line in debian_tree.sources("trixie") if " trixie " in line]
    except (AssertionError, OSError, subprocess.CalledProcessError):
        return None
    (folder / "sources.list").write_text("".join(line.replace("deb ", f"deb-src [signed-by={KEYS}] ", 1) + "\n" for line in lines))
    places = {"Dir::State": "state", "Dir::Cache": "cache", "Dir::Etc::sourcelist": "sources.list", "Dir::Etc::sourceparts": "no-other"}
    options = [f"-o{name}={folder / place}" for name, place in places.items()]
    options.append("-oAPT::Sandbox::User=root")  # apt's own user may not write where a test may
    for words in (["update", "-qq"], ["source", "--download-only", "-qq", package]):
        subprocess.run(["apt-get", *options, *words], cwd=folder / "got", stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S)
    return next((folder / "got").glob(f"{package}_{version}.orig.tar.*"), None)


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


    def test_what_is_tested_with_is_built_from_the_real_archive(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        wrap = read(WRAPS["doctest"])["wrap-file"]
        archive = debian_source("doctest", wrap["directory"].rpartition("-")[2], folder)
        if archive is None:
            self.skipTest("Debian 13's archive of doctest cannot be fetched here")
        self.assertEqual(hashlib.sha256(archive.read_bytes()).hexdigest(), wrap["source_hash"])
        tree = folder / "tree"
        copy_project(tree)
        cache = tree / "subprojects/packagecache"
        cache.mkdir()
        shutil.move(archive, cache / wrap["source_filename"])
        said("meson", "setup", "-Dtests=true", "--unity=off", "--force-fallback-for=doctest", folder / "build", tree)
        said("ninja", "-C", folder / "build", SMALL_TARGET)
        used = said("ninja", "-C", folder / "build", "-t", "deps", SMALL_TARGET)
        self.assertRegex(used, rf"subprojects/{re.escape(wrap['directory'])}/doctest/doctest\.h")


if __name__ == "__main__":
    unittest.main()
