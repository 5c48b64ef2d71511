#!/usr/bin/env python3
"""The Dockerfile without an engine: each RUN and COPY is carried out in a fresh Debian, compose.yaml's processes run in what comes out, and
that Debian's proxies in front of it."""

import functools
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import test_containers
from debian import Debian, copy_project
from harness import SOURCE_ROOT


def steps() -> list[tuple[str, str]]:
    lines = (SOURCE_ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line and not line.startswith("#")]


def copy(source: Path, words: list[str], target: Path) -> None:
    """COPY: what a folder holds, or files, and owners where --chown says so."""
    options = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *froms, to = [word for word in words if not word.startswith("--")]
    place = target / to.lstrip("/")
    for name in froms:
        what = source / name.lstrip("/")
        place.mkdir(parents=True, exist_ok=True) if what.is_dir() else place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-R", "--preserve=mode,links", f"{what}/." if what.is_dir() else what, place], check=True)
        if "chown" in options:
            subprocess.run(["chown", "-R", options["chown"], place], check=True)


def carry_out(debian: Debian, image: Path) -> None:
    """All steps; the last stage in `image`."""
    context = debian.root / "context"
    copy_project(context)
    folder, stage = "/", 0
    for name, rest in steps():
        words = shlex.split(rest)
        if name == "FROM":
            stage += 1
            expected = ["debian:${DEBIAN}-slim", "AS", "build"] if stage == 1 else ["scratch"]
            assert words == expected, words
        elif name == "WORKDIR":
            folder = rest
            (debian.root / folder.lstrip("/")).mkdir()
        elif name == "RUN":
            debian.run(rest, folder, {"CXX": ""})
        elif name == "COPY" and stage == 1:
            copy(context, [words[0], folder + "/" + words[1]] if words != [".", "."] else [".", folder], debian.root)
        elif name == "COPY":
            copy(debian.root, words, image)


@functools.cache
def built_image(release: str) -> tuple[Debian, Path]:
    """The Debian in which the image of a release was built, and the image; made once for all tests."""
    folder = Path(tempfile.mkdtemp(prefix="visitd-built-image-"))
    unittest.addModuleCleanup(shutil.rmtree, folder, ignore_errors=True)
    debian = Debian(release)
    unittest.addModuleCleanup(debian.close)
    carry_out(debian, folder)
    return debian, folder


class BuiltImage:
    """All that holds of an image from programs that were built here holds of this one."""

    release: str

    def make_image(self, folder: Path) -> Path:
        image = folder / "image"
        subprocess.run(["cp", "-a", built_image(self.release)[1], image], check=True)
        image.chmod(0o755)
        test_containers.add_what_an_engine_adds(image)
        return image


class Image12(BuiltImage, test_containers.Image):
    release = "12"


class Layout12(BuiltImage, test_containers.Layout):
    release = "12"


class Image13(BuiltImage, test_containers.Image):
    release = "13"


class Layout13(BuiltImage, test_containers.Layout):
    release = "13"


class Proxies(unittest.TestCase):
    """The proxies of each release in front of the programs that were built on it: those of 13 speak HTTP/3 where those of 12 do not."""

    def try_them(self, release: str) -> None:
        debian, _ = built_image(release)
        debian.install("caddy", "curl", "haproxy", "nginx", "openssl", "procps", "python3", "redis-server")
        said = debian.run("python3 tests/outside/test_proxies.py -v", "/context", {"VISITD_BUILD_ROOT": "/build", "PYTHONPATH": "tests/integration"})
        self.assertRegex(said, r"(?m)^OK$")

    def test_on_debian_12(self):
        self.try_them("12")

    def test_on_debian_13(self):
        self.try_them("13")


if __name__ == "__main__":
    unittest.main()
