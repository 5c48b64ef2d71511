#!/usr/bin/env python3
"""Boots a fresh Debian, installs the package in it, hurts it, upgrades it, reboots it, and removes it.

    boot.py [--suite bookworm]       in an emulated machine: a kernel of its own, no network, two boots

The tests that run inside are guest/test_*.py; what they print is shown here, and counts.
"""

import argparse
import re
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "package")]

import debian_tree  # noqa: E402
import machine  # noqa: E402
import packages  # noqa: E402

FIRST_BOOT = ["test_install", "test_heals", "test_upgrade", "test_pending"]
SECOND_BOOT = ["test_rebooted", "test_removal"]
# What a small server has, and what the tests inside need.
IN_THE_TREE = ["systemd", "systemd-sysv", "dbus", "redis-server", "redis-tools", "curl", "python3"]
IN_THE_GUEST = "opt/visitd-boot-tests"
BOOT_LIMIT_S = 900.0


def note(text: str, since: float) -> None:
    print(f"[{time.monotonic() - since:6.1f} s] {text}", flush=True)


def prepare_tree(base: Path, tree: Path, made: packages.Packages) -> None:
    """A copy of the base in which the tests of this boot start by themselves."""
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(base, tree, symlinks=True, ignore=shutil.ignore_patterns("dev"))
    (tree / "dev").mkdir(exist_ok=True)
    guest = tree / IN_THE_GUEST
    shutil.copytree(HERE / "guest", guest, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(made.current, guest / "visitd-current.deb")
    shutil.copy(made.following, guest / "visitd-following.deb")
    units = tree / "etc/systemd/system"
    shutil.move(guest / "visitd-boot-tests.service", units / "visitd-boot-tests.service")
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/visitd-boot-tests.service").symlink_to("/etc/systemd/system/visitd-boot-tests.service")
    # Nobody logs in; without udev, systemd would wait a minute and a half for the terminal to show up.
    (units / "serial-getty@ttyS0.service").symlink_to("/dev/null")
    (tree / "etc/hostname").write_text("fresh-debian\n")
    (tree / "etc/fstab").write_text("")


def judge(console: str) -> tuple[str, int, bool]:
    """What the tests inside said, how many ran, and whether all passed."""
    said = console.partition("visitd boot tests: begin")[2]
    ran = re.search(r"^Ran (\d+) tests? in", said, re.MULTILINE)
    return said, int(ran[1]) if ran else 0, "visitd boot tests: passed" in said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="bookworm", help="Debian's release")
    options = parser.parse_args()
    cannot = machine.can_emulate()
    if cannot:
        print(f"boot.py: {cannot}")
        return 77  # meson: skipped
    since = time.monotonic()
    folder = packages.BUILD_ROOT / "boot" / options.suite
    made = packages.build()
    note(f"built {made.current.name} and {made.following.name}", since)
    base = folder / "base"
    debian_tree.make_tree(base, options.suite, sorted({*IN_THE_TREE, *debian_tree.dependencies(made.current)}))
    kernel, initrd = machine.fetch_kernel(folder / "kernel")
    note(f"made a Debian ({options.suite})", since)
    prepare_tree(base, folder / "tree", made)
    disk = folder / "disk.img"
    machine.make_disk(folder / "tree", disk)
    shutil.rmtree(folder / "tree")
    note("made its disk", since)
    total, failed = 0, 0
    try:
        for number, names in enumerate((FIRST_BOOT, SECOND_BOOT), 1):
            console = machine.boot(kernel, initrd, disk, f"visitd.emulated visitd.tests={','.join(names)}", folder / f"console-{number}", BOOT_LIMIT_S)
            said, ran, passed = judge(console)
            total += ran
            note(f"boot {number}: {ran} tests {'passed' if passed else 'FAILED'}", since)
            print(said or console[-12000:], flush=True)
            if not passed:
                failed += 1
                break  # the next boot builds on what this one left
    finally:
        disk.unlink(missing_ok=True)
    # The summary that tests/run counts.
    print(f"Ran {total} tests in {time.monotonic() - since:.1f}s\n\n{f'FAILED (failures={failed})' if failed else 'OK'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
