#!/usr/bin/env python3
"""What is in the Debian package, how large it is, and what lintian says of it."""

import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import packages

INSTALLED_LIMIT_BYTES = 5 << 20
SHIPPED = """
etc/visitd/visitd.toml
usr/bin/visit-flusher
usr/bin/visit-frontend
usr/bin/visitctl
usr/lib/sysusers.d/visitd.conf
usr/lib/tmpfiles.d/visitd.conf
usr/libexec/visitd/rolling-restart
usr/share/bash-completion/completions/visitctl
usr/share/doc/visitd/copyright
usr/share/doc/visitd/examples/grafana/visitd.json
usr/share/doc/visitd/examples/prometheus/visitd.rules.yml
usr/share/fish/vendor_completions.d/visitctl.fish
usr/share/man/man1/visitctl.1.gz
usr/share/man/man5/visitd.toml.5.gz
usr/share/man/man8/visit-flusher.8.gz
usr/share/man/man8/visit-frontend.8.gz
usr/share/zsh/vendor-completions/_visitctl
""".split()
UNITS = """visit-flusher.service visit-frontend@.service visit-redis@.service visitd-ring.service visitd.slice visitd.socket
visitd.target""".split()


def said(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.made = packages.build()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = Path(folder) / "root"
        cls.control = Path(folder) / "control"
        said("dpkg-deb", "--extract", str(cls.made.current), str(cls.root))
        said("dpkg-deb", "--control", str(cls.made.current), str(cls.control))

    def test_lintian_finds_no_error_and_no_warning(self):
        done = subprocess.run(["lintian", "--allow-root", "--info", "--fail-on", "error,warning", str(self.made.current)],
                              capture_output=True, text=True, timeout=300, env=os.environ | {"LC_ALL": "C.UTF-8"})  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_all_of_it_is_there(self):
        there = {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}
        self.assertEqual([name for name in SHIPPED if name not in there], [])
        units = {Path(name).name for name in there if "systemd/system/" in name}
        self.assertLessEqual(set(UNITS), units)

    def test_settings_are_a_conffile_with_comments(self):
        self.assertEqual((self.control / "conffiles").read_text().split(), ["/etc/visitd/visitd.toml"])
        self.assertEqual((self.root / "etc/visitd/visitd.toml").read_text(), (packages.SOURCE_ROOT / "deploy/visitd.toml").read_text())

    def test_installed_it_takes_at_most_5_mib(self):
        used = sum(path.lstat().st_blocks * 512 for path in self.root.rglob("*") if not path.is_symlink())
        self.assertLess(used, INSTALLED_LIMIT_BYTES)

    def test_programs_have_the_packages_version_and_no_symbols(self):
        self.assertNotEqual(self.made.current_version, self.made.following_version)
        for program in ("visit-frontend", "visit-flusher", "visitctl"):
            path = str(self.root / "usr/bin" / program)
            self.assertEqual(said(path, "--version").split()[-1], self.made.current_version)
            self.assertEqual(re.findall(r"\.(?:symtab|debug_info)\b", said("readelf", "--sections", "--wide", path)), [])

    def test_it_asks_for_systemd_and_for_redis_where_shards_of_its_own_run(self):
        depends = said("dpkg-deb", "--field", str(self.made.current), "Depends")
        self.assertNotRegex(depends, r"\bredis-server\b")
        self.assertRegex(said("dpkg-deb", "--field", str(self.made.current), "Recommends"), r"\bredis-server\b")
        self.assertRegex(depends, r"\bsystemd\b")
        self.assertRegex(depends, r"\blibc6 \(")

    def test_links_of_the_installed_documents_lead_somewhere(self):
        folder = self.root / "usr/share/doc/visitd"
        documents = [folder / "README.md", *(folder / "docs").glob("*.md")]
        self.assertGreater(len(documents), 10)
        lost = []
        for document in documents:
            for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
                if "://" not in target and not (document.parent / target).exists():
                    lost.append(f"{document.name}: {target}")
        self.assertEqual(lost, [])

    def test_scripts_are_shell_without_faults(self):
        scripts = [str(self.control / name) for name in ("preinst", "postinst", "prerm", "postrm")]
        for script in scripts:
            self.assertNotIn("#DEBHELPER#", Path(script).read_text())
        said("shellcheck", "--severity=warning", *scripts, str(self.root / "usr/libexec/visitd/rolling-restart"))


if __name__ == "__main__":
    unittest.main()
