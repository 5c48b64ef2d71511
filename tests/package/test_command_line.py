#!/usr/bin/env python3
"""Manual pages and completions say what the programs take, no less and no more."""

import base64
import hashlib
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import FLUSHER, FRONTEND, SOURCE_ROOT, VISITCTL

MAN = SOURCE_ROOT / "deploy/man"
COMPLETIONS = SOURCE_ROOT / "deploy/completions"


def said(*words: str | Path, **options) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, **options)
    if done.returncode != 0:
        raise AssertionError(f"{words}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def long_options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text))


def commands(*group: str) -> list[str]:
    """Of visitctl, or of a group of its commands."""
    sections = re.split(r"^subcommands:$", said(VISITCTL, *group, "--help"), flags=re.MULTILINE | re.IGNORECASE)
    return re.findall(r"^  ([a-z-]+)\b", sections[1], re.MULTILINE) if len(sections) > 1 else []


def options_of(command: str) -> set[str]:
    """Of a group, those of its commands too."""
    if not command:
        return long_options(said(VISITCTL, "--help"))
    texts = [said(VISITCTL, command, "--help"), *(said(VISITCTL, command, inner, "--help") for inner in commands(command))]
    return set().union(*map(long_options, texts))


def bash_completes(line: str) -> list[str]:
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    script = f"""source {shlex.quote(str(COMPLETIONS / "visitctl.bash"))}
COMP_WORDS=({" ".join(shlex.quote(word) for word in words)}) COMP_CWORD={len(words) - 1}
compopt() {{ :; }}
_visitctl visitctl {shlex.quote(words[-1])} {shlex.quote(words[-2])}
printf '%s\\n' "${{COMPREPLY[@]}}" """
    return said("bash", "--norc", "-c", script).split()


def fish_completes(line: str) -> list[str]:
    with tempfile.TemporaryDirectory() as home:
        out = said("fish", "--no-config", "-c", f"source {shlex.quote(str(COMPLETIONS / 'visitctl.fish'))}; complete -C {shlex.quote(line)}",
                   env={"HOME": home, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})  # fmt: skip
    return [candidate.split("\t")[0] for candidate in out.splitlines()]


class Completions(unittest.TestCase):
    def check(self, completes) -> None:
        self.assertGreater(len(commands()), 7)
        self.assertEqual(sorted(completes("visitctl ")), sorted(commands()))
        self.assertEqual(set(completes("visitctl --")), options_of(""))
        for command in commands():
            offered = set(completes(f"visitctl {command} --"))
            own = options_of(command) - {"--help"}
            self.assertEqual(offered - {"--config", "--json", "--help"}, own, command)
            if inner := commands(command):
                self.assertEqual(sorted(completes(f"visitctl {command} ")), sorted(inner))
        self.assertEqual(completes("visitctl --json fl"), ["flush"])

    def test_bash(self):
        self.check(bash_completes)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "settings.toml").touch()
            self.assertEqual(bash_completes(f"visitctl --config {folder}/set"), [f"{folder}/settings.toml"])

    def test_fish(self):
        self.check(fish_completes)

    def test_zsh_names_all_of_it_and_parses(self):
        path = COMPLETIONS / "_visitctl"
        said("zsh", "-n", path)
        text = path.read_text()
        self.assertEqual(re.findall(r"^    '([a-z-]+):", text, re.MULTILINE), commands())
        wanted = set().union(*(options_of(command) for command in ["", *commands()]))
        self.assertEqual(long_options(text), wanted)
        for group in commands():
            if inner := commands(group):
                self.assertIn(f"{group}) _arguments $common '1:what:({' '.join(inner)})'", text)


class Embed(unittest.TestCase):
    def lines(self, *options: str, settings: str = "# as they are\n") -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "visitd.toml"
            file.write_text(settings)
            return said(VISITCTL, "--config", file, "embed", *options).splitlines()

    @staticmethod
    def hash_of(name: str) -> str:
        content = (SOURCE_ROOT / "common/page" / name).read_bytes()
        return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()

    def test_the_line_has_the_hash_of_the_script_and_is_that_of_the_manual(self):
        line, element = self.lines("--url", "https://counter.example/", "--count")
        self.assertEqual(line, f'<script defer src="https://counter.example/count.1.js" integrity="{self.hash_of("count.1.js")}" crossorigin="anonymous"></script>')
        self.assertEqual(element, "<span data-visits></span>")
        self.assertIn(line, (SOURCE_ROOT / "docs/embed.md").read_text())
        self.assertIn(f"{line}\n{element}", (SOURCE_ROOT / "docs/visitctl.md").read_text())
        pinned = self.lines("--url", "https://counter.example", "--pin")[0]
        self.assertEqual(pinned, f'<script type="importmap">{{"integrity": {{"https://counter.example/show.1.js": "{self.hash_of("show.1.js")}"}}}}</script>')
        self.assertIn(pinned, (SOURCE_ROOT / "docs/embed.md").read_text())

    def test_it_follows_the_settings_and_escapes_the_name(self):
        settings = '[http]\napi_prefix = "/c"\nscript_path = "/s.js"\nvisit_path = "/v/"\n'
        (line,) = self.lines("--page", 'a "b" & <c>', "--bfcache", "--frames", "--respect", settings=settings)
        self.assertIn('src="/c/s.1.js"', line)
        self.assertTrue(line.endswith(' data-path="v" data-page="a &quot;b&quot; &amp; &lt;c>" data-bfcache data-frames data-respect></script>'), line)
        self.assertEqual(len(self.lines("--total")), 3)  # a remark: nobody but the owner reads it
        self.assertEqual(len(self.lines("--total", settings="[owner]\npublic_lists = true\n")), 2)

    def test_a_url_that_is_none_is_refused(self):
        for url in ("counter.example", "ftp://counter.example", 'https://a"b', "https://a b", "https://", "https://a/?x", "https://a/#x"):
            done = subprocess.run([VISITCTL, "embed", "--url", url], capture_output=True, text=True, timeout=60)
            self.assertEqual((done.returncode, done.stdout), (2, ""), url)
            self.assertIn("is refused; allowed: http:// or https://", done.stderr)


class ManualPages(unittest.TestCase):
    def test_pages_have_every_option_and_no_other(self):
        for program, page in ((FRONTEND, "visit-frontend.8"), (FLUSHER, "visit-flusher.8"), (VISITCTL, "visitctl.1")):
            text = (MAN / page).read_text()
            told = {f"--{name}" for name in re.findall(r"^\.It (?:Fl [hV] , -|Fl -)([a-z-]+)", text, re.MULTILINE)}
            for command in re.findall(r"^\.It Cm.*$", text, re.MULTILINE):
                told |= {f"--{name}" for name in re.findall(r"Fl -([a-z-]+)", command)}
            takes = long_options(said(program, "--help"))
            if program == VISITCTL:
                self.assertEqual(re.findall(r"^\.It Cm ([a-z-]+)", text, re.MULTILINE), commands())
                for group in commands():
                    told_of = " ".join(re.findall(rf"^\.It Cm {group} (.*)$", text, re.MULTILINE))
                    for inner in commands(group):
                        self.assertRegex(told_of, rf"\b{inner}\b")
                takes |= set().union(*(options_of(command) for command in commands()))
            self.assertEqual(told, takes, page)

    def test_pages_are_well_formed(self):
        with tempfile.TemporaryDirectory() as folder:
            settings = Path(folder) / "visitd.toml.5"
            said(MAN / "settings_page.py", SOURCE_ROOT / "deploy/visitd.toml", settings)
            for page in (*MAN.glob("*.[158]"), settings):
                said("mandoc", "-T", "lint", "-W", "warning", page)

    def test_the_page_of_the_settings_has_every_one(self):
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "visitd.toml.5"
            said(MAN / "settings_page.py", SOURCE_ROOT / "deploy/visitd.toml", page)
            rendered = said("mandoc", "-T", "utf8", page)
        rendered = re.sub(".\b", "", rendered)
        keys = re.findall(r"^#([a-z_]+) = (.+)$", (SOURCE_ROOT / "deploy/visitd.toml").read_text(), re.MULTILINE)
        self.assertGreater(len(keys), 40)
        for key, value in keys:
            self.assertIn(f"{key} = {value}", re.sub(r"\s+", " ", rendered))


if __name__ == "__main__":
    unittest.main()
