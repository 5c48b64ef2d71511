#!/usr/bin/env python3
"""Builds visitd in several ways, runs the tests of each with meson, and the checks of the sources. tests/run calls it."""

import argparse
import functools
import json
import os
import re
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from commands import ROOT, Beside, read, run
from left_segments import left_since, unused_segments
from project_files import project_files

CORES = os.cpu_count() or 2
# Most tests wait for most of their time: four of them keep two cores busy.
TESTS_AT_ONCE = 2 * CORES
CLANG_FORMAT = "clang-format-19"
RUN_CLANG_TIDY = "run-clang-tidy-19"
# Left to the campaign. The path-sensitive analyzer takes several times as long as all else together, the next one half as long again,
# and the others a third of the rest, for faults that gcc finds as well or that this code has never had.
SLOW_CHECKS = [
    "clang-analyzer-*",
    "performance-unnecessary-value-param",
    "bugprone-assert-side-effect",
    "bugprone-inc-dec-in-conditions",
    "bugprone-multiple-statement-macro",
    "bugprone-standalone-empty",
    "bugprone-stringview-nullptr",
    "bugprone-suspicious-semicolon",
    "bugprone-suspicious-string-compare",
    "readability-redundant-inline-specifier",
]
CLANG_TIDY = "clang-tidy-19"
SOURCE_FOLDERS = ("common", "frontend", "flusher", "ctl", "tests")
# Of a crash, or a sanitizer's report, lines are wanted, and nothing else of what a debugger needs: it takes a third of the time to compile.
LINES_ALONE = ["-Ddebug=false", "-Dcpp_args=-g1"]
OPTIMIZED = ["--buildtype=debugoptimized", *LINES_ALONE]
# With sanitizers clang compiles in a fourth of gcc's time, and unoptimized in a third of that.
CLANG = "clang++-19"
QUICK_DEBUG = ["--buildtype=debug", "-Doptimization=0", *LINES_ALONE]
# What real processes do in real time: a test that failed beside others is run once more at the end, when nothing else runs, and both
# runs are shown. What is broken fails twice; a machine that stood still does not.
TIMED_SUITES = ("integration", "crash", "upgrade", "quickstart", "outside", "boot")
LONG_SUITES = ("bench", "campaign", "fuzz-campaign")  # only when asked for
# Beside a suite of its own: what only the campaign runs of it, and what sanitizers look at in each run.
NIGHTLY, SANITIZED_SUITE = "nightly", "sanitized"


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)  # what failed, a line each: told again at the end, where a log that was cut has it
    said: str = ""  # what is to be shown of it

    @staticmethod
    def failure(what: str, said: str = "") -> "Tally":
        return Tally(failed=1, failures=[what], said=said)

    def add(self, other: "Tally") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        self.said += other.said

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass
class Way:
    """One way to build and test."""

    name: str
    folder: str
    options: list[str]
    suites: list[str]  # empty: all but the long ones
    environment: dict[str, str]
    wrapper: str = ""
    without: str = ""  # tests of this suite are not run, though they are in another suite that is
    compiler: str = ""  # empty: the usual one


NORMAL = Way("normal build", "build", OPTIMIZED, [], {}, without=NIGHTLY)
NORMAL_AND_NIGHTLY = replace(NORMAL, without="")
SANITIZED = Way(
    "ASan and UBSan",
    "build-asan",
    [*QUICK_DEBUG, "-Db_sanitize=address,undefined", "-Db_lundef=false"],
    [SANITIZED_SUITE],
    {
        "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    },
    compiler=CLANG,
)
THREADS = Way(
    "TSan",
    "build-tsan",
    [*QUICK_DEBUG, "-Db_sanitize=thread", "-Db_lundef=false"],
    ["threads"],
    {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"},
    # ThreadSanitizer wants its shadow memory where a randomised address space may have put something else.
    wrapper="setarch -R",
    compiler=CLANG,
)
FUZZ = Way(
    "fuzz targets",
    "build-fuzz",
    [*OPTIMIZED, "-Dfuzz=true"],
    ["fuzz"],
    {},
    compiler=CLANG,  # libFuzzer is its
)

# Whether each file includes what it uses. The other ways compile several files at once.
ALONE = Way("files alone", "build-alone", ["--buildtype=debug", "-Ddebug=false", "--unity=off"], [], {})
# All sources of a room at once.
TIDY = Way("clang-tidy", "build-tidy", ["--buildtype=debugoptimized", "-Dunity_size=32"], [], {})


_set_up: set[Path] = set()  # build folders, in this run


def headline(text: str) -> None:
    print(f"\n== {text}", flush=True)


def setup(way: Way) -> str:
    """Empty, or what meson said where it failed."""
    folder = ROOT / way.folder
    if folder in _set_up:
        return ""  # its tests may be running
    options = [f"{ROOT}", *way.options, "-Dtests=true"]
    known = ["--reconfigure"] if (folder / "build.ninja").exists() else []
    environment = os.environ | ({"CXX": way.compiler} if way.compiler else {})
    done = read("meson", "setup", *known, folder, *options, env=environment)
    if done.returncode != 0:
        return done.stdout
    _set_up.add(folder)
    return ""


def count(entry: dict) -> Tally:
    """How many single tests one entry of meson's log stands for, by the summary that doctest or unittest printed."""
    output = entry.get("stdout", "") + entry.get("stderr", "")
    tally = Tally()
    found = False
    for passed, failed, skipped in re.findall(r"\[doctest\] test cases: +\d+ \| +(\d+) passed \| +(\d+) failed \| +(\d+) skipped", output):
        tally.add(Tally(int(passed), int(failed), int(skipped)))
        found = True
    for ran, verdict in re.findall(r"^Ran (\d+) tests? in .*\n\n(.*)$", output, re.MULTILINE):
        number = {name: int(value) for name, value in re.findall(r"([a-z ]+)=(\d+)", verdict)}
        failed = number.get("failures", 0) + number.get("errors", 0) + number.get("unexpected successes", 0)
        skipped = number.get("skipped", 0)
        tally.add(Tally(max(0, int(ran) - failed - skipped), failed, skipped))
        found = True
    result = entry["result"]
    if result == "SKIP":
        return Tally(skipped=1)
    if result in ("OK", "EXPECTEDFAIL"):
        if not found:
            return Tally(passed=1)
        # A program that says of itself that a test failed has failed, whatever status it ended with.
        return tally
    if tally.failed == 0:
        tally.failed = 1  # it crashed, ran out of time, or found a fault after its summary
    return tally


def suites_of(entry: dict) -> set[str]:
    return {suite.partition(":")[2] or suite for suite in entry["suite"]}


def targets(folder: Path, entries: list[dict]) -> list[str]:
    """The names, for ninja, of the programs that these tests run, or ask for."""
    known = json.loads(run("meson", "introspect", "--targets", folder, capture_output=True, text=True, check=True).stdout)
    files = {target["id"]: target["filename"] for target in known}
    wanted = {word for entry in entries for word in entry["cmd"]}
    wanted |= {name for entry in entries for identity in entry["depends"] for name in files.get(identity, [])}
    built = {name for names in files.values() for name in names}
    return sorted(os.path.relpath(name, folder) for name in wanted & built)


@dataclass
class Built:
    """A way, ready for its tests, or why it is not."""

    way: Way
    suites: list[str]
    took_s: float = 0.0
    fault: Tally | None = None


def build(way: Way, suites: list[str]) -> Built:
    folder = ROOT / way.folder
    if fault := setup(way):
        return Built(way, suites, fault=Tally.failure(f"{way.name}: cannot be set up", fault))
    listed = json.loads(run("meson", "introspect", "--tests", folder, capture_output=True, text=True, check=True).stdout)
    there = {suite for entry in listed for suite in suites_of(entry)}
    lacking = [suite for suite in suites if suite not in there]
    if lacking:
        return Built(way, suites, fault=Tally.failure(f"{way.name}: there is no suite {', '.join(lacking)}; there are: {', '.join(sorted(there))}"))
    chosen = suites or sorted(there - {*LONG_SUITES, NIGHTLY, SANITIZED_SUITE})
    needed = targets(folder, [entry for entry in listed if suites_of(entry) & set(chosen) and way.without not in suites_of(entry)])
    started = time.monotonic()
    done = read("ninja", "-C", folder, "--quiet", f"-j{CORES}", *needed)
    fault = Tally.failure(f"{way.name}: the build failed", done.stdout) if done.returncode != 0 else None
    return Built(way, chosen, time.monotonic() - started, fault)


@dataclass
class Tested:
    """What meson logged of the tests of a way, and what else there is to say of them."""

    built: Built
    tally: Tally
    entries: list[dict] = field(default_factory=list)
    whole: bool = True
    took_s: float = 0.0


def test(built: Built) -> Tested:
    headline(built.way.name)
    if built.fault:
        print(built.fault.said, flush=True)
        return Tested(built, built.fault)
    started = time.monotonic()
    segments_before = unused_segments()
    entries, whole = meson_test(built.way, built.suites)
    left = left_since(segments_before)
    tally = Tally(failed=1, failures=[f"{built.way.name}: the tests left {line}" for line in left]) if left else Tally(passed=1)
    return Tested(built, tally, entries, whole, time.monotonic() - started)


def settle(tested: Tested) -> Tally:
    """What the tests of a way came to, those that are to be run once more among them."""
    way, tally = tested.built.way, tested.tally
    passed = []
    for entry in filter(has_failed, list(tested.entries)):
        # As meson logs it: PROJECT:SUITE / NAME, or PROJECT:SUITE+SUITE / NAME.
        suites_named, _, name = entry["name"].partition(":")[2].rpartition(" / ")
        suite = suites_named.partition("+")[0]
        if suite not in TIMED_SUITES:
            continue
        print(f"{way.name}: {entry['name']} failed; once more, alone", flush=True)
        second, second_whole = meson_test(way, [suite], name)
        if second and second_whole and not any(map(has_failed, second)):
            passed.append(entry["name"])
            tested.entries.remove(entry)
            tested.entries += second
    for entry in tested.entries:
        tally.add(count(entry))
        if has_failed(entry):
            tally.failures.append(f"{way.name}: {entry['name']}: {entry['result']}")
    if not tested.whole and tally.failed == 0:
        tally.add(Tally.failure(f"{way.name}: meson did not run all of the tests"))
    if passed:
        print(f"{way.name}: failed at first, see above, and passed alone: {', '.join(passed)}")
    print(f"{way.name}: {tally} (built in {tested.built.took_s:.0f} s, tested in {tested.took_s:.0f} s)")
    return tally


def meson_test(way: Way, suites: list[str], *names: str) -> tuple[list[dict], bool]:
    """Runs the tests of these suites, or of those the named. What meson logged of each, and whether that is all that it has to say."""
    folder = ROOT / way.folder
    # meson names the log after the wrapper where there is one.
    for old in folder.glob("meson-logs/testlog*.json"):
        old.unlink()
    command = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", "--num-processes", TESTS_AT_ONCE, "--timeout-multiplier", "3"]
    if way.wrapper:
        command += ["--wrapper", way.wrapper]
    for suite in suites:
        command += ["--suite", suite]
    if way.without:
        command += ["--no-suite", way.without]
    status = run(*command, *names, env=os.environ | way.environment).returncode
    entries = [json.loads(line) for log in folder.glob("meson-logs/testlog*.json") for line in log.read_text().splitlines()]
    return entries, bool(entries) and (status == 0 or any(map(has_failed, entries)))


def has_failed(entry: dict) -> bool:
    return count(entry).failed > 0


def step(name: str, *command: str | Path) -> Tally:
    """One check of the sources: quiet where it passes."""
    if shutil.which(str(command[0])) is None:
        return Tally.failure(f"{name}: {command[0]} is not installed")
    started = time.monotonic()
    done = read(*command)
    took = f"({time.monotonic() - started:.0f} s)"
    if done.returncode != 0:
        return Tally.failure(name, f"{name}: failed {took}\n{done.stdout[-20000:]}\n")
    return Tally(passed=1, said=f"{name}: passed {took}\n")


def lint(deep: bool) -> Tally:
    """`deep`: each file compiled alone, and the slow checks of clang-tidy too."""
    tally = Tally()
    cpp = project_files(ROOT, *(f"{folder}/**.{kind}" for folder in SOURCE_FOLDERS for kind in ("cpp", "hpp")))
    tally.add(step("clang-format", CLANG_FORMAT, "--dry-run", "-Werror", *cpp))
    shell = [name for name in project_files(ROOT) if is_shell(ROOT / name)]
    tally.add(step("shellcheck", "shellcheck", "-x", *shell))
    done = read(sys.executable, ROOT / "tests/house_rules.py")
    rules = count({"stdout": done.stdout, "result": "OK" if done.returncode == 0 else "FAIL"})
    rules.said = f"house rules: {rules}\n"
    if done.returncode != 0:
        rules.said += done.stdout
        rules.failures.append("house rules")
    tally.add(rules)
    tally.add(clang_tidy(deep))
    if deep:
        tally.add(files_alone())
    return tally


def files_alone() -> Tally:
    if fault := setup(ALONE):
        return Tally.failure(f"{ALONE.name}: cannot be set up", fault)
    return step(ALONE.name, "ninja", "-C", ROOT / ALONE.folder, "--quiet", f"-j{CORES}")


def clang_tidy(deep: bool) -> Tally:
    """Several sources at once, as most of what it reads is the same for all of them: a quarter of the time."""
    folder = ROOT / TIDY.folder
    fault = setup(TIDY)
    made = read("ninja", "-C", folder, "--quiet", "frontend/api/documents.cpp", "frontend/shapes/busuanzi_script.cpp", "common/page/page_scripts.cpp")
    if fault or made.returncode != 0:
        return Tally.failure("clang-tidy: what it looks at cannot be set up", fault or made.stdout)
    ours = f"^{re.escape(str(folder))}/(libvisitd-|frontend/|flusher/|ctl/)"
    without = ["bugprone-suspicious-include", *([] if deep else SLOW_CHECKS)]
    return step("clang-tidy", RUN_CLANG_TIDY, "-quiet", "-checks=" + ",".join(f"-{check}" for check in without), "-p", folder, "-j", CORES,
                "-clang-tidy-binary", shutil.which(CLANG_TIDY) or CLANG_TIDY, "-extra-arg=-Wno-unknown-warning-option", ours)  # fmt: skip


def is_shell(path: Path) -> bool:
    if path.suffix == ".sh":
        return True
    if path.suffix or not os.access(path, os.X_OK):
        return False
    with open(path, "rb") as file:
        return re.match(rb"#!.*\b(ba|da)?sh\b", file.readline()) is not None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="tests/run",
        description="Installs what is missing, builds, and runs the tests: the normal build, the unit tests, the simulation and some tests "
        "with real processes again under ASan and UBSan, lanes, views and readers under TSan, fuzzing for some seconds, and the checks of the sources. Options choose a part.",
    )
    parser.add_argument("--no-install", action="store_true", help="install no packages: say which are missing")
    parser.add_argument("--suite", action="append", default=[], metavar="NAME", help="only this suite (again for more), in the ways chosen")
    parser.add_argument("--normal", action="store_true", help="the normal build")
    parser.add_argument("--sanitize", action="store_true", help="the ASan and UBSan build")
    parser.add_argument("--tsan", action="store_true", help="the TSan build")
    parser.add_argument("--fuzz", action="store_true", help="the fuzz targets, for some seconds each")
    parser.add_argument("--lint", action="store_true", help="the checks of the sources")
    parser.add_argument("--campaign", action="store_true", help="what a night has time for: the Debian package and its boots, all tests with sanitizers, the long campaigns, much fuzzing, and the checks of the sources with clang's analyzer")
    options = parser.parse_args()

    started = time.monotonic()
    chosen = options.normal or options.sanitize or options.tsan or options.fuzz or options.lint or options.campaign
    everything = not chosen and not options.suite
    parts = [
        (everything or options.normal or (options.suite and not chosen), NORMAL_AND_NIGHTLY if options.suite else NORMAL, options.suite or NORMAL.suites),
        (options.campaign, NORMAL_AND_NIGHTLY, ["campaign", NIGHTLY]),
        (everything or options.sanitize, SANITIZED, options.suite or SANITIZED.suites),
        (options.campaign, SANITIZED, ["unit", "simulation", "integration", "crash"]),
        (everything or options.tsan, THREADS, options.suite or THREADS.suites),
        (everything or options.fuzz, FUZZ, options.suite or FUZZ.suites),
        (options.campaign, FUZZ, ["fuzz-campaign"]),
    ]
    builds = [functools.partial(build, way, suites) for wanted, way, suites in parts if wanted]
    checks = [functools.partial(lint, deep=options.campaign)] if everything or options.lint or options.campaign else []
    # The first is waited for anyway; all else is made ready, and looked at, while tests wait.
    first = [builds.pop(0)()] if builds else []
    beside = Beside(*builds, *checks).results
    tested = [test(built) for built in first] + [test(result.result()) for result in beside[: len(builds)]]
    tally = Tally()
    for checked in beside[len(builds) :]:
        headline("checks of the sources")
        tally.add(checked.result())
        print(tally.said, flush=True)
    headline("results")
    for one in tested:
        tally.add(settle(one))
    print(f"\ntook {time.monotonic() - started:.0f} s")
    for failure in tally.failures:
        print(f"failed: {failure}")
    print(tally, flush=True)
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
