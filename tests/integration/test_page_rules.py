#!/usr/bin/env python3
"""One name for one page: the same in visits and reads, alone and in lists, at every frontend, and in visitctl."""

import json
import os
import signal
import subprocess
import unittest

from harness import FRONTEND, Stack, wait_for

RULES = ["drop prefix https://blog.example", "drop query utm_*", "drop index-file", "drop trailing-slash", "lower-case"]
IDS = ["/Blog/Post/", "/blog/post/index.html", "https://blog.example/blog/post?utm_source=x", "/blog/post"]
NAME = "/blog/post"


class PageRules:
    way = ""

    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack(frontends=2, settings={"http": {"hot_routes": cls.way}, "pages": {"rules": RULES}}))

    def ask(self, method: str, path: str, body: object = None):
        answer = self.stack.ask(method, path, None if body is None else json.dumps(body).encode())
        return answer.status, answer.json()

    def test_all_ids_of_a_page_are_that_page(self):
        before = self.stack.get(NAME)
        for number, page in enumerate(IDS, 1):
            target = page.replace("?", "%3F")
            self.assertEqual(self.ask("POST", f"/visit/{target}"), (200, {"status": "success", "message": f"Visit recorded for page {page}"}))
            self.assertEqual(self.ask("GET", f"/visits/{target}")[1]["count"], before + number)
        status, answer = self.ask("POST", f"/visit/{IDS[0]}?count")
        self.assertEqual((status, answer["count"]), (200, before + 5))
        self.assertEqual(self.ask("POST", "/visits", {IDS[0]: 2, IDS[1]: 3})[0], 200)
        self.assertEqual(self.ask("POST", "/visits/query", IDS), (200, {"counts": {page: before + 10 for page in IDS}}))
        self.assertEqual(self.ask("GET", f"/visits?page={IDS[0]}&page={IDS[0]}&page={NAME}")[1], {"counts": {IDS[0]: before + 10, NAME: before + 10}})
        self.stack.flush()
        held = {page: count for page, count in self.stack.redis_counts().items() if "blog" in page.lower()}
        self.assertEqual(held, {NAME: before + 10})

    def test_an_id_of_which_nothing_is_left_is_refused(self):
        for request in (("POST", "/visit/https:%2F%2Fblog.example"), ("GET", "/visits/https:%2F%2Fblog.example"),
                        ("POST", "/visits", ["/a", "https://blog.example"]), ("POST", "/visits/query", ["/a", "https://blog.example"])):  # fmt: skip
            status, answer = self.ask(*request)
            self.assertEqual((status, answer["type"], answer.get("entry", 1)), (400, "urn:visitd:problem:invalid-page-id", 1), request)
            self.assertIn("pages.rules", answer["detail"])
        self.assertEqual(self.stack.get("/a"), 0)

    def test_visitctl_knows_the_page_by_its_name(self):
        steps = self.stack.status("rules", IDS[1])
        self.assertEqual((steps["asked"], steps["page"]), (IDS[1], NAME))
        self.assertEqual([step["rule"] for step in steps["steps"] if step["changed"]], ["drop index-file", "drop trailing-slash"])
        self.assertIn(f"{IDS[1]} is counted as {NAME}", self.stack.visitctl("rules", IDS[1]).stdout)
        self.stack.post(IDS[0].replace("Post", "Known"))
        known = self.stack.status("page", "/blog/KNOWN/")
        self.assertEqual((known["asked"], known["page"], known["sum"]), ("/blog/KNOWN/", "/blog/known", self.stack.get("/blog/known")))
        exact = self.stack.status("page", "--exact", "/blog/KNOWN/")
        self.assertEqual((exact["page"], exact["sum"]), ("/blog/KNOWN/", 0))
        self.assertEqual(self.stack.status("shards", "locate", "/blog/KNOWN/")["page"], "/blog/known")
        nothing = self.stack.visitctl("page", "https://blog.example", check=False)
        self.assertEqual((nothing.returncode, "pages.rules" in nothing.stderr), (1, True), nothing)

    def test_changed_rules_are_taken_over_by_a_reload(self):
        def reload(rules: list[str]) -> None:
            self.stack.settings["pages"] = {"rules": rules}
            self.stack.write_settings()
            for name in self.stack.frontends:
                os.kill(self.stack.processes[name].pid, signal.SIGHUP)

        self.stack.post("Reloaded")
        try:
            reload([])
            wait_for("ids are names again", lambda: all(self.stack.get("Reloaded") == 0 for _ in range(8)))
            self.assertEqual(self.stack.get("reloaded"), 1)
            self.assertIn("has no rules", self.stack.visitctl("rules", "Reloaded").stdout)
        finally:
            reload(RULES)
        wait_for("the rules hold again", lambda: all(self.stack.get("Reloaded") == 1 for _ in range(8)))


class Direct(PageRules, unittest.TestCase):
    way = "direct"


class ThroughHttplib(PageRules, unittest.TestCase):
    way = "httplib"


class Refused(unittest.TestCase):
    def test_a_text_that_is_no_rule_is_refused_at_the_start(self):
        stack = Stack(frontends=1, settings={"pages": {"rules": ["lower-case", "drop qery utm_*"]}})
        try:
            done = subprocess.run([str(FRONTEND), "--config", str(stack.settings_file), "--check-config"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn('pages.rules is "drop qery utm_*"; allowed:', done.stderr)
            self.assertIn('"drop query NAME…"', done.stderr)
        finally:
            stack.close()


if __name__ == "__main__":
    unittest.main()
