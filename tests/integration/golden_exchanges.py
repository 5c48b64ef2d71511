"""Golden files of HTTP: what is asked, and what must be answered, in the order of the file.

    # what the exchange shows
    > GET /hit/example.org/visits
    > Origin: https://example.org
    >> a body, on one line
    < 200
    < Cache-Control: no-store
    < Retry-After: -              (the answer has no such field)
    {"value":1}                   (the body; ~ before it: a regular expression that matches all of it)

A blank line ends an exchange. `> @private GET …`: at the private address.
"""

import dataclasses
import re
from pathlib import Path


@dataclasses.dataclass
class Exchange:
    where: str
    method: str = ""
    target: str = ""
    at_private: bool = False
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    content: bytes | None = None
    status: int = 0
    answer_fields: dict[str, str] = dataclasses.field(default_factory=dict)
    body: str = ""

    def read_request(self, line: str) -> None:
        if not self.method:
            words = line.split()
            self.at_private = words[0] == "@private"
            self.method, self.target = words[-2:]
        else:
            name, _, value = line.partition(": ")
            self.fields[name] = value

    def read_answer(self, line: str) -> None:
        if not self.status:
            self.status = int(line)
        else:
            name, _, value = line.partition(": ")
            self.answer_fields[name] = value

    def faults(self, answer) -> list[str]:
        """What in the answer is other than it must be."""
        found = [] if answer.status == self.status else [f"status {answer.status}, not {self.status}"]
        for name, value in self.answer_fields.items():
            given = answer.headers.get(name)
            if (given is not None) if value == "-" else (given != value):
                found.append(f"{name}: {given}, not {value}")
        is_text = not (answer.headers.get("Content-Type") or "").startswith("image/gif")
        body = answer.body.decode("utf-8" if is_text else "latin-1")
        if not (re.fullmatch(self.body[1:], body, re.DOTALL) if self.body.startswith("~") else body == self.body):
            found.append(f"body {body!r}, not {self.body!r}")
        return found


def exchanges(file: Path) -> list[Exchange]:
    found: list[Exchange] = []
    is_open = False
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line:
            is_open = False
        elif line.startswith("#"):
            continue
        else:
            if not is_open:
                found.append(Exchange(f"{file.name}:{number}"))
            is_open = True
            exchange = found[-1]
            if line.startswith(">> "):
                exchange.content = line[3:].encode()
            elif line.startswith("> "):
                exchange.read_request(line[2:])
            elif line.startswith("< "):
                exchange.read_answer(line[2:])
            else:
                exchange.body += line
    return found
