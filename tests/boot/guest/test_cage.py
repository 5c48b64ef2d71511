#!/usr/bin/env python3
"""Tries to get out of the frontends' cage, where the units are installed and run.

The probe (tests/boot/cage_probe.cpp; beside this file, or named by VISITD_CAGE_PROBE) runs as an instance of visit-frontend@.service,
with every setting of that unit.
"""

import os
import subprocess
import time
import unittest
from pathlib import Path

PROBE = Path(os.environ.get("VISITD_CAGE_PROBE", Path(__file__).resolve().parent / "cage_probe"))
# Where a frontend sees it.
SHOWN_AS = "/usr/lib/visitd-cage-probe"
PASSWORD = Path("/etc/visitd/redis_password")
DROP_IN = Path("/run/systemd/system/visit-frontend@probe.service.d/probe.conf")
OUTPUT = Path("/run/visitd-cage-probe.out")
LIMIT_S = 180  # an emulated machine takes its time
NOT_FOR_FRONTENDS = [
    "/run/credentials/visit-flusher.service/redis_password",
    "/etc/visitd/redis_password",
    "/usr/local/etc/visitd/redis_password",
    "/var/lib/visitd/spool.db",
    "/etc/shadow",
    "/etc/passwd",
    "/var/log/journal",
]
# What shows that the probe's attempts are real: without the cage these get through.
GETS_THROUGH_UNCAGED = [
    "a socket of family 2",
    "a socket of family 16",
    "the socket /run/dbus/system_bus_socket",
    "a file /run/visitd/visitd-probe",
    "a file /var/tmp/visitd-probe",
    "a file /tmp/visitd-probe",
    "a file /dev/shm/visitd-probe",
    "a folder /run/visitd/visitd-probe-folder",
    "a file in memory",
    "a process of its own",
    "memory to write code to",
    "making written memory code",
]


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S)


def segment(name: str) -> str:
    """The id of the newest segment that the runtime directory names so."""
    notes = Path("/run/visitd", name)
    deadline = time.monotonic() + LIMIT_S
    while not (notes.exists() and notes.read_text().strip()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{notes} names no segment: do the units run?")
        time.sleep(0.1)
    return notes.read_text().split()[-1]


def run_in_cage(*arguments: str) -> str:
    """What the probe printed, run with all settings of a frontend but for what is started."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f"""[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStartPre=
ExecStart=
ExecStart={SHOWN_AS} {" ".join(arguments)}
BindReadOnlyPaths={PROBE}:{SHOWN_AS}
ExecPaths={SHOWN_AS}
StandardOutput=truncate:{OUTPUT}
StandardError=truncate:{OUTPUT}
""")
    OUTPUT.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "visit-frontend@probe.service")
    run("systemctl", "reset-failed", "visit-frontend@probe.service")
    if not OUTPUT.exists():
        raise AssertionError(run("journalctl", "--no-pager", "-b", "-u", "visit-frontend@probe.service").stdout)
    return OUTPUT.read_text()


class Cage(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.addCleanup(self.clean_up)
        foreign = run("ipcmk", "--shmem", "4096", "--mode", "0600").stdout.split()[-1]
        self.addCleanup(run, "ipcrm", "--shmem-id", foreign)
        self.foreign = foreign

    def clean_up(self):
        DROP_IN.unlink(missing_ok=True)
        if DROP_IN.parent.is_dir():
            DROP_IN.parent.rmdir()
        run("systemctl", "daemon-reload")
        OUTPUT.unlink(missing_ok=True)
        for folder in ("/run/visitd", "/var/tmp", "/tmp", "/dev/shm"):
            Path(folder, "visitd-probe").unlink(missing_ok=True)
            if Path(folder, "visitd-probe-folder").is_dir():
                Path(folder, "visitd-probe-folder").rmdir()

    def test_1_without_the_cage_the_probe_gets_through(self):
        seen = run("setpriv", "--reuid=visit-frontend", "--regid=visitd", "--clear-groups", str(PROBE), "--uncaged").stdout
        lacking = [attempt for attempt in GETS_THROUGH_UNCAGED if f"{attempt}: GOT THROUGH" not in seen.splitlines()]
        self.assertEqual(lacking, [], seen)

    def test_2_in_it_everything_is_refused_but_what_a_frontend_lives_by(self):
        if not PASSWORD.exists() and PASSWORD.parent.is_dir():
            PASSWORD.write_text("secret\n")
            PASSWORD.chmod(0o600)
            self.addCleanup(PASSWORD.unlink)
        output = run_in_cage(segment("rings"), segment("cache"), self.foreign, *NOT_FOR_FRONTENDS)
        self.assertEqual([line for line in output.splitlines() if "GOT THROUGH" in line], [])
        # It came to its end, and was no cage without a door.
        self.assertEqual(output.splitlines()[-1], "0 got through, 0 of what a frontend needs failed", output)
        self.assertGreater(len(output.splitlines()), 80, output)

    def test_3_the_dynamic_loader_starts_no_shell(self):
        output = run_in_cage("--loader")
        self.assertNotIn("GOT THROUGH", output)
        self.assertIn("/bin/sh", output)  # the loader was started, and says what it could not load


if __name__ == "__main__":
    unittest.main()
