#!/usr/bin/env python3
"""How many instructions a request takes in the frontend, and where: straight from the vetted head, and through cpp-httplib.

callgrind counts those of user space. Of two runs, one twice as long as the other, the difference is taken: what a request does not
cause is not in it. Prints a table in Markdown. Argument: requests of the shorter run (2000).
"""

import collections
import re
import subprocess
import tempfile
from pathlib import Path

from rig import SERVED, Server, another_frontend, argument, load, request, visitd

WAYS = {"direct": "straight", "httplib": "through cpp-httplib"}
# What a function or its library belongs to; the first that fits.
GROUPS = {
    "cpp-httplib": r"httplib::|HttplibWay|MemoryStream|libcpp-httplib",
    "event loop, wrappers of system calls": r"libuv|libpthread|^(epoll_\w+|recv|send|clock_gettime|__errno_location|syscall)\b|vdso|_dl_runtime",
    "strict reader": r"visitd::(\(anonymous namespace\)::(split_query|HeadParser)|parse_head|BodyReader|RequestReader|is_host|parts_of_target)",
    "hash of the page id": r"visitd::hash_bytes",
    "publish to the lane": r"visitd::(Lane|Doorbell)",
    "snapshot and backlog": r"visitd::(Counts|CountReader|RingCounter|Backlog|Ring|SharedSegment|Cache|RingMembership)|take_snapshot",
    "answer": r"visitd::(AnswerFormat|Answer::|OutputBuffer|note_cache_status)|append_json",
    "routes, page id": r"visitd::(Routes|DirectWay|HandlerShare|record_visit|read_count|decode_path|check_page_id)",
    "connection, deadlines": r"visitd::",
    "C and C++ library": r"",
}


def dump(pid: int) -> None:
    """Writes what was counted since the last dump, and begins at 0."""
    subprocess.run(["callgrind_control", "-d", str(pid)], check=True, capture_output=True)


def read(path: Path) -> collections.Counter[str]:
    """Instructions of each group, as a dump of callgrind's tells them: lines of a function's own cost, and after each "calls=" one
    line of what was called, which is not its own."""
    names: dict[str, str] = {}
    costs: collections.Counter[str] = collections.Counter()
    library = function = ""
    is_callee = False

    def name(number: str, text: str | None, kind: str) -> str:
        if text:
            names[kind + number] = text
        return names[kind + number]

    for line in path.read_text().splitlines():
        if found := re.match(r"(c?)(ob|fn)=\((\d+)\)(?: (.*))?", line):
            text = name(found[3], found[4], found[2])
            if found[1]:
                continue
            if found[2] == "ob":
                library = Path(text).name
            else:
                function = text
        elif line.startswith("calls="):
            is_callee = True
        elif re.match(r"[+*\-\d]", line):
            if not is_callee:
                described = library if function.startswith("0x") else function
                group = next(group for group, pattern in GROUPS.items() if re.search(pattern, described) or re.search(pattern, f"{library} "))
                costs[group] += int(line.split()[1])
            is_callee = False
    return costs


def count(server: Server, method: str, out: Path, requests: int) -> collections.Counter[str]:
    """Instructions a request."""
    bytes_of_one = request(method, server.paths[method])
    load(server.port, bytes_of_one, requests=200)
    dump(server.pids[0])
    found = []
    for times in (1, 2):
        load(server.port, bytes_of_one, requests=times * requests)
        dump(server.pids[0])
        newest = max(out.parent.glob(f"{out.name}.*"), key=lambda path: int(path.suffix[1:]))
        found.append(read(newest))
    return collections.Counter({group: (found[1][group] - found[0][group]) / requests for group in GROUPS})


def main() -> None:
    requests = int(argument(1, 2000))
    columns: dict[str, collections.Counter[str]] = {}
    with visitd() as (stack, _), tempfile.TemporaryDirectory(prefix="visitd-callgrind-") as folder:
        for setting, way in WAYS.items():
            out = Path(folder) / setting
            valgrind = ("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}")
            with another_frontend(stack, SERVED, {"VISITD_HTTP_HOT_ROUTES": setting}, valgrind) as server:
                for method in ("POST", "GET"):
                    columns[f"{method}, {way}"] = count(server, method, out, requests)
    print("| instructions of user space a request | " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * len(columns))
    for group in GROUPS:
        print(f"| {group} | " + " | ".join(f"{found[group]:,.0f}" for found in columns.values()) + " |")
    print("| **together** | " + " | ".join(f"**{found.total():,.0f}**" for found in columns.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
