#!/usr/bin/env python3
"""Tries to get out of the frontends' and the flusher's cage, where the units are installed and run.

The probe (tests/boot/cage_probe.cpp; beside this file, or named by VISITD_CAGE_PROBE) runs as an instance of visit-frontend@.service,
with every setting of that unit, and as a copy of
visit-flusher.service.
"""

import fcntl
import os
import socket
import struct
import subprocess
import time
import unittest
from pathlib import Path

PROBE = Path(os.environ.pop("VISITD_CAGE_PROBE", Path(__file__).resolve().parent / "cage_probe"))
# Where a frontend sees it.
SHOWN_AS = "/usr/lib/visitd-cage-probe"
PASSWORD = Path("/etc/visitd/redis_password")
UNITS = Path("/run/systemd/system")
FRONTEND_DROP_IN = UNITS / "visit-frontend@probe.service.d/probe.conf"
FLUSHER_COPY = UNITS / "visit-flusher-probe.service"
FLUSHER_DROP_IN = UNITS / "visit-flusher-probe.service.d/probe.conf"
# An address of this machine that is not the loopback's, as another host's would be.
ELSEWHERE = "10.99.0.1"
SET_ADDRESS = 0x8916  # SIOCSIFADDR
END = "0 got through, 0 of what it needs failed"
OUTPUT = Path("/run/visitd-cage-probe.out")
LIMIT_S = 180  # an emulated machine takes its time
NOT_FOR_FRONTENDS = [
    "/run/credentials/visit-flusher.service/redis_password",
    "/etc/visitd/redis_password",
    "/usr/local/etc/visitd/redis_password",
    "/run/credentials/visit-flusher.service/owner_key",
    "/etc/visitd/owner_key",
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
    "speaking to another host",
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


def run_in_cage(drop_in: Path, command: str, more: str = "") -> str:
    """What the probe printed, run with all settings of the unit but for what is started."""
    unit = drop_in.parent.name.removesuffix(".d")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(f"""[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStartPre=
ExecStart=
ExecStart={command}
ExecPaths={command.split()[0]}
StandardOutput=truncate:{OUTPUT}
StandardError=truncate:{OUTPUT}
{more}""")
    OUTPUT.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", unit)
    run("systemctl", "reset-failed", unit)
    if not OUTPUT.exists():
        raise AssertionError(run("journalctl", "--no-pager", "-b", "-u", unit).stdout)
    return OUTPUT.read_text()


def run_as_frontend(*arguments: str) -> str:
    return run_in_cage(FRONTEND_DROP_IN, " ".join([SHOWN_AS, *arguments]), f"BindReadOnlyPaths={PROBE}:{SHOWN_AS}\n")


def listen_elsewhere() -> socket.socket:
    """A server at an address that no unit here may reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_ADDRESS, struct.pack("16sHH4s8x", b"lo:visitd", socket.AF_INET, 0, socket.inet_aton(ELSEWHERE)))
    return socket.create_server((ELSEWHERE, 0))


class Cage(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.addCleanup(self.clean_up)
        foreign = run("ipcmk", "--shmem", "4096", "--mode", "0600").stdout.split()[-1]
        self.addCleanup(run, "ipcrm", "--shmem-id", foreign)
        self.foreign = foreign
        if not PASSWORD.exists() and PASSWORD.parent.is_dir():
            PASSWORD.touch(0o600)
            PASSWORD.write_text("secret\n")
            self.addCleanup(PASSWORD.unlink)

    def clean_up(self):
        for drop_in in (FRONTEND_DROP_IN, FLUSHER_DROP_IN):
            drop_in.unlink(missing_ok=True)
            if drop_in.parent.is_dir():
                drop_in.parent.rmdir()
        FLUSHER_COPY.unlink(missing_ok=True)
        run("systemctl", "daemon-reload")
        OUTPUT.unlink(missing_ok=True)
        for folder in ("/run/visitd", "/var/tmp", "/tmp", "/dev/shm"):
            Path(folder, "visitd-probe").unlink(missing_ok=True)
            if Path(folder, "visitd-probe-folder").is_dir():
                Path(folder, "visitd-probe-folder").rmdir()

    def test_1_without_the_cage_the_probe_gets_through(self):
        with listen_elsewhere() as server:
            seen = run("setpriv", "--reuid=visit-frontend", "--regid=visitd", "--clear-groups", str(PROBE), "--uncaged",
                       ELSEWHERE, str(server.getsockname()[1])).stdout  # fmt: skip
        lacking = [attempt for attempt in GETS_THROUGH_UNCAGED if f"{attempt}: GOT THROUGH" not in seen.splitlines()]
        self.assertEqual(lacking, [], seen)

    def test_2_in_it_everything_is_refused_but_what_a_frontend_lives_by(self):
        output = run_as_frontend(segment("rings"), segment("cache"), self.foreign, *NOT_FOR_FRONTENDS)
        self.assertEqual([line for line in output.splitlines() if "GOT THROUGH" in line], [])
        # It came to its end, and was no cage without a door.
        self.assertEqual(output.splitlines()[-1], END, output)
        self.assertGreater(len(output.splitlines()), 80, output)

    def test_3_the_dynamic_loader_starts_no_shell(self):
        output = run_as_frontend("--loader")
        self.assertNotIn("GOT THROUGH", output)
        self.assertIn("/bin/sh", output)  # the loader was started, and says what it could not load

    def test_4_the_flusher_reaches_its_shards_its_spool_and_the_runtime_directory_alone(self):
        unit = run("systemctl", "show", "--property=FragmentPath", "--value", "visit-flusher.service").stdout.strip()
        FLUSHER_COPY.write_text(Path(unit).read_text())
        with listen_elsewhere() as server:
            output = run_in_cage(FLUSHER_DROP_IN, f"{PROBE} --flusher {ELSEWHERE} {server.getsockname()[1]}")
        self.assertEqual([line for line in output.splitlines() if "GOT THROUGH" in line], [], output)
        self.assertEqual(output.splitlines()[-1], END, output)


if __name__ == "__main__":
    unittest.main()
