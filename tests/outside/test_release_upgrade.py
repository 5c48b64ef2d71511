#!/usr/bin/env python3
"""Debian 12 with the package becomes Debian 13, as docs/install.md says: settings, counts and what was disabled stay."""

import platform
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "package"))

import packages  # noqa: E402
from debian import Debian  # noqa: E402

LIMIT_S = 1800.0
# As an administrator's apt would be told: files that were changed stay as they are.
APT = "apt-get -y -qq -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-unsafe-io"
SETTINGS = "/etc/visitd/visitd.toml"
SPOOL = "/var/lib/visitd/spool.db"
SHARD = "/var/lib/visitd-redis-7070/appendonlydir/appendonly.aof.1.incr.aof"
LINKS = "/etc/systemd/system/visitd.target.wants"


class ReleaseUpgrade(unittest.TestCase):
    def installed(self, debian: Debian) -> str:
        return debian.run("dpkg-query --show --showformat '${db:Status-Status}' visitd 2>/dev/null || true").strip()

    def kept(self, debian: Debian) -> list[str]:
        """What an upgrade must not change: texts, modes and owners."""
        stat = debian.run(f"stat --format '%n %a %U:%G' {SETTINGS} {SPOOL} {SHARD}")
        return [stat, debian.run(f"cat {SETTINGS} {SPOOL} {SHARD}"), debian.run(f"ls {LINKS}")]

    def test_settings_counts_and_what_was_disabled_stay(self):
        here = platform.freedesktop_os_release().get("VERSION_ID")
        own, next_one = (packages.build("" if here == release else release) for release in ("12", "13"))
        with Debian("12") as debian:
            (debian.root / "visitd-12.deb").write_bytes(own.current.read_bytes())
            debian.run(f"apt-get update -qq && {APT} install --no-install-recommends redis-server /visitd-12.deb", limit_s=LIMIT_S)
            debian.run(f"rm {LINKS}/visit-frontend@2.service && sed -i 's/^\\[http\\]$/&\\nretry_after_s = 7/' {SETTINGS} && grep -q '^retry_after_s = 7' {SETTINGS}")
            debian.run(f"install -D -m 0600 -o visit-flusher -g visitd /etc/hostname {SPOOL} && install -D -m 0600 -o visit-redis -g visit-redis /etc/hostname {SHARD}")
            before = self.kept(debian)
            debian.run("sed -i s/bookworm/trixie/g /etc/apt/sources.list $(ls -d /etc/apt/sources.list.d/*.list 2>/dev/null)")
            debian.run(f"apt-get update -qq && {APT} dist-upgrade", limit_s=LIMIT_S)
            self.assertIn("13", debian.run("cat /etc/debian_version"))
            self.assertEqual(self.kept(debian), before)
            self.assertEqual(self.installed(debian), "installed")
            debian.run(f"{APT} autoremove && visit-flusher --version && visit-frontend --config {SETTINGS} --check-config", limit_s=LIMIT_S)
            (debian.root / "visitd-13.deb").write_bytes(next_one.current.read_bytes())
            debian.run(f"{APT} install --allow-downgrades --reinstall /visitd-13.deb", limit_s=LIMIT_S)
            self.assertEqual(self.installed(debian), "installed")
            self.assertEqual(self.kept(debian), before)
            # Of this Debian, and with the settings that were there.
            debian.run(f"ldd /usr/bin/visit-frontend | grep -v 'not found' && visit-frontend --config {SETTINGS} --check-config")


if __name__ == "__main__":
    unittest.main()
