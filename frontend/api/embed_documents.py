#!/usr/bin/env python3
"""Writes a C++ source with the documents of frontend/api/documents.hpp in it: embed_documents.py OPENAPI DOCS OUTPUT."""

import sys
from pathlib import Path


def function(name: str, file: Path) -> str:
    octets = file.read_bytes()
    literals = ",".join(f"'\\x{octet:02x}'" for octet in octets)
    return (
        f"std::string_view {name}() noexcept {{\n"
        f"  static constexpr char bytes[] = {{{literals}}};\n"
        f"  return {{bytes, sizeof bytes}};\n"
        f"}}\n"
    )


def main() -> None:
    openapi, docs, output = map(Path, sys.argv[1:])
    body = function("openapi_document", openapi) + function("docs_page", docs)
    output.write_text(f'#include "frontend/api/documents.hpp"\n\nnamespace visitd {{\n{body}}}  // namespace visitd\n')


if __name__ == "__main__":
    main()
