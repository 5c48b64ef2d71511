"""The units of systemd, users and directories as they would be installed: what systemd's own tools say of them."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import BUILD_ROOT, SOURCE_ROOT

SYSTEMD = SOURCE_ROOT / "deploy/systemd"
CONFIGURED = BUILD_ROOT / "deploy/systemd"
LIMIT_S = 60
# What systemd-analyze security may find at most, of 10; measured with systemd 252 and 257.
EXPOSURE_LIMITS = {"visit-frontend@1.service": 0.4, "visitd-ring.service": 0.4, "visitd-runtime.service": 2.5,
                   "visit-flusher.service": 1.2, "visit-redis@7070.service": 1.5}  # fmt: skip


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=LIMIT_S, **options)  # fmt: skip


def settings_of(unit: str) -> dict[str, list[str]]:
    """Each setting of a unit file, with all the values that it is given."""
    settings: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


class Units(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        # systemd looks whether the programs are where the units say, so they get a folder of their own, with what was built in it.
        cls.folder = Path(tempfile.mkdtemp(prefix="visitd-units-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.units = cls.folder / "units"
        cls.units.mkdir()
        programs = cls.folder / "bin"
        programs.mkdir()
        for program in ("frontend/visit-frontend", "flusher/visit-flusher"):
            (programs / Path(program).name).symlink_to(BUILD_ROOT / program)
        for unit in [*CONFIGURED.glob("*.service"), *SYSTEMD.glob("*.service"), *SYSTEMD.glob("visitd*")]:
            if unit.suffix in (".service", ".socket", ".target", ".slice"):
                text = re.sub(r"/[\w./-]*/bin/(?=visit-(frontend|flusher)\b)", f"{programs}/", unit.read_text())
                (cls.units / unit.name).write_text(text)
        cls.environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{cls.units}:", "SYSTEMD_LOG_LEVEL": "notice"}

    def read(self, unit: str) -> dict[str, list[str]]:
        return settings_of((self.units / unit).read_text())

    def test_every_frontend_has_the_private_socket_or_none_has(self):
        """Enabled by itself, it would be had by those frontends alone that start after it: the others would show metrics to the world."""
        self.assertEqual(self.read("visit-frontend@.service")["Sockets"], ["visitd.socket visitd-private.socket"])
        self.assertIn("visitd-private.socket", " ".join(self.read("visitd.target")["Wants"]).split())
        private = self.read("visitd-private.socket")
        self.assertEqual((private["PartOf"], private["FileDescriptorName"]), (["visitd.target"], ["private"]))
        self.assertEqual(private["ListenStream"], ["127.0.0.1:8001"])
        self.assertNotIn("WantedBy", private)

    def test_systemd_finds_no_fault_in_them(self):
        names = {unit.name.replace("frontend@", "frontend@1").replace("redis@", "redis@7070") for unit in self.units.iterdir()}
        self.assertEqual(len(names), 9, names)
        # A template is verified as an instance of it: by that name there is no file, which systemd knows what to make of.
        verified = run("systemd-analyze", "verify", "--man=no", *sorted(names), cwd=self.units, env=self.environment)
        ours = [line for line in verified.stdout.splitlines() if re.search(r"visit|" + re.escape(str(self.folder)), line)]
        self.assertEqual(ours, [])

    def test_a_fault_in_them_would_be_found(self):
        broken = self.units / "visitd-broken.service"
        broken.write_text((self.units / "visit-flusher.service").read_text().replace("WatchdogSec=", "WatchdogSeconds="))
        self.addCleanup(broken.unlink)
        verified = run("systemd-analyze", "verify", "--man=no", broken.name, cwd=self.units, env=self.environment)
        self.assertIn("WatchdogSeconds", verified.stdout)

    def test_they_expose_no_more_than_they_must(self):
        for name, limit in EXPOSURE_LIMITS.items():
            with self.subTest(name):
                template = re.sub(r"@\w+", "@", name)
                analyzed = run("systemd-analyze", "security", "--offline=yes", f"--threshold={round(limit * 10)}", "--no-pager",
                               self.units / template)  # fmt: skip
                overall = re.search(r"Overall exposure level.*: ([0-9.]+)", analyzed.stdout)
                self.assertIsNotNone(overall, analyzed.stdout)
                self.assertEqual(analyzed.returncode, 0, analyzed.stdout)
                self.assertLessEqual(float(overall[1]), limit, analyzed.stdout)

    def test_the_frontends_have_a_cage_that_lacks_nothing(self):
        # Some of this systemd-analyze does not weigh; tests/boot/guest/test_cage.py tries it.
        settings = self.read("visit-frontend@.service")
        for name, value in {
            "PrivateNetwork": "yes", "RestrictAddressFamilies": "AF_UNIX", "ProtectSystem": "strict", "NoExecPaths": "/",
            "RemoveIPC": "no", "PrivateIPC": "no", "SystemCallErrorNumber": "EPERM", "CapabilityBoundingSet": "", "User": "visit-frontend",
        }.items():  # fmt: skip
            self.assertEqual(settings.get(name), [value], name)
        allowed = " ".join(settings["SystemCallFilter"]).split()
        for call in ("clone", "clone3", "fork", "kill", "shmget", "mkdir", "unlink", "bind", "listen", "@process", "@system-service"):
            self.assertNotIn(call, allowed)

    def test_what_is_secret_is_the_flushers_alone(self):
        flusher = self.read("visit-flusher.service")
        files = dict(value.split(":", 1) for value in flusher["LoadCredential"])
        self.assertEqual({value.split(":")[0] for value in flusher["SetCredential"]}, set(files), "a file that is missing stands for none")
        hidden = " ".join(self.read("visit-frontend@.service")["InaccessiblePaths"]).split()
        for name in ("redis_password", "redis_sentinel_password", "redis_tls_key", "owner_key"):
            self.assertIn(f"-{files[name]}", hidden)

    def test_a_flusher_stops_no_frontend_and_all_of_it_stops_in_order(self):
        frontend, flusher = self.read("visit-frontend@.service"), self.read("visit-flusher.service")
        # What is started first is stopped last.
        self.assertIn("visit-flusher.service", " ".join(frontend["After"]).split())
        self.assertIn("visit-redis@7070.service", " ".join(flusher["After"]).split())
        for binding in ("Requires", "Requisite", "BindsTo", "PartOf", "PropagatesStopTo", "StopPropagatedFrom", "Upholds"):
            for unit in (frontend, flusher):
                self.assertLessEqual(set(" ".join(unit.get(binding, [])).split()), {"visitd.target"}, binding)
        for unit in (frontend, flusher):
            self.assertEqual((unit["Restart"], unit["Type"]), (["always"], ["notify"]))
            self.assertIn("WatchdogSec", unit)
            # The start limit of a service closes the socket that it shares.
            self.assertEqual(unit["StartLimitIntervalSec"], ["0"])

    def test_every_option_that_they_give_is_one_of_the_program(self):
        for unit in self.units.glob("*.service"):
            for command in self.read(unit.name).get("ExecStart", []) + self.read(unit.name).get("ExecStartPre", []):
                program, *words = command.lstrip("+").split()
                if "/visit-" in program:
                    known = run(program, "--help").stdout
                    for option in [word for word in words if word.startswith("--")]:
                        self.assertRegex(known, rf"{option}\b")


class Installed(unittest.TestCase):
    """Users and directories, made in a folder in the place of the root."""

    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="visitd-root-"))
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "etc").mkdir()
        (self.root / "run").mkdir()
        (self.root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        (self.root / "etc/group").write_text("root:x:0:\n")

    @unittest.skipIf(os.geteuid() != 0, "only root can make users and directories of other users")
    def test_frontends_and_flusher_are_two_users_of_one_group_who_share_the_runtime_directory(self):
        made = run("systemd-sysusers", f"--root={self.root}", SYSTEMD / "visitd.sysusers")
        self.assertEqual(made.returncode, 0, made.stdout)
        groups = {line.split(":")[0]: line.split(":")[2] for line in (self.root / "etc/group").read_text().splitlines()}
        users = {line.split(":")[0]: line.split(":") for line in (self.root / "etc/passwd").read_text().splitlines()}
        self.assertEqual(users["visit-frontend"][3], groups["visitd"])
        self.assertEqual(users["visit-flusher"][3], groups["visitd"])
        self.assertNotEqual(users["visit-redis"][3], groups["visitd"])
        self.assertEqual(len({users[name][2] for name in ("visit-frontend", "visit-flusher", "visit-redis")}), 3)
        for name in ("visit-frontend", "visit-flusher", "visit-redis"):
            self.assertTrue(users[name][6].endswith("nologin"), users[name])

        made = run("systemd-tmpfiles", "--create", f"--root={self.root}", SYSTEMD / "visitd.tmpfiles")
        self.assertEqual(made.returncode, 0, made.stdout)
        shared = (self.root / "run/visitd").stat()
        self.assertEqual((oct(shared.st_mode & 0o7777), shared.st_uid, shared.st_gid), ("0o1770", 0, int(groups["visitd"])))

    def test_meson_installs_them_where_a_packager_says(self):
        targets = run("meson", "introspect", "--buildoptions", BUILD_ROOT).stdout
        self.assertIn('"unit_dir"', targets)
        build = self.root / "build"
        options = ["--prefix=/usr", "-Dunit_dir=/usr/lib/systemd/system", "-Dtests=false"]
        done = run("meson", "setup", build, SOURCE_ROOT, *options)
        self.assertEqual(done.returncode, 0, done.stdout)
        listed = run("meson", "introspect", "--installed", build).stdout
        for path in (
            "/usr/bin/visit-frontend", "/usr/lib/systemd/system/visitd.socket", "/usr/lib/systemd/system/visit-frontend@.service",
            "/usr/lib/systemd/system/visitd-ring.service", "/usr/lib/sysusers.d/visitd.conf", "/usr/lib/tmpfiles.d/visitd.conf",
            "/etc/visitd/visitd.toml",
        ):  # fmt: skip
            self.assertIn(f'"{path}"', listed)
        unit = (build / "deploy/systemd/visit-frontend@.service").read_text()
        self.assertIn("ExecStart=/usr/bin/visit-frontend --config /etc/visitd/visitd.toml --prepared\n", unit)
        self.assertNotIn("@settings@", unit)


if __name__ == "__main__":
    unittest.main()
