#!/usr/bin/env python3
"""Writes how wide a font's characters are, for frontend/images/text_width.cpp: text_widths.py FONT.ttf OUTPUT.

The committed table is that of DejaVu Sans (Debian: fonts-dejavu-core), which is as wide as Verdana but for a few per cent.
"""

import struct
import sys
from pathlib import Path

FIRST, LAST = 0x20, 0x4FF
A_LINE = 16


def tables(font: bytes) -> dict[str, bytes]:
    """The font's tables by name (OpenType: "Organization of an OpenType Font")."""
    found = {}
    for number in range(struct.unpack_from(">H", font, 4)[0]):
        name, _, offset, length = struct.unpack_from(">4sIII", font, 12 + 16 * number)
        found[name.decode()] = font[offset : offset + length]
    return found


def glyphs(cmap: bytes) -> dict[int, int]:
    """The glyph of each character: of the subtable of format 12, groups of (first, last, first glyph)."""
    for number in range(struct.unpack_from(">H", cmap, 2)[0]):
        offset = struct.unpack_from(">HHI", cmap, 4 + 8 * number)[2]
        if struct.unpack_from(">H", cmap, offset)[0] != 12:
            continue
        found = {}
        for group in range(struct.unpack_from(">I", cmap, offset + 12)[0]):
            first, last, glyph = struct.unpack_from(">III", cmap, offset + 16 + 12 * group)
            found.update({character: glyph + character - first for character in range(first, last + 1)})
        return found
    raise SystemExit("the font has no character map of format 12")


def main() -> None:
    font, output = Path(sys.argv[1]), Path(sys.argv[2])
    parts = tables(font.read_bytes())
    units = struct.unpack_from(">H", parts["head"], 18)[0]
    metrics = struct.unpack_from(">H", parts["hhea"], 34)[0]
    glyph_of = glyphs(parts["cmap"])

    def width(character: int) -> int:
        glyph = glyph_of.get(character, 0)
        return struct.unpack_from(">H", parts["hmtx"], 4 * min(glyph, metrics - 1))[0]

    widths = [width(character) for character in range(FIRST, LAST + 1)]
    lines = [", ".join(map(str, widths[at : at + A_LINE])) for at in range(0, len(widths), A_LINE)]
    output.write_text(
        f"// Made by text_widths.py from {font.name}: {units} units are the font's size; from U+{FIRST:04X} to U+{LAST:04X}.\n"
        "#pragma once\n\n#include <array>\n#include <cstdint>\n\nnamespace visitd {\n\n"
        f"inline constexpr unsigned text_width_units = {units};\n"
        f"inline constexpr std::uint32_t first_measured = 0x{FIRST:X};\n"
        "// clang-format off\n"
        f"inline constexpr std::array<std::uint16_t, {len(widths)}> measured_widths{{\n  "
        + ",\n  ".join(lines)
        + "};\n// clang-format on\n\n}  // namespace visitd\n"
    )


if __name__ == "__main__":
    main()
