#!/usr/bin/env python3
"""Writes visitd.toml(5) from deploy/visitd.toml, which names every setting: settings_page.py VISITD_TOML OUTPUT."""

import re
import sys
from pathlib import Path

HEAD = r""".Dd November 25, 2026
.Dt VISITD.TOML 5
.Os visitd
.Sh NAME
.Nm visitd.toml
.Nd settings of the visit counter
.Sh DESCRIPTION
All programs of visitd read the same settings:
.Fl -config Ar FILE
names a TOML file, the environment stands above it, and what neither names has the default below.
An unknown key or a value out of bounds keeps a program from starting; the message names file, line, and what is allowed.
.Pp
Units stand in the names:
.Sy _ms
for milliseconds,
.Sy _s
for seconds,
.Sy _bytes
for bytes, which may also be written with a unit, such as
.Qq 32MiB .
.Pp
Each key has a variable in the environment:
.Sy flusher.batch_pages
is
.Ev VISITD_FLUSHER_BATCH_PAGES .
Lists are separated by commas there.
.Sh SETTINGS
"""
TAIL = r""".Sh FILES
.Bl -tag -width Ds
.It Pa /etc/visitd/visitd.toml
The file that the units of the package name.
.El
.Sh EXAMPLES
Two shards on another host, whose password stands in
.Pa /etc/visitd/redis_password :
.Bd -literal -offset indent
[redis]
shards = ["redis_a=redis://10.0.0.5:6379", "redis_b=redis://10.0.0.6:6379"]
.Ed
.Pp
A file is checked with:
.Dl visit-flusher --config FILE --check-config
.Sh SEE ALSO
.Xr visitctl 1 ,
.Xr visit-flusher 8 ,
.Xr visit-frontend 8
.Pp
.Pa /usr/share/doc/visitd/docs/configure.md
"""


def escaped(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in text.splitlines())


def sentences(words: str) -> str:
    """One sentence a line, as mdoc(7) wants it."""
    return escaped(re.sub(r"(?<=[.:]) (?=[A-Z])", "\n", words))


def sections(text: str) -> str:
    out, comment, open_list = [], [], False
    for line in text.splitlines():
        section = re.fullmatch(r"\[(\w+)\]", line)
        key = re.fullmatch(r"#?(\w+) = (.+)", line)
        if section:
            if open_list:
                out.append(".El")
            out += [f".Ss [{section[1]}]", ".Bl -tag -width Ds"]
            open_list, comment = True, []
        elif key and open_list:
            out += [f".It Sy {key[1]} No = {escaped(key[2])}", sentences(" ".join(comment))]
            comment = []
        elif line.startswith("# "):
            comment.append(line[2:])
    if open_list:
        out.append(".El")
    return "\n".join(out) + "\n"


def main() -> int:
    source, output = sys.argv[1:]
    Path(output).write_text(HEAD + sections(Path(source).read_text()) + TAIL)
    return 0


if __name__ == "__main__":
    sys.exit(main())
