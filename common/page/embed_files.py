#!/usr/bin/env python3
"""Writes a C++ source with files in it, a function for each: embed_files.py [--integrity] HEADER OUTPUT NAME=FILE...

HEADER declares the functions. --integrity: also NAME_integrity(), the file's hash as a page names it."""

import base64
import hashlib
import sys
from pathlib import Path


def function(name: str, content: bytes) -> str:
    literals = ",".join(f"'\\x{octet:02x}'" for octet in content)
    return (
        f"std::string_view {name}() noexcept {{\n"
        f"  static constexpr char bytes[] = {{{literals}}};\n"
        f"  return {{bytes, sizeof bytes}};\n"
        f"}}\n"
    )


def integrity(content: bytes) -> bytes:
    return b"sha384-" + base64.b64encode(hashlib.sha384(content).digest())


def main() -> None:
    words = sys.argv[1:]
    with_integrity = words[0] == "--integrity"
    header, output, *files = words[with_integrity:]
    functions = ""
    for name, _, file in (pair.partition("=") for pair in files):
        content = Path(file).read_bytes()
        functions += function(name, content)
        if with_integrity:
            functions += function(f"{name}_integrity", integrity(content))
    Path(output).write_text(f'#include "{header}"\n\nnamespace visitd {{\n{functions}}}  // namespace visitd\n')


if __name__ == "__main__":
    main()
