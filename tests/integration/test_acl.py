#!/usr/bin/env python3
"""The rule of access control that docs/configure.md gives: the flusher does all that it does with it, and each of its words is needed."""

import re
import unittest

from harness import SOURCE_ROOT, Stack, wait_for

DOCUMENT = (SOURCE_ROOT / "docs/configure.md").read_text()
RULE = re.search(r"^user visitd on >YOUR-PASSWORD (.+)$", DOCUMENT, re.MULTILINE)[1].split()
SETTINGS = {"redis": {"password": "sesame", "check_interval_ms": 100, "timeout_ms": 1000}, "cache": {"ttl_ms": 100}}


class AccessControl(unittest.TestCase):
    def stack(self, rule: list[str], database: int = 0) -> Stack:
        """Its shard runs, and has the user; nothing else runs yet."""
        stack = Stack(frontends=1, shards=1, settings={**SETTINGS, "redis": SETTINGS["redis"] | {"database": database}})
        self.addCleanup(stack.close)
        self.shard = stack.shards[0]
        self.shard.user = "visitd"
        stack.write_settings()
        stack.start_one(self.shard.name)
        stack.wait_for_shard(self.shard)
        self.ask("ACL", "SETUSER", "visitd", "reset", "on", ">sesame", *rule)
        return stack

    def ask(self, *words: str):
        with self.shard.client() as redis:
            return redis(*words)

    def denied(self) -> set[str]:
        """What the server did not allow, as it names it."""
        entries = [dict(zip(entry[::2], entry[1::2])) for entry in self.ask("ACL", "LOG")]
        return {entry["object"] for entry in entries if entry["username"] == "visitd"}

    def start(self, stack: Stack) -> None:
        stack.start_one("flusher")
        stack.start_one("frontend_1")

    def test_all_that_the_flusher_does_is_allowed(self):
        stack = self.stack(RULE)
        self.start(stack)
        stack.wait_ready()
        for count in (1, 2):
            stack.post("home")
            stack.post("about")
            stack.wait_for_redis({"home": count, "about": count})
            stack.restart("flusher")
        bucket = next(key for key in self.ask("KEYS", "visits:{*}") if self.ask("HEXISTS", key, "home"))
        self.ask("HINCRBY", bucket, "home", "5")  # as another host would
        wait_for("the count of another host is read", lambda: stack.shows("home", 7))
        # The facts of the server come from INFO.
        self.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        wait_for("the policy is noticed", lambda: "maxmemory-policy is allkeys-lru" in stack.visitctl("status").stdout)
        self.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        stack.post("about")
        stack.wait_for_redis({"home": 7, "about": 3})
        self.assertIn("visitd", {re.search(r"\bname=(\S*)", line)[1] for line in self.ask("CLIENT", "LIST").splitlines()})
        self.assertNotIn("does not say", stack.processes["flusher"].text())
        self.assertEqual(self.denied(), {"config|get"})

    def test_a_database_needs_one_word_more(self):
        stack = self.stack([*RULE, "+select"], database=3)
        self.start(stack)
        wait_for("it counts", lambda: stack.read("home").status == 200)
        self.assertEqual(self.denied(), {"config|get"})
        stack = self.stack(RULE, database=3)
        self.start(stack)
        wait_for("it says so", lambda: "SELECT: NOPERM" in stack.processes["flusher"].text())
        self.assertEqual(self.denied(), {"select"})

    def test_to_wait_for_replicas_needs_one_word_more(self):
        self.assertIn("add `+wait`", DOCUMENT)
        for words, denied in ((["+wait"], {"config|get"}), ([], {"config|get", "wait"})):
            with self.subTest(words):
                stack = self.stack([*RULE, *words])
                stack.settings["redis"]["wait_replicas"] = 1  # the shard has no replica
                stack.write_settings()
                self.start(stack)
                stack.wait_ready()
                stack.post("home")
                stack.wait_for_redis({"home": 1})
                log = "refuses WAIT (NOPERM" if "wait" in denied else "0 of the 1 replicas that redis.wait_replicas wants"
                wait_for("it is told", lambda stack=stack, log=log: log in stack.processes["flusher"].text())
                self.assertEqual(self.denied(), denied)
                stack.close()

    def test_to_add_up_and_to_list_needs_three_words_more(self):
        self.assertIn("`+hscan`, `top` and `total` also `+hgetall +hlen`", " ".join(DOCUMENT.split()))
        for words, commands in ((["+hscan", "+hgetall", "+hlen"], ("top", "total", "pages")), (["+hscan"], ("pages",))):
            with self.subTest(words):
                stack = self.stack([*RULE, *words])
                self.start(stack)
                stack.wait_ready()
                stack.post("home")
                for command in ("top", "total", "pages"):
                    self.assertEqual(stack.visitctl(command, check=False).returncode, 0 if command in commands else 1, command)
                if "total" in commands:
                    self.assertEqual(self.denied(), {"config|get"})
                else:
                    self.assertIn("of 8192 buckets are not known", stack.visitctl("total", check=False).stderr)
                    self.assertTrue(self.denied() & {"hlen", "hgetall"}, self.denied())
                stack.close()

    def test_no_word_of_it_can_be_left_out(self):
        words = [word for word in RULE if word.startswith("+")]
        self.assertGreater(len(words), 5)
        for word in words:
            with self.subTest(word):
                stack = self.stack([one for one in RULE if one != word])
                self.start(stack)
                wait_for("the frontend listens", lambda: stack.listens(stack.processes["frontend_1"].pid))
                stack.post("home")
                stack.read("home")
                wait_for(f"the server denies {word}", lambda: word.removeprefix("+") in self.denied())
                if word != "+client|setname":
                    wait_for("somebody is told", lambda: stack.status()["shards"][0]["reason"] or "does not say" in stack.processes["flusher"].text()
                             or stack.read("home").status == 503)  # fmt: skip
                stack.close()

    def test_other_keys_are_out_of_reach(self):
        self.stack(RULE)
        self.ask("SET", "other", "1")
        with self.shard.client() as redis:
            redis("AUTH", "visitd", "sesame")
            for words in (("GET", "other"), ("SET", "other", "2"), ("HMGET", "other", "a"), ("DEL", "visits:{1}"), ("CONFIG", "GET", "*")):
                with self.assertRaisesRegex(RuntimeError, "NOPERM"):
                    redis(*words)


if __name__ == "__main__":
    unittest.main()
