#!/usr/bin/env python3
"""Runs one fuzz target: first every seed and every finding of former times, then new inputs made from them.

An input that is broken is kept in the folder fuzz-findings of the build; mended, it belongs below tests/fuzz/findings.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import seeds

FINDINGS = Path(__file__).resolve().parent / "findings"


def write_corpus(target: str, folder: Path) -> tuple[Path, Path]:
    """The seeds as files, and the words of the input's language as libFuzzer reads them."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds.SEEDS[target]):
        (corpus / f"{number:03}").write_bytes(seed)
    dictionary = folder / "words"
    lines = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in seeds.WORDS[target])
    dictionary.write_text("".join(lines))
    return corpus, dictionary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=sorted(seeds.SEEDS))
    parser.add_argument("program", type=Path)
    parser.add_argument("--seconds", type=int, default=0, help="how long (0: as many runs as --runs says)")
    parser.add_argument("--runs", type=int, default=-1, help="how many inputs (-1: as long as --seconds says)")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other inputs")
    parser.add_argument("--longest", type=int, default=1000, help="bytes of the longest input")
    options = parser.parse_args()
    if options.seconds <= 0 and options.runs < 0:
        parser.error("--seconds or --runs says how much")

    program = options.program.resolve()
    kept = Path(os.environ.get("MESON_BUILD_ROOT", program.parent)) / "fuzz-findings"
    kept.mkdir(exist_ok=True)
    # Memory that was given back is watched for a while, not for ever, and where it came from is not noted: that costs a third.
    # The program run alone with an input that is broken tells all.
    environment = os.environ | {"ASAN_OPTIONS": "quarantine_size_mb=4:malloc_context_size=0"}
    known = sorted(str(path) for path in (FINDINGS / options.target).glob("*"))
    with tempfile.TemporaryDirectory(prefix="visitd-fuzz-") as name:
        corpus, dictionary = write_corpus(options.target, Path(name))
        common = [str(program), f"-artifact_prefix={kept}/{options.target}-", "-timeout=10", "-rss_limit_mb=1024"]
        replay = [*common, "-runs=1", *known, *sorted(map(str, corpus.iterdir()))]
        search = [*common, f"-seed={options.seed}", f"-max_len={options.longest}", f"-dict={dictionary}",
                  f"-max_total_time={options.seconds}", f"-runs={options.runs}", "-print_final_stats=1", "-verbosity=1",
                  str(corpus)]  # fmt: skip
        for what, command in (("the known inputs", replay), ("new inputs", search)):
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="backslashreplace", env=environment)  # fmt: skip
            if done.returncode != 0:
                print(done.stdout[-20000:])
                print(f"{options.target}: {what} have found a fault; its input is in {kept} (or among the known ones), and is run by\n"
                      f"  {program} INPUT")  # fmt: skip
                return 1
        statistics = [line for line in done.stdout.splitlines() if line.startswith("stat::")]
        print(f"{options.target}: {len(known)} findings of former times and {len(seeds.SEEDS[options.target])} seeds hold")
        print("\n".join(statistics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
