"""Packages of npm that tests run, as a package-lock.json beside them pins them: fetched when a test runs, and never part of the project."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import BUILD_ROOT

NPM_TRIES = 3


def installed(pinned: Path, name: str) -> Path:
    """The folder node_modules of what `pinned`/package.json and its lock name. It is kept in the build folder under `name`, or made for
    this run."""
    assert shutil.which("npm"), "npm is not installed"
    folder = BUILD_ROOT / name if BUILD_ROOT.is_dir() else Path(tempfile.mkdtemp(prefix="visitd-npm-"))
    lock = folder / "package-lock.json"
    modules = folder / "node_modules"
    if not modules.exists() or not lock.exists() or lock.read_text() != (pinned / lock.name).read_text():
        folder.mkdir(exist_ok=True)
        for file in ("package.json", lock.name):
            shutil.copy(pinned / file, folder)
        for _ in range(NPM_TRIES):
            done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=240)
            if done.returncode == 0:
                break
        else:
            lock.unlink()
            raise AssertionError(f"npm ci failed:\n{done.stdout}{done.stderr}")
    return modules
