#!/usr/bin/env python3
"""Tries to get out of the frontends' cage, on a machine where the units are installed and run. As root:

    test_cage.py [CAGE_PROBE]

The probe (tests/boot/cage_probe.cpp; by default beside this file) runs as an instance of visit-frontend@.service, with every
setting of that unit. Needs no more of Python than python3-minimal brings.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DROP_IN = Path("/run/systemd/system/visit-frontend@probe.service.d/probe.conf")
OUTPUT = Path("/run/visitd-cage-probe.out")
PROBE_LIMIT_S = 60
START_LIMIT_S = 60
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
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROBE_LIMIT_S,
                          universal_newlines=True)  # fmt: skip


def segment(name: str) -> str:
    """The id of the newest segment that the runtime directory names so."""
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        notes = Path("/run/visitd", name)
        if notes.exists() and notes.read_text().strip():
            return notes.read_text().split()[-1]
        if time.monotonic() > deadline:
            sys.exit(f"{notes} names no segment: do the units run?")
        time.sleep(0.1)


def run_in_cage(command: str, probe: Path) -> str:
    """What the probe printed, run with all settings of a frontend but for what is started."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f"""[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStartPre=
ExecStart=
ExecStart={command}
BindReadOnlyPaths={probe}
ExecPaths={probe}
StandardOutput=truncate:{OUTPUT}
StandardError=truncate:{OUTPUT}
""")
    OUTPUT.unlink(missing_ok=True)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "visit-frontend@probe.service")
    status = run("systemctl", "show", "--property=Result,ExecMainStatus", "visit-frontend@probe.service").stdout
    run("systemctl", "reset-failed", "visit-frontend@probe.service")
    return (OUTPUT.read_text() if OUTPUT.exists() else "") + status


def uncaged(probe: Path) -> str:
    return run("setpriv", "--reuid=visit-frontend", "--regid=visitd", "--clear-groups", str(probe), "--uncaged").stdout


def clean_up() -> None:
    DROP_IN.unlink(missing_ok=True)
    if DROP_IN.parent.is_dir():
        DROP_IN.parent.rmdir()
    run("systemctl", "daemon-reload")
    OUTPUT.unlink(missing_ok=True)
    for folder in ("/run/visitd", "/var/tmp", "/tmp", "/dev/shm"):
        Path(folder, "visitd-probe").unlink(missing_ok=True)
        if Path(folder, "visitd-probe-folder").is_dir():
            Path(folder, "visitd-probe-folder").rmdir()


def main() -> None:
    # Where root installed programs, not in a folder that the cage hides and then shows again.
    probe = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE / "cage_probe"
    faults = []
    foreign = run("ipcmk", "--shmem", "4096", "--mode", "0600").stdout.split()[-1]
    password = Path("/etc/visitd/redis_password")
    made_password = not password.exists() and password.parent.is_dir()
    if made_password:
        password.write_text("secret\n")
        password.chmod(0o600)
    try:
        seen = uncaged(probe)
        faults += [f"uncaged, this did not get through, so that its refusal shows nothing: {attempt}"
                   for attempt in GETS_THROUGH_UNCAGED if f"{attempt}: GOT THROUGH" not in seen.splitlines()]  # fmt: skip
        output = run_in_cage(f"{probe} {segment('rings')} {segment('cache')} {foreign} {' '.join(NOT_FOR_FRONTENDS)}", probe)
        print(output)
        faults += [line for line in output.splitlines() if "GOT THROUGH" in line]
        if "\n0 got through, 0 of what a frontend needs failed\n" not in output:
            faults.append("the probe did not come to its end with everything refused that is to be, and nothing else")
        shell = run_in_cage(f"{probe} --loader", probe)
        print(shell)
        if "GOT THROUGH" in shell or "bin/sh" not in shell:
            faults.append("a shell by way of the dynamic loader was not refused")
    finally:
        clean_up()
        run("ipcrm", "--shmem-id", foreign)
        if made_password:
            password.unlink()
    for fault in faults:
        print(f"FAILED: {fault}")
    print("cage: failed" if faults else "cage: everything was refused")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("test_cage.py: run it as root, on a machine for tests")
    main()
