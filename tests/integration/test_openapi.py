"""The interface is what frontend/api/openapi.json says: the document is valid, and every answer is in it, and the other way round."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

import chromium
from harness import PATIENCE_S, SOURCE_ROOT, VISITCTL, Answer, Stack, wait_for
from npm_packages import installed
from openapi_document import METHODS, Document
from refused_requests import refused_by_content, refused_by_form, request_bytes

DOCUMENT = SOURCE_ROOT / "frontend/api/openapi.json"
VALIDATOR = SOURCE_ROOT / "tests/integration/openapi"

# What a running stack cannot be made to answer.
NOT_PROVOKED = {
    "internal-error": (500, "no request is known that makes a frontend fail"),
    "restarting": (503, "lasts from the moment in which a frontend leaves its ring to the end of its process"),
}


def installed_validator() -> Path:
    """The public validator."""
    return installed(VALIDATOR, "openapi-validator") / ".bin/validate-api"


class Written(unittest.TestCase):
    """The document by itself, and beside what else names problems."""

    document = Document(DOCUMENT)

    def test_a_public_validator_finds_it_valid(self):
        done = subprocess.run([installed_validator(), DOCUMENT], capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertTrue(json.loads(done.stdout)["valid"])

    def test_the_validator_finds_faults(self):
        broken = json.loads(self.document.text)
        del broken["paths"]["/visits"]["post"]["responses"]["200"]["$ref"]
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(broken, file)
            file.flush()
            done = subprocess.run([installed_validator(), file.name], capture_output=True, text=True, timeout=PATIENCE_S)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)

    def test_every_example_keeps_to_its_schema(self):
        looked_at = 0

        def walk(at, where: str):
            nonlocal looked_at
            if isinstance(at, list):
                for number, item in enumerate(at):
                    walk(item, f"{where}/{number}")
                return
            if not isinstance(at, dict):
                return
            if "schema" in at:
                values = [at["example"]] if "example" in at else []
                values += [example["value"] for example in at.get("examples", {}).values()]
                for value in values:
                    looked_at += 1
                    self.assertEqual(self.document.schema_faults(at["schema"], value), [], f"{where}: {value}")
            for key, item in at.items():
                walk(item, f"{where}/{key}")

        walk(self.document.json, "#")
        self.assertGreater(looked_at, 40)

    def test_nothing_in_it_is_unused(self):
        used = set(re.findall(r'"#/components/(\w+)/([\w-]+)"', self.document.text))
        operations = [item[method] for item in self.document.json["paths"].values() for method in METHODS if method in item]
        used |= {("securitySchemes", name) for operation in operations for way in operation.get("security", []) for name in way}
        there = {(kind, name) for kind, items in self.document.json["components"].items() for name in items}
        self.assertEqual(there - used, set())

    def test_operations_have_names_of_their_own_and_each_says_all_that_can_be_refused(self):
        names = [item[method]["operationId"] for item in self.document.json["paths"].values() for method in METHODS if method in item]
        self.assertEqual(len(names), len(set(names)))
        for method, path in self.document.operations:
            for status in (400, 413, 414, 415, 417, 431, 500, 505):
                self.assertIn(str(status), self.document.answers(method, path), f"{method} {path}")
            methods = {other for other, its_path in self.document.operations if its_path == path}
            self.assertEqual("GET" in methods, "HEAD" in methods, path)
            self.assertIn("OPTIONS", methods, path)

    def test_no_host_is_named(self):
        for name in ("openapi.json", "docs.html"):
            text = (SOURCE_ROOT / "frontend/api" / name).read_text()
            for address in re.findall(r"\w+://[^\s\"'`<)]+", text):
                self.assertEqual(address, "https://example.org", name)

    def test_document_program_and_manual_name_the_same_problems(self):
        said = {(kind["const"].rpartition(":")[2], int(kind["title"])) for kind in self.document.json["components"]["schemas"]["ProblemType"]["oneOf"]}
        source = (SOURCE_ROOT / "common/shm/refusal_kinds.hpp").read_text()
        made = {(name, int(status)) for status, name in re.findall(r'\{\s*(\d{3}),\s*"([a-z0-9-]+)"', source) if status != "200"}
        self.assertEqual(made, said, "common/shm/refusal_kinds.hpp and frontend/api/openapi.json")
        manual = (SOURCE_ROOT / "docs/http.md").read_text()
        told = {(name, int(status)) for name, status in re.findall(r"^\| `([a-z0-9-]+)` \| (\d{3}) \|", manual, re.MULTILINE)}
        self.assertEqual(told, said, "docs/http.md and frontend/api/openapi.json")
        # Each is an answer to something.
        answers = [item for method, path in self.document.operations for item in self.document.answers(method, path).values()]
        answers += self.document.json["x-elsewhere"].values()
        self.assertEqual({name for answer in answers for name in self.document.problems(answer)}, {name for name, _ in said})


# --- real answers

# A target of each documented path.
TARGETS = {"/pixel/{page_id}.gif": "/pixel/home.gif", "/badge/{page_id}.svg": "/badge/home.svg", "/badge/{page_id}.json": "/badge/home.json",
           "/visit/{page_id}": "/visit/home", "/visits/{page_id}": "/visits/home", "/visits": "/visits?page=home&page=about"}
BODIES = {("POST", "/visit/{page_id}"): b"", ("POST", "/visits"): b'["home","about"]', ("POST", "/visits/query"): b'["home","about"]',
          ("PUT", "/visits/{page_id}"): b'{"count":3}', ("PUT", "/visits/query"): b'{"count":3}'}  # fmt: skip
CHANGES = [(method, target, b'{"count":3}' if method == "PUT" else None) for method in ("PUT", "DELETE") for target in ("/visits/home", "/visits/query")]
LISTS = [(method, target, None) for method in ("GET", "HEAD") for target in ("/pages", "/top", "/total", "/total?prefix=h")]
KEY = "the-key-of-the-owner"
WITH_KEY = f"Authorization: Bearer {KEY}"


class Answers:
    """Every operation and every problem that can be provoked, on one way through the frontend."""

    HTTP: dict = {}
    ORIGIN_IS_NAMED = False  # https://example.org, in http.cors_origins

    @classmethod
    def setUpClass(cls):
        cls.document = Document(DOCUMENT)
        settings = {
            "http": {"batch_read_limit": 400, "buffered_bodies_limit_bytes": 1 << 20, **cls.HTTP},
            "cache": {"ttl_ms": 300},
            "ring": {"lanes": 4, "lane_bytes": 65536},
        }
        cls.stack = Stack(frontends=1, settings=settings)
        (cls.stack.folder / "owner_key").write_text(KEY)
        cls.stack.settings["owner"] = {"key_file": str(cls.stack.folder / "owner_key")}
        cls.stack.write_settings()
        cls.enterClassContext(cls.stack)

    def ask(self, method: str, target: str, *fields: str, body: bytes | None = None) -> Answer:
        """One request that is well formed. Its answer must be in the document."""
        framed = (*fields, "Connection: close") if body is None else (*fields, f"Content-Length: {len(body)}")
        return self.send(method, target, request_bytes(method, target, *framed, body=body or b""))

    def send(self, method: str, target: str, request: bytes) -> Answer:
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S) as connection:
            connection.sendall(request)
            with http.client.HTTPResponse(connection, method=method) as response:
                response.begin()
                # http.client looks for no body after HEAD; where the connection ends, whatever follows is one.
                body = response.fp.read() if method == "HEAD" and response.will_close else response.read()
                answer = Answer(response.status, response.headers, body)
        self.faults += [f"{method} {target[:80]} {answer.status}: {fault}" for fault in self.document.judge(method, target, answer)]
        return answer

    def refused(self, name: str, method: str, target: str, request: bytes) -> Answer:
        answer = self.send(method, target, request)
        if method != "HEAD":
            self.assertEqual(answer.json().get("type"), f"urn:visitd:problem:{name}", request[:200])
        return answer

    def test_answers_are_what_the_document_says_and_all_that_it_says_is_seen(self):
        for part in (self.successes, self.refusals_of_form, self.refusals_of_content, self.refusals_of_owners, self.other_paths_and_methods,
                     self.full_of_bodies, self.damaged, self.without_a_shard, self.with_rules, self.without_flusher):
            with self.subTest(part.__name__):
                self.faults: list[str] = []
                part()
                shown = "\n".join(self.faults[:20])
                self.assertEqual(len(self.faults), 0, f"answers that are not as in the document, such as\n{shown}")
        promised = self.document.promised()
        excused = {name: {item for item in promised if item[2:] in ((status, name), (status, "")) and item not in self.document.seen}
                   for name, (status, _) in NOT_PROVOKED.items()}  # fmt: skip
        left = promised - self.document.seen - set().union(*excused.values())
        self.assertEqual(sorted(left), [], "in the document, and never seen")
        print(f"\n{len(promised & self.document.seen)} of {len(promised)} promised answers were seen; not provoked:")
        for name, (_, why) in NOT_PROVOKED.items():
            print(f"  {name}: {len(excused[name])}, {why}")

    def successes(self):
        for prefix in ("", "/api/v1/counter"):
            for method, path in self.document.operations:
                target = TARGETS.get(path, path) if (method, path) != ("POST", "/visits") else path
                answer = self.ask(method, prefix + target, WITH_KEY, body=BODIES.get((method, path)))
                self.assertEqual(answer.status, 204 if method == "OPTIONS" else 200, f"{method} {target}")
                if method == "OPTIONS":
                    allowed = {other for other, its_path in self.document.operations if its_path == path}
                    self.assertEqual(set(answer.headers["Allow"].split(", ")), allowed, path)
                    preflight = self.ask(method, prefix + target, "Origin: https://example.org", "Access-Control-Request-Method: POST",
                                         "Access-Control-Request-Headers: content-type", "Access-Control-Request-Private-Network: true")  # fmt: skip
                    self.assertEqual(preflight.headers["Access-Control-Allow-Methods"], self.allowed_elsewhere(path, answer.headers["Allow"]), path)
        for body in (b'"home"', b'"home"\n["about","home"]\n{"contact":4}\n'):
            self.ask("POST", "/visits", "Origin: https://example.org", body=body)
        self.ask("GET", "/visits/never-read", "Origin: https://example.org")
        self.ask("POST", "/visit/blog/2024//x/")
        self.assertEqual(self.ask("POST", "/visit/with/its/count?count").json()["count"], 1)
        self.assertEqual(self.ask("GET", "/visits/blog/2024%2F/x/").json()["count"], 1)
        self.ask("GET", "/visits?page=never+read&page=home", "Origin: https://example.net")
        self.ask("POST", "/visits/query", body=b'"home"\n["home","never read too"]')
        for method in ("GET", "HEAD"):
            for target in ("/badge/home.svg", "/badge/home.json", "/count.js", "/count.1.js", "/show.1.js"):
                self.assertEqual(self.ask(method, target, "If-None-Match: *").status, 304)
        self.ask("GET", "/badge/home.svg?count&label=hits&color=red&labelColor=fff&style=plastic&locale=de&abbreviate")
        self.ask("GET", "/badge/home.json?color=red&labelColor=fff&style=plastic")
        self.lists_and_changes()
        self.assertIn("checks", self.ask("GET", "/readyz?verbose").json())
        self.assertEqual(self.ask("GET", "/openapi.json").body, DOCUMENT.read_bytes())

    def allowed_elsewhere(self, path: str, allow: str) -> str | None:
        """The methods that pages of https://example.org are told of: the owner's are not for sites that no setting names."""
        if self.ORIGIN_IS_NAMED:
            return allow
        return None if path in ("/pages", "/top", "/total") else ", ".join(method for method in allow.split(", ") if method not in ("PUT", "DELETE"))

    def lists_and_changes(self):
        self.assertEqual(self.ask("PUT", "/visits/blog/news", WITH_KEY, body=b'{"count":9223372036854775807}').json()["count"], 2**63 - 1)
        self.ask("PUT", "/visits/blog/more", WITH_KEY, body=b'{"count":9223372036854775807}')
        self.assertGreater(self.ask("GET", "/total", WITH_KEY).json()["total"], 2**64 - 3)
        part = self.ask("GET", "/pages?prefix=blog/&limit=1", WITH_KEY, "Origin: https://example.org")
        self.assertIn("after", part.json())
        self.assertEqual(part.headers["Access-Control-Allow-Origin"], "https://example.org" if self.ORIGIN_IS_NAMED else None)
        self.assertEqual(len(self.ask("GET", "/top?limit=2", WITH_KEY).json()["pages"]), 2)
        for page in ("blog/news", "blog/more"):
            self.assertEqual(self.ask("DELETE", f"/visits/{page}", WITH_KEY).json()["before"], 2**63 - 1)

    def refusals_of_owners(self):
        """What the owner alone may do, asked for by others."""
        for method, target, body in CHANGES + LISTS:
            self.assertEqual(self.ask(method, target, body=body).status, 401, f"{method} {target}")
            wrong = self.ask(method, target, WITH_KEY + "x", body=body)
            self.assertEqual(wrong.status, 403, f"{method} {target}")
        for method, target, body in CHANGES:
            elsewhere = self.ask(method, target, WITH_KEY, "Origin: https://evil.example", body=body)
            self.assertEqual(elsewhere.json()["type"], "urn:visitd:problem:owner-from-elsewhere")
        owner = self.stack.settings.pop("owner")
        self.take_owner_settings()
        wait_for("there is no key any more", lambda: self.ask("GET", "/pages").json()["type"] == "urn:visitd:problem:owner-key-unset")
        for method, target, body in CHANGES + LISTS:
            self.assertEqual(self.ask(method, target, WITH_KEY, body=body).status, 403, f"{method} {target}")
        self.stack.settings["owner"] = owner
        self.take_owner_settings()
        wait_for("there is a key again", lambda: self.ask("GET", "/pages", WITH_KEY).status == 200)

    def take_owner_settings(self):
        self.stack.write_settings()
        os.kill(self.stack.processes["flusher"].pid, signal.SIGHUP)

    def refusals_of_form(self):
        for method, path in self.document.operations:
            target = TARGETS.get(path, path)
            for name, request in refused_by_form(method, target):
                self.refused(name, method, target, request)

    def refusals_of_content(self):
        for path in self.document.json["paths"]:
            for name, method, request, entry in refused_by_content(path):
                target = request.split(b" ", 2)[1].decode()
                answer = self.refused(name, method, target, request)
                self.assertEqual(None if method == "HEAD" else answer.json().get("entry"), entry, request[:200])

    def other_paths_and_methods(self):
        for target in ("/nothing", "/visit", "/api/v1/nothing", "/docs/"):
            self.refused("no-such-path", "GET", target, request_bytes("GET", target))
        for path in self.document.json["paths"]:
            target = TARGETS.get(path, path)
            for method in {"DELETE", "PUT", "PATCH", "TRACE", "BREW"} - {its for its, its_path in self.document.operations if its_path == path}:
                answer = self.refused("method-not-allowed", method, target, request_bytes(method, target))
                self.assertEqual(answer.headers["Allow"], self.ask("OPTIONS", target).headers["Allow"])

    def full_of_bodies(self):
        """Clients that hold back the end of their bodies fill the room that all bodies share."""
        held = []
        try:
            for _ in range(16):
                connection = socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S)
                held.append(connection)
                with contextlib.suppress(ConnectionError):  # refused before all was sent
                    connection.sendall(request_bytes("POST", "/visits", "Content-Length: 1000000", body=b" " * 200000))
            for method, path in (("POST", "/visits"), ("POST", "/visits/query"), ("PUT", "/visits/{page_id}"), ("PUT", "/visits/query")):

                def refused(method=method, path=path) -> bool:
                    return self.ask(method, TARGETS.get(path, path) if method == "PUT" else path, body=BODIES[method, path] + b" " * 100000).status == 503

                wait_for(f"{method} {path} is refused", refused)
                self.assertIn((method, path, 503, "busy"), self.document.seen)
        finally:
            for connection in held:
                connection.close()

    def damaged(self):
        """Counts that somebody spoiled in Redis."""
        for page in ("spoiled", "query"):
            place = self.stack.status("page", page)
            with next(shard for shard in self.stack.shards if shard.name == place["shard"]).client() as redis:
                redis("HSET", f"visits:{{{place['bucket']}}}", page, "spoiled")
        for method, target, body in (("GET", "/visits/spoiled", None), ("HEAD", "/visits/spoiled", None), ("GET", "/visits/query", None),
                                     ("GET", "/visits?page=home&page=spoiled", None), ("POST", "/visits/query", b'["spoiled"]')):  # fmt: skip
            wait_for(f"{method} {target} is refused", lambda asked=(method, target, body): self.ask(*asked[:2], body=asked[2]).status == 503)
        self.assertIn({"page": "spoiled", "count": None}, self.ask("GET", "/pages?prefix=spoiled", WITH_KEY).json()["pages"])
        self.assertEqual(self.ask("GET", "/total?prefix=spoiled", WITH_KEY).json(), {"total": 0, "unknown_pages": 1})
        for page in ("spoiled", "query"):
            place = self.stack.status("page", page)
            with next(shard for shard in self.stack.shards if shard.name == place["shard"]).client() as redis:
                redis("HSET", f"visits:{{{place['bucket']}}}", page, "1")
        wait_for("it is mended", lambda: self.ask("GET", "/visits/query").status == 200)

    def without_a_shard(self):
        away = self.stack.shards[0].name
        self.stack.kill9(away)
        for method, target, _ in LISTS:
            wait_for(f"{method} {target} is refused", lambda asked=(method, target): self.ask(*asked, WITH_KEY).status == 503)
        self.stack.start_one(away)
        wait_for("all is listed again", lambda: self.ask("GET", "/pages", WITH_KEY).status == 200)

    def with_rules(self):
        usual = dict(self.stack.settings["http"])
        ours = "Origin: https://blog.example"
        self.stack.settings |= {"http": usual | {"count_origins": ["https://blog.example"]}, "pages": {"allowed": ["home"]}}
        self.stack.write_settings()
        self.stack.restart("frontend_1")
        self.stack.wait_ready()
        images = [("GET", target, None) for target in ("/pixel/home.gif", "/badge/home.svg?count")]
        for method, target, body in [("POST", "/visit/home", b""), ("POST", "/visits", b'["home"]'), *images]:
            self.assertEqual(self.ask(method, target, ours, body=body).status, 200)
            self.assertEqual(self.ask(method, target, "Origin: https://other.example", body=body).json()["parameter"], "Origin")
            if method == "GET":
                self.assertEqual(self.ask(method, target.replace("home", "about"), ours).json()["parameter"], "page_id")
        for target, body in (("/visit/about", b""), ("/visits", b'["home","about"]')):
            self.assertEqual(self.ask("POST", target, ours, body=body).json()["parameter"], "page_id")
        self.stack.settings |= {"http": usual, "pages": {}}
        self.with_rates()

    def with_rates(self):
        """The first visits from outside are counted, and then no others."""
        usual = dict(self.stack.settings["http"])
        limits = {"address_visits_per_minute": 1, "address_visits_burst": 2}, {"public_new_pages_per_minute": 1}
        for limit, name in zip(limits, ("visit-rate-exceeded", "too-many-new-pages")):
            self.stack.settings["http"] = usual | limit
            self.stack.write_settings()
            self.stack.restart("frontend_1")
            self.stack.wait_ready()
            for number, (target, body) in enumerate((("/visit/", b""), ("/visits", b'["home","new-{}"]')) * 3):
                page = f"{name}-{number}"
                sent = body.replace(b"new-{}", page.encode())
                path = target if body else target + page
                answer = self.ask("POST", path, "X-Forwarded-For: 192.0.2.7", "Origin: https://example.org", body=sent)
                self.assertEqual(answer.status, 200 if number == 0 or (number == 1 and "burst" in str(limit)) else 429, f"{path} {sent}")
                if answer.status == 429:
                    self.assertEqual(answer.json()["type"], f"urn:visitd:problem:{name}")
            for target in (f"/pixel/{name}-image.gif", f"/badge/{name}-image.svg?count"):
                answer = self.ask("GET", target, "X-Forwarded-For: 192.0.2.7")
                self.assertEqual((answer.status, answer.json()["type"]), (429, f"urn:visitd:problem:{name}"))
        self.stack.settings["http"] = usual

    def without_flusher(self):
        # What all before must not run into, and here must soon come.
        self.stack.settings["http"]["lookup_timeout_ms"] = 200
        self.stack.settings["owner"]["timeout_ms"] = 500
        self.stack.settings["cache"].update({"stale_limit_s": 3, "flusher_away_ms": 500})
        self.stack.write_settings()
        self.stack.restart("frontend_1")
        self.stack.wait_ready()
        wait_for("a count is known", lambda: self.ask("GET", "/visits/known").status == 200)
        self.stack.pause("flusher")
        try:
            wait_for("a count is stale", lambda: "ttl=-" in (self.ask("GET", "/visits/known").headers["Cache-Status"] or ""))
            wait_for("a count is too old to be shown", lambda: self.ask("GET", "/visits/query").status == 503)
            for method, target, body in (("GET", "/visits/unknown", None), ("HEAD", "/visits/unknown", None), ("HEAD", "/visits/query", None),
                                         ("GET", "/visits?page=known&page=unknown", None), ("HEAD", "/visits?page=unknown", None),
                                         ("POST", "/visits/query", b'["unknown"]')):  # fmt: skip
                self.assertEqual(self.ask(method, target, body=body).status, 503, f"{method} {target}")
            for method, target, body in CHANGES + LISTS:
                self.assertEqual(self.ask(method, target, WITH_KEY, body=body).status, 503, f"{method} {target}")
            entries = 20000
            answer = self.ask("POST", "/visits", body=json.dumps(["full"] * entries).encode())
            self.assertEqual(answer.status, 503)
            self.assertTrue(0 < answer.json()["recorded"] < entries, answer)
            self.assertEqual(self.ask("POST", "/visit/full").status, 503)
            for target in ("/pixel/full.gif", "/badge/full.svg?count"):
                self.assertEqual(self.ask("GET", target).status, 503)
            for method, target in (("GET", "/readyz"), ("GET", "/readyz?verbose"), ("HEAD", "/readyz")):
                self.assertEqual(self.ask(method, target).status, 503, "a full lane is not ready")
        finally:
            self.stack.resume("flusher")


class AnswersDirect(Answers, unittest.TestCase):
    HTTP = {"hot_routes": "direct"}


class AnswersThroughHttplib(Answers, unittest.TestCase):
    HTTP = {"hot_routes": "httplib", "cors_origins": ["https://example.org"]}
    ORIGIN_IS_NAMED = True


def asked_by_page(log: Path) -> set[str]:
    """What a page asked for by the browser's log, itself included, without what the browser asks for of its own."""
    text = json.loads(log.read_text())
    start = text["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    started = [event["params"] for event in text["events"] if event["type"] == start and "url" in event.get("params", {})]
    return {request["url"] for request in started if request["initiator"] != "not an origin" or request["request_type"] == "main frame"}


class Page(unittest.TestCase):
    """/docs in a real browser."""

    def test_the_page_shows_every_operation_and_asks_no_other_host(self):
        document = Document(DOCUMENT)
        with Stack(frontends=1) as stack, tempfile.TemporaryDirectory(prefix="visitd-docs-") as folder:
            origin = f"http://127.0.0.1:{stack.port}"
            for prefix in ("", "/api/v1/counter"):
                log = Path(folder) / "requests.json"
                hosts = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
                shown = chromium.show(f"{origin}{prefix}/docs", f"{folder}/profile", hosts, f"--log-net-log={log}")
                page = shown.stdout
                for path, item in document.json["paths"].items():
                    self.assertIn(f">{path}</h3>", page, shown.stderr[-2000:])
                    for method in item.keys() & set(METHODS):
                        self.assertIn(f'id="{item[method]["operationId"]}"', page)
                for kind in document.json["components"]["schemas"]["ProblemType"]["oneOf"]:
                    self.assertIn(f'id="problem-{kind["const"].rpartition(":")[2]}"', page)
                self.assertNotIn("[object ", page)
                asked = {f"{origin}{prefix}{path}" for path in ("/docs", "/openapi.json", "/count.1.js", "/badge/home.svg")}
                self.assertEqual(asked_by_page(log), asked)

    def test_the_form_makes_the_line_of_a_site_and_shows_the_badge(self):
        """As somebody fills it in."""
        fill = """
          const form = (id) => document.querySelector(id).elements;
          const until = async (what) => { for (let i = 0; i < 400 && !what(); ++i) await new Promise((next) => setTimeout(next, 25)); };
          await until(() => document.querySelector("#line")?.textContent.includes("sha384-"));
          form("#line-form").counter.value = "https://counter.example/c/";
          form("#line-form").page.value = 'a "b"/c';
          for (const name of ["count", "frames", "respect"]) form("#line-form")[name].checked = true;
          form("#badge-form").label.value = "Aufrufe & mehr";
          form("#badge-form").color.value = "#c00";
          form("#badge-form").style.value = "plastic";
          for (const id of ["#line-form", "#badge-form"]) document.querySelector(id).dispatchEvent(new Event("input"));
          const badge = document.querySelector("img");
          await until(() => badge.complete && badge.src.includes("plastic"));
          return [document.querySelector("#line").textContent, document.querySelector("#badge-line").textContent, badge.getAttribute("src"), badge.naturalWidth > 50];
        """
        with Stack(frontends=1) as stack:
            stack.post('a "b"/c')
            with chromium.tab() as tab:
                tab.open(f"http://127.0.0.1:{stack.port}/docs")
                line, markup, source, is_shown = tab.run(fill)
            embed = [VISITCTL, "--config", "/dev/null", "embed", "--url", "https://counter.example/c/", "--page", 'a "b"/c', "--count", "--frames", "--respect"]
            printed = subprocess.run(embed, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
            self.assertEqual(line, printed.rstrip("\n"))
            query = "label=Aufrufe%20%26%20mehr&color=c00&style=plastic"
            self.assertEqual(source, f"http://127.0.0.1:{stack.port}/badge/a%20%22b%22%2Fc.svg?{query}")
            self.assertEqual(markup, f'<img src="https://counter.example/c/badge/a%20%22b%22%2Fc.svg?{query.replace("&", "&amp;")}" alt="visits">')
            self.assertTrue(is_shown)


if __name__ == "__main__":
    unittest.main()
