#!/usr/bin/env python3
"""Runs tests inside: those that are named as arguments, or, started by systemd, on the kernel's command line."""

import re
import subprocess
import sys
import unittest
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> int:
    found = re.search(r"visitd\.tests=(\S+)", Path("/proc/cmdline").read_text())
    names = sys.argv[1:] or (found[1].split(",") if found else [])
    sys.path.insert(0, str(FOLDER))
    print(f"\nvisitd boot tests: begin {','.join(names)}", flush=True)
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, failfast=True).run(suite)
    if not result.wasSuccessful():
        said = subprocess.run(["journalctl", "--no-pager", "-b", "-o", "short-monotonic", "-n", "100"], capture_output=True, text=True, timeout=300)
        print(said.stdout, flush=True)
    verdict = "passed" if result.wasSuccessful() and result.testsRun > 0 else "failed"
    print(f"\nvisitd boot tests: {verdict}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
