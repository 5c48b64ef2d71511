#!/usr/bin/env python3
"""Boots a fresh Debian, installs the package in it, hurts it, upgrades it, reboots it, and removes it.

    boot.py [--full]                 in an emulated machine: a kernel of its own, no network, a reboot. Full: all the tests, minutes
    boot.py --here [--strict]        on this machine's kernel, in namespaces, at full speed; no reboot. Strict: holds to the second that is
                                     promised, which takes a machine that does nothing else
    boot.py --debian 13 …            another Debian than this machine's; the package is built there first

The tests that run inside are guest/test_*.py; what they print is shown here, and counts.
"""

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "package"), str(HERE.parent / "lib")]

import debian_tree  # noqa: E402
import machine  # noqa: E402
import namespaces  # noqa: E402
import packages  # noqa: E402

# In the emulated machine what only a boot shows; all of the rest too where there is time for it (--full).
SHORT_BOOTS = (["test_install", "test_pending"], ["test_rebooted"])
FULL_BOOTS = (["test_install", "test_commands", "test_other_shards", "test_backup", "test_cage", "test_heals", "test_private_port", "test_upgrade", "test_pending"], ["test_rebooted", "test_removal"])
HERE_TESTS = ["test_install", "test_commands", "test_other_shards", "test_backup", "test_cage", "test_heals", "test_private_port", "test_upgrade", "test_removal"]
# What a small server has, and what the tests inside need.
IN_THE_TREE = ["systemd", "systemd-sysv", "dbus", "redis-server", "redis-tools", "curl", "python3"]
IN_THE_GUEST = "opt/visitd-boot-tests"
BOOT_LIMIT_S = 1100.0
LIMIT_S = 30.0  # in place of a second, beside other tests
STRICT_LIMIT_S = 1.0
SKIPPED = 77  # as meson understands it


def note(text: str, since: float) -> None:
    print(f"[{time.monotonic() - since:6.1f} s] {text}", flush=True)


def add_tests(tree: Path, made: packages.Packages) -> None:
    """Puts the tests of the guest and both packages into a tree, or into what is laid over one."""
    guest = tree / IN_THE_GUEST
    shutil.copytree(HERE / "guest", guest, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(packages.BUILD_ROOT / "tests/boot/cage_probe", guest)
    shutil.copy(HERE.parents[1] / "debian/tests/smoke", guest / "smoke")
    # A small Debian leaves out what is below /usr/share/doc.
    shutil.copytree(HERE.parents[1] / "docs", guest / "docs")
    shutil.copy(made.current, guest / "visitd-current.deb")
    shutil.copy(made.following, guest / "visitd-following.deb")


def prepare_tree(base: Path, tree: Path, made: packages.Packages) -> None:
    """A copy of the base in which the tests of each boot start by themselves."""
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(base, tree, symlinks=True, ignore=lambda folder, names: names if folder == str(base / "dev") else [])
    add_tests(tree, made)
    units = tree / "etc/systemd/system"
    shutil.move(tree / IN_THE_GUEST / "visitd-boot-tests.service", units / "visitd-boot-tests.service")
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/visitd-boot-tests.service").symlink_to("/etc/systemd/system/visitd-boot-tests.service")
    # Nobody logs in; without udev, systemd would wait a minute and a half for the terminal to show up.
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
    # For an emulated processor ten seconds are little.
    patience = units / "visit-.service.d"
    patience.mkdir()
    (patience / "emulated.conf").write_text("[Service]\nTimeoutStartSec=300s\n")
    for service in ("visit-flusher.service.d", "visit-frontend@.service.d"):
        (units / service).mkdir()
        (units / service / "emulated.conf").write_text("[Service]\nWatchdogSec=30s\n")
    (tree / "etc/hostname").write_text("fresh-debian\n")
    (tree / "etc/fstab").write_text("")


def judge(output: str) -> tuple[str, int, bool]:
    """What the tests inside said, how many ran, and whether all passed."""
    said = output.partition("visitd boot tests: begin")[2]
    ran = re.search(r"^Ran (\d+) tests? in", said, re.MULTILINE)
    return said, int(ran[1]) if ran else 0, "visitd boot tests: passed" in said


def emulated_boots(folder: Path, base: Path, made: packages.Packages, release: str, since: float, boots: tuple[list[str], list[str]]):
    """What each boot printed."""
    kernel, initrd = machine.fetch_kernel(folder / "kernel", release)
    prepare_tree(base, folder / "tree", made)
    disk = folder / "disk.img"
    machine.make_disk(folder / "tree", disk)
    shutil.rmtree(folder / "tree")
    note("made kernel and disk", since)
    try:
        for number, names in enumerate(boots, 1):
            yield machine.boot(kernel, initrd, disk, f"visitd.emulated visitd.tests={','.join(names)}", folder / f"console-{number}", BOOT_LIMIT_S)
    finally:
        disk.unlink(missing_ok=True)


def boot_here(folder: Path, base: Path, made: packages.Packages, limit_s: float):
    """What the tests printed."""
    console = folder / "console-here"
    with tempfile.TemporaryDirectory() as layer:
        add_tests(Path(layer), made)
        with namespaces.Machine(base, [Path(layer)]) as booted, open(console, "wb") as output:
            command = booted.command("env", f"VISITD_BOOT_LIMIT_S={limit_s}", "python3", "-u", f"/{IN_THE_GUEST}/run_tests.py", *HERE_TESTS)
            try:
                subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=BOOT_LIMIT_S)
            except subprocess.TimeoutExpired:
                print(f"the tests did not end within {BOOT_LIMIT_S} s", flush=True)
    yield console.read_text(errors="replace")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all the tests in the emulated machine")
    parser.add_argument("--here", action="store_true", help="on this machine's kernel, in namespaces")
    parser.add_argument("--debian", choices=debian_tree.RELEASES, help="another Debian than this machine's")
    parser.add_argument("--strict", action="store_true", help="with --here: hold to the second that is promised")
    options = parser.parse_args()
    cannot = namespaces.why_not() if options.here else machine.can_emulate()
    if cannot:
        print(f"boot.py: {cannot}")
        return SKIPPED
    since = time.monotonic()
    own = platform.freedesktop_os_release()["VERSION_CODENAME"]
    suite = debian_tree.RELEASES[options.debian] if options.debian else own
    release = options.debian if suite != own else ""
    folder = packages.BUILD_ROOT / "boot" / suite
    # A package is installed on the Debian on which it was built.
    made = packages.build(release)
    note(f"built {made.current.name} and {made.following.name}", since)
    base = folder / "base"
    debian_tree.make_tree(base, suite, sorted({*IN_THE_TREE, *debian_tree.dependencies(made.current)}))
    note(f"made a Debian ({suite})", since)
    total, failed = 0, 0
    limit_s = STRICT_LIMIT_S if options.strict else LIMIT_S
    boots = FULL_BOOTS if options.full else SHORT_BOOTS
    for output in boot_here(folder, base, made, limit_s) if options.here else emulated_boots(folder, base, made, release, since, boots):
        said, ran, passed = judge(output)
        total += ran
        note(f"booted: {ran} tests {'passed' if passed else 'FAILED'}", since)
        # Set off, so that what ran inside is counted once: in the summary below.
        print("".join(f"  | {line}\n" for line in (said or output[-12000:]).splitlines()), flush=True)
        if not passed:
            failed += 1
            break  # the next boot builds on what this one left
    # The summary that tests/run counts.
    print(f"Ran {total} tests in {time.monotonic() - since:.1f}s\n\n{f'FAILED (failures={failed})' if failed else 'OK'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
