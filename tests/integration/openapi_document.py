"""frontend/api/openapi.json as a judge of real answers."""

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator

METHODS = ("get", "head", "post", "put", "patch", "delete", "options", "trace")
# Fields that frame a message; the document has no say in them.
FRAMING = {"content-length", "content-type", "connection", "transfer-encoding"}
PROBLEM = "urn:visitd:problem:"


class Document:
    """Finds what the document says of an answer, and remembers what was seen."""

    def __init__(self, path: Path):
        self.text = path.read_text()
        self.json = json.loads(self.text)
        self.operations = [(method.upper(), path) for path, item in self.json["paths"].items() for method in METHODS if method in item]
        self.seen: set[tuple[str, str, int, str]] = set()  # method, path, status, name of the problem or ""

    def resolve(self, item: dict) -> dict:
        """What a reference leads to. A schema that adds to another one is no mere reference."""
        while "$ref" in item and item.keys() <= {"$ref", "summary", "description"}:
            at = self.json
            for key in item["$ref"][2:].split("/"):
                at = at[key.replace("~1", "/").replace("~0", "~")]
            item = at
        return item

    def path_of(self, target: str) -> str | None:
        """The documented path that a target is of: one without parameters goes first, and a page id is the rest of the path."""
        sent = urlsplit(target).path
        if not sent.startswith("/"):
            return None
        for server in sorted((server["url"].rstrip("/") for server in self.json["servers"]), key=len, reverse=True):
            if sent != server and not sent.startswith(server + "/"):
                continue
            rest = sent[len(server) :] or "/"
            for path in sorted(self.json["paths"], key=lambda path: path.count("{")):
                if re.fullmatch(re.sub(r"\\{\w+\\}", ".*", re.escape(path)), rest):
                    return path
        return None

    def answers(self, method: str, path: str | None) -> dict:
        """By status, what a request may be answered with."""
        elsewhere = self.json["x-elsewhere"]
        if path is None:
            return {"404": elsewhere["another path"]}
        if method.lower() not in self.json["paths"][path]:
            return {"405": elsewhere["another method"]}
        return self.json["paths"][path][method.lower()]["responses"]

    def problems(self, answer: dict) -> list[str]:
        """The names of the problems that an answer may be; none: it is no problem."""
        names = []
        for media in self.resolve(answer).get("content", {}).values():
            for schema in media["schema"].get("anyOf", [media["schema"]]):
                kind = self.resolve({"$ref": schema["$ref"]}) if "properties" not in schema and "$ref" in schema else schema
                names += [name.removeprefix(PROBLEM) for name in kind.get("properties", {}).get("type", {}).get("enum", [])]
        return names

    def promised(self) -> set[tuple[str, str, int, str]]:
        """All that the document says may be seen. An answer to HEAD does not say which problem it is."""
        promised = set()
        for method, path in self.operations:
            for status, answer in self.answers(method, path).items():
                names = [""] if method == "HEAD" else self.problems(answer) or [""]
                promised |= {(method, path, int(status), name) for name in names}
        return promised

    def schema_faults(self, schema: dict, value) -> list[str]:
        """Where a value breaks its schema. Members that the schema does not name are faults too."""
        whole = {"allOf": [schema], "components": self.json["components"]}
        faults = [f"{'/'.join(map(str, error.absolute_path)) or 'it'}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]
        named = self._members(schema)
        if isinstance(value, dict) and named is not None:
            faults += [f"{name} is not in the document" for name in value.keys() - named]
        return faults

    def _members(self, schema: dict) -> set[str] | None:
        """The members that an object may have; None: any."""
        if "additionalProperties" in schema:
            return None
        parts = schema.get("anyOf", []) + schema.get("oneOf", []) + ([self.resolve({"$ref": schema["$ref"]})] if "$ref" in schema else [])
        members = [self._members(part) for part in parts]
        return None if None in members or not (parts or "properties" in schema) else set(schema.get("properties", {})).union(*members)

    def judge(self, method: str, target: str, answer) -> list[str]:
        """What is wrong with an answer to a request; also notes that it was seen."""
        path = self.path_of(target)
        answers = self.answers(method, path)
        if str(answer.status) not in answers:
            return [f"status {answer.status} is not in the document, only {', '.join(answers)}"]
        expected = self.resolve(answers[str(answer.status)])
        faults = self._judge_fields(expected.get("headers", {}), answer)
        name = ""
        media = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if media != next(iter(expected.get("content", {"": None}))):
            faults.append(f"Content-Type is {media!r}, in the document it is {', '.join(expected.get('content', {})) or 'absent'}")
        elif method == "HEAD" or not media:
            if answer.body:
                faults.append(f"there is a body: {answer.body[:80]!r}")
        else:
            value = answer.json() if media.endswith("json") else answer.body.decode(errors="replace")
            faults += self.schema_faults(expected["content"][media]["schema"], value)
            if media == "application/problem+json":
                name = str(value.get("type")).removeprefix(PROBLEM)
        self.seen.add((method, path or "", answer.status, name))
        return faults

    def _judge_fields(self, expected: dict, answer) -> list[str]:
        declared = {name.lower(): self.resolve(field) for name, field in expected.items()}
        faults = [f"{name} is missing" for name, field in declared.items() if field.get("required") and name not in answer.headers]
        for name, text in answer.headers.items():
            if name.lower() in FRAMING:
                continue
            field = declared.get(name.lower())
            if field is None:
                faults.append(f"the field {name} is not in the document")
                continue
            value = int(text) if field["schema"].get("type") == "integer" and text.isdigit() else text
            faults += [f"{name}: {fault}" for fault in self.schema_faults(field["schema"], value)]
        return faults
