"""The files of the project, and where it is built."""

import os
import subprocess
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[2]
# Taken out of the environment: our programs refuse a variable with this beginning that is no setting.
BUILD_ROOT = Path(os.environ.pop("VISITD_BUILD_ROOT", SOURCE_ROOT / "build")).resolve()


def project_files(root: Path, *patterns: str) -> list[str]:
    """What git knows below `root`, or would take, and is there; of `patterns`, where there are some. Names from the root on, sorted."""
    out = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return sorted(name for name in set(out.split("\n")) if name and (root / name).is_file())
