#!/usr/bin/env python3
"""The rules of this house that no compiler checks: who may include whom, who may name which library, and the look of files."""

import collections
import os
import re
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests/lib"), str(ROOT / "tests/simulation")]

import mutants  # noqa: E402
from project_files import project_files  # noqa: E402

# Who may include whom: a room, and the rooms that it uses. What a file's own room may use, the file may.
ROOMS = {
    "common/os": (),
    "common/shm": ("common/os",),
    "common/control": ("common/os",),
    "common/page": (),
    "common/pages": ("common/os",),
    "common/config": ("common/os", "common/shm", "common/pages"),
    "common/counter": ("common/os", "common/shm", "common/config"),
    "frontend/http": ("common/os", "common/shm"),
    "frontend/images": ("common/os", "frontend/http"),
    "frontend/api": ("common/os", "common/shm", "common/page", "common/pages", "common/config", "common/control", "common/counter", "frontend/http",
                     "frontend/images"),
    "frontend/shapes": ("common/os", "common/shm", "common/pages", "common/config", "common/control", "frontend/http", "frontend/images", "frontend/api"),
    "frontend/server": ("common/os", "common/config", "frontend/http", "frontend/api"),
    "frontend": ("common/os", "common/config", "common/counter", "frontend/api", "frontend/shapes", "frontend/server"),
    "flusher/counting": ("common/os", "common/shm", "common/control"),
    "flusher/redis": ("common/os", "common/config", "flusher/counting"),
    "flusher/spool": ("common/os", "common/shm", "flusher/counting"),
    "flusher": ("common/os", "common/shm", "common/config", "common/control", "common/counter", "flusher/counting", "flusher/redis", "flusher/spool"),
    "ctl": ("common/os", "common/shm", "common/page", "common/pages", "common/config", "common/control", "common/counter"),
    "deploy/settings": ("common/os", "common/config"),
}

# Each library is named in one module, which turns it into our terms. Tests may name what they test against.
LIBRARIES = {
    r"boost/": r"common/shm/shared_segment\.",
    r"toml\+\+|toml\.hpp": r"common/config/setting_file\.cpp",
    r"spdlog/": r"common/os/log\.cpp",
    r"xxhash": r"common/shm/hash\.cpp",
    r"httplib\.h": r"frontend/server/httplib_way\.",
    r"hiredis": r"flusher/redis/codec\.cpp|ctl/redis_source\.cpp",
    r"openssl/": r"flusher/redis/tls\.cpp",
    r"sqlite3\.h": r"flusher/spool/spool_database\.cpp",
    r"CLI/": r"common/config/program\.cpp|ctl/command_line\.hpp",
    r"nlohmann/": r"frontend/(api/(page_list|count_body)|shapes/vercount_body)\.cpp|common/control/control_protocol\.cpp|ctl/report\.hpp",
    r"systemd/": r"common/os/service_manager\.cpp",
    r"uv\.h": r"common/os/uv_handles\.hpp|(frontend|frontend/server|flusher|flusher/redis|flusher/spool)/[a-z_]+\.(cpp|hpp)",
}

# Files whose memory two processes share: ThreadSanitizer must be able to follow every access.
SHARED_MEMORY = re.compile(r"common/shm/(lane|view|ring_layout|cache_layout|shared_word|statistics)[a-z_]*\.")


FILES = project_files(ROOT)
CPP = [name for name in FILES if name.endswith((".cpp", ".hpp"))]
OURS = [name for name in CPP if not name.startswith("tests/")]
TEXT = {}
for _name in FILES:
    if _name.startswith("tests/fuzz/findings/"):
        continue  # inputs of programs, each byte as it was found
    try:
        TEXT[_name] = (ROOT / _name).read_text()
    except UnicodeDecodeError:
        pass


def code_lines(name: str):
    """Number and text of each line, without comments to its end."""
    for number, line in enumerate(TEXT[name].splitlines(), 1):
        yield number, re.sub(r"//.*", "", line)


def without_code_blocks(markdown: str) -> str:
    return re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)


def prose_lines(markdown: str):
    """Number and length of each line of prose: neither heading, table nor code. The target of a link, which cannot be wrapped, has no
    length."""
    in_block = in_list = False
    for number, line in enumerate(markdown.splitlines(), 1):
        if re.match(r"\s*```", line):
            in_block = not in_block
            continue
        if in_block or not line.strip() or re.match(r"#|\s*\|", line):
            continue
        if not line.startswith(" "):
            in_list = re.match(r"([-*+]|\d+\.) ", line) is not None
        if line.startswith("    ") and not in_list:
            continue
        yield number, len(re.sub(r"\]\([^)\s]*\)", "]()", line))


def anchors(markdown: str) -> set[str]:
    """The names by which a page's headings can be linked to."""
    headings = re.findall(r"^#+ +(.+)$", without_code_blocks(markdown), re.MULTILINE)
    plain = (re.sub(r"\]\([^)]*\)", "]", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


DECLARED_TYPE = re.compile(r"^\s*(?:class|struct|enum class|using|enum) (\w+)", re.MULTILINE)
DECLARED_FUNCTION = re.compile(r"^ *(?:\[\[nodiscard\]\] |static |virtual |constexpr |inline |explicit |template <[^>]*> )*(?!return|throw|else|case|using)"
                               r"[A-Za-z_][\w:<>, *&]*[ *&]([a-z_]\w*)\(", re.MULTILINE)  # fmt: skip
DEFINITION = re.compile(r"^[A-Za-z_][^;\n]*?\b(\w+)\(", re.MULTILINE)


def unused_declarations(sources: dict[str, str], ours: list[str]) -> list[str]:
    """Types and functions of headers that no source names but where they are declared and defined."""
    code = {name: re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', re.sub(r"//.*", "", text)) for name, text in sources.items()}
    words = collections.Counter(word for text in code.values() for word in re.findall(r"\w+", text))
    defined = {name for file, text in code.items() if file.endswith(".cpp") for name in DEFINITION.findall(text)}
    unused = []
    for file in ours:
        if file.endswith(".hpp"):
            unused += [f"{file}: {name}" for name in DECLARED_TYPE.findall(code[file]) if words[name] == 1]
            unused += [f"{file}: {name}" for name in DECLARED_FUNCTION.findall(code[file]) if words[name] <= (2 if name in defined else 1)]
    return unused


LONGEST_FUNCTION = 60


def functions(text: str):
    """First line, name as far as that line has it, and length of each function at the left margin or in a class there."""
    lines = text.splitlines()
    for margin in ("", "  "):
        begin = None
        for number, line in enumerate(lines, 1):
            if not line.startswith(margin) or not line[len(margin) :].strip() or line[len(margin)] == " ":
                continue
            if line == margin + "}":
                if begin is not None and not re.match(r"(export |inline |static )*(namespace|struct|class|enum|union)\b", lines[begin - 1].strip()):
                    yield begin, lines[begin - 1].strip(), number - begin + 1
                begin = None
            elif not line.lstrip().startswith(("}", "#", "//")):
                begin = number


class HouseRules(unittest.TestCase):
    def none(self, faults: list[str], rule: str) -> None:
        if faults:
            self.fail(f"{rule}:\n  " + "\n  ".join(faults))

    def test_includes_go_from_the_root_and_along_the_arrows_between_rooms(self):
        faults = []
        for name in OURS:
            room = os.path.dirname(name)
            if room not in ROOMS:
                faults.append(f"{name}: {room}/ is no room")
                continue
            for number, line in enumerate(TEXT[name].splitlines(), 1):
                included = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                if not included:
                    continue
                target = os.path.dirname(included[1])
                if target not in ROOMS:
                    faults.append(f"{name}:{number}: {included[1]} is not named from the root")
                elif target != room and target not in ROOMS[room]:
                    faults.append(f"{name}:{number}: includes {included[1]}; allowed from {room}/: {', '.join(ROOMS[room])}")
        self.none(faults, "every file lies in a room, and includes from its own and from those that ROOMS allows it")

    def test_arrows_between_rooms_run_one_way(self):
        def above(room: str, seen: tuple[str, ...]) -> None:
            self.assertNotIn(room, seen, " -> ".join((*seen, room)))
            for other in ROOMS[room]:
                above(other, (*seen, room))

        for room in ROOMS:
            above(room, ())

    def test_each_library_is_named_in_one_module(self):
        faults = []
        for name in OURS:
            for number, line in enumerate(TEXT[name].splitlines(), 1):
                included = re.match(r"\s*#\s*include\s+[<\"]([^>\"]+)[>\"]", line)
                for header, owner in LIBRARIES.items() if included else ():
                    if re.match(header, included[1]) and not re.match(owner, name):
                        faults.append(f"{name}:{number}: {included[1]} may be included only in {owner}")
        self.none(faults, "a third-party library is named in one module")

    def test_shared_memory_is_touched_by_atomics_only(self):
        faults = []
        for name in OURS:
            for number, line in code_lines(name):
                if re.search(r"\bvolatile\b|atomic_thread_fence|atomic_signal_fence", line):
                    faults.append(f"{name}:{number}: {line.strip()}")
                if SHARED_MEMORY.match(name) and re.search(r"\bmem(set|move)\s*\(|compare_exchange|fetch_(add|sub|or|and)", line):
                    faults.append(f"{name}:{number}: {line.strip()}")
        self.none(faults, "no volatile, no fences; in shared memory no memset and no read-modify-write")

    def test_no_timer_is_armed_with_0(self):
        # libuv before 1.45 runs due timers until none is due: one that arms itself with 0 keeps the loop from every socket.
        faults = []
        for name in OURS:
            for call in re.finditer(r"\buv_timer_start\s*\(", TEXT[name]):
                depth, at = 1, call.end()
                arguments = [""]
                while depth and at < len(TEXT[name]):
                    character = TEXT[name][at]
                    depth += {"(": 1, "{": 1, "[": 1, ")": -1, "}": -1, "]": -1}.get(character, 0)
                    if character == "," and depth == 1:
                        arguments.append("")
                    elif depth:
                        arguments[-1] += character
                    at += 1
                if arguments[2].strip() == "0":
                    faults.append(f"{name}:{TEXT[name].count(chr(10), 0, call.start()) + 1}: {' '.join(''.join(arguments).split())[:80]}")
        self.none(faults, "no timer is armed with 0: more work at once is an idle handle")

    def test_arrays_in_shared_memory_are_indexed_through_one_accessor(self):
        faults = []
        for name in OURS:
            for number, line in code_lines(name):
                if re.search(r"(\.|->)(shard|head|requests_read)\[", line) and "it.shard[" not in line:
                    faults.append(f"{name}:{number}: {line.strip()}")
        self.none(faults, "shard, head and requests_read of a CacheHeader are indexed with at_index, which checks the bound")

    def test_lines_of_cpp_fit(self):
        faults = [
            f"{name}:{number}: {len(line)} characters"
            for name in CPP
            for number, line in enumerate(TEXT[name].splitlines(), 1)
            if len(line) > 120
        ]
        self.none(faults, "lines of C++ have at most 120 characters")

    def test_what_a_header_declares_is_used(self):
        self.none(unused_declarations({name: TEXT[name] for name in CPP}, OURS), "what a header declares is defined and used")

    def test_what_is_unused_is_known(self):
        sources = {
            "a.hpp": "class A;\nstruct B {\n  [[nodiscard]] int used(int a);\n  void gone();\n  int inside() const { return 1; }\n  void never();\n};\n",
            "a.cpp": "int B::used(int a) {\n  return never_used;\n}\nvoid B::gone() {\n}\n",
            "b.cpp": "int x = B().used(1);  // gone()\n",
        }
        self.assertEqual(unused_declarations(sources, list(sources)), [f"a.hpp: {name}" for name in ("A", "gone", "inside", "never")])

    def test_functions_are_short(self):
        faults = [f"{name}:{begin}: {length} lines: {what}" for name in OURS for begin, what, length in functions(TEXT[name]) if length > LONGEST_FUNCTION]
        self.none(faults, f"a function has at most {LONGEST_FUNCTION} lines")

    def test_what_is_a_function_is_known(self):
        text = "int one(int a,\n        int b)\n    : c(b) {\n  return a;\n}\n\nstruct Two {\n  int three() {\n    return 3;\n  }\n};\n"
        self.assertEqual(list(functions(text)), [(1, "int one(int a,", 5), (8, "int three() {", 3)])

    def test_names_of_arguments_are_those_that_every_cli11_takes(self):
        faults = [
            f"{name}: {argument!r}"
            for name in CPP
            for argument in re.findall(r'add_option\(\s*"([^"]*)"', TEXT[name])
            if not re.fullmatch(r"-{0,2}[A-Za-z][\w-]*(,-{1,2}[A-Za-z][\w-]*)*", argument)
        ]
        self.none(faults, "CLI11 of Debian 13 throws at every start of a program that names an argument with a blank or an '='")

    def test_prose_of_the_documentation_wraps(self):
        faults = [
            f"{name}:{number}: {length} characters"
            for name, text in TEXT.items()
            if name.endswith(".md")
            for number, length in prose_lines(text)
            if length > 100
        ]
        self.none(faults, "prose of *.md has at most 100 characters a line; headings, tables, code blocks and targets of links are free")

    def test_what_is_prose_is_known(self):
        block = "x" * 120
        page = f"# {block}\n\n- a\n  b\n\n    {block}\n\n| {block} |\n\n  ```sh\n  {block}\n  ```\n[c]({block}), d\n\ne\n"
        self.assertEqual(list(prose_lines(page)), [(3, 3), (4, 3), (6, 124), (13, 8), (15, 1)])
        self.assertEqual(list(prose_lines(f"a\n\n    {block}\n\nb\n")), [(1, 1), (5, 1)])

    def test_headers_are_guarded_and_open_no_namespace(self):
        faults = []
        for name in CPP:
            if name.endswith(".hpp"):
                if "#pragma once" not in TEXT[name]:
                    faults.append(f"{name}: no #pragma once")
                if re.search(r"^\s*using namespace", TEXT[name], re.MULTILINE):
                    faults.append(f"{name}: using namespace in a header")
        self.none(faults, "headers have #pragma once and no using namespace")

    def test_text_is_clean(self):
        faults = []
        for name, text in TEXT.items():
            if text and not text.endswith("\n"):
                faults.append(f"{name}: no newline at its end")
            for number, line in enumerate(text.splitlines(), 1):
                if line != line.rstrip():
                    faults.append(f"{name}:{number}: blanks at the end")
                if "\t" in line and name.endswith((".cpp", ".hpp", ".py", ".md", ".build", ".lua")):
                    faults.append(f"{name}:{number}: a tab")
        self.none(faults, "no blanks at the end of lines, no tabs, a newline at the end")

    def test_what_has_a_shebang_can_be_run_and_nothing_else(self):
        faults = []
        for name, text in TEXT.items():
            runs = os.access(ROOT / name, os.X_OK)
            if runs != text.startswith("#!"):
                faults.append(f"{name}: {'is executable without a shebang' if runs else 'has a shebang and is not executable'}")
        self.none(faults, "executable bit and shebang go together")

    def test_nothing_of_one_machine_is_in_a_file(self):
        pattern = re.compile(r"(?<![\w.~}])/(work|root|home|mnt|Users)/\w|deb\.debian\.org|pypi\.org|registry\.npm")
        faults = [
            f"{name}:{number}: {line.strip()}"
            for name, text in TEXT.items()
            if name != "tests/house_rules.py"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
        self.none(faults, "no path of one machine, no package registry")

    def test_nothing_is_left_to_do(self):
        pattern = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
        faults = [
            f"{name}:{number}: {line.strip()}"
            for name, text in TEXT.items()
            if name != "tests/house_rules.py"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
        self.none(faults, "no notes of work left to do")

    def test_every_source_is_built(self):
        faults = []
        for name in CPP:
            if not name.endswith(".cpp"):
                continue
            path = Path(name)
            builds = [folder / "meson.build" for folder in path.parents]
            if not any(str(path.relative_to(build.parent)) in TEXT.get(str(build), "") for build in builds):
                # A list of names, from which meson makes the file names, is as good.
                stem = path.stem.removesuffix("_test")
                if not any(re.search(rf"'{stem}(_test)?'", TEXT.get(str(build), "")) for build in builds[:1]):
                    faults.append(f"{name}: no meson.build names it")
        self.none(faults, "every source is built")

    def test_every_rule_that_a_mutant_takes_out_is_there(self):
        self.assertEqual(mutants.stale(), [])

    def test_every_test_of_real_processes_is_registered(self):
        faults = []
        for name in FILES:
            found = re.match(r"(tests/(?:integration|crash|outside|package))/test_(\w+)\.py$", name)
            if found and f"'{found[2]}'" not in TEXT[f"{found[1]}/meson.build"]:
                faults.append(name)
            guest = re.match(r"tests/boot/guest/(test_\w+)\.py$", name)
            if guest and f'"{guest[1]}"' not in TEXT["tests/boot/boot.py"]:
                faults.append(name)
        self.none(faults, "the meson.build beside it names every test_*.py, and tests/boot/boot.py those of its guest")

    def test_the_package_has_the_version_of_the_programs(self):
        version = re.search(r"^  version: '([^']+)'", TEXT["meson.build"], re.MULTILINE)
        self.assertEqual(re.match(r"visitd \(([^)]+)\)", TEXT["debian/changelog"])[1], version and version[1])

    def test_the_documentation_names_every_setting(self):
        docs = TEXT["docs/configure.md"]
        keys = re.findall(r"^#? ?([a-z_]+) = ", TEXT["deploy/visitd.toml"], re.MULTILINE)
        self.assertGreater(len(keys), 20)
        lacking = [key for key in keys if f"`{key}`" not in docs and f"\n{key} = " not in docs]
        self.none(lacking, "docs/configure.md names every setting of deploy/visitd.toml")

    def test_who_applies_a_setting_uses_it(self):
        def code_of(folder: str) -> str:
            names = (name for name in OURS if name.startswith(folder) and not name.startswith("common/config/setting"))
            return "\n".join(re.sub(r'"(\\.|[^"\\])*"', "", line) for name in names for _, line in code_lines(name))

        common = code_of("common/")
        programs = {"the frontends": code_of("frontend/"), "the flusher": code_of("flusher/")}
        rows = re.compile(r"^## \[(\w+)\]$|^\| `(\w+)` \|.* \| (?:at once in|after a restart of) (the frontends|the flusher|all programs) \|", re.MULTILINE)
        section, found, faults = "", 0, []
        for row in rows.finditer(TEXT["docs/configure.md"]):
            section = row[1] or section
            if row[1] or re.match(r"redis\.(nodes|password|password_file|database|tls_\w+|sentinel_\w+)$|owner\.key_file$", f"{section}.{row[2]}"):  # end in redis.shards
                continue
            found += 1
            use = re.compile(rf"\b{section}_?\.{row[2]}\b")
            for program, code in programs.items():
                applies = row[3] in (program, "all programs")
                if applies and not use.search(code) and not use.search(common):
                    faults.append(f"{section}.{row[2]}: {program} should apply it, but nothing there uses it")
                if not applies and use.search(code):
                    faults.append(f"{section}.{row[2]}: used by {program}, but the row does not say so")
        self.assertGreater(found, 40)
        self.none(faults, "the row of a setting names the programs that use its value")

    def test_links_of_the_documentation_lead_somewhere(self):
        faults = []
        for name, text in TEXT.items():
            if not name.endswith(".md"):
                continue
            for target, part in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?[^)]*\)", without_code_blocks(text)):
                if "://" in target or target.startswith("mailto:"):
                    continue
                path = (ROOT / name).parent.joinpath(target).resolve() if target else ROOT / name
                if not path.exists():
                    faults.append(f"{name}: {target}")
                elif part and part not in anchors(path.read_text()):
                    faults.append(f"{name}: {target}#{part}: there is no such heading")
        self.none(faults, "a relative link names a file, and a heading in it, that exist")

    def test_every_page_of_the_documentation_is_found_from_the_readme(self):
        found, new = set(), ["README.md"]
        while new:
            name = new.pop()
            found.add(name)
            for target in re.findall(r"\]\(([^)#\s]+)", without_code_blocks(TEXT[name])):
                page = os.path.relpath((ROOT / name).parent.joinpath(target).resolve(), ROOT)
                if page.endswith(".md") and page in TEXT and page not in found:
                    new.append(page)
        self.none([name for name in TEXT if name.startswith("docs/") and name.endswith(".md") and name not in found],
                  "links lead from README.md to every page of docs/")  # fmt: skip


if __name__ == "__main__":
    unittest.main()
