#!/usr/bin/env python3
"""A page whose field in Redis holds no count, or has no room for its visits: it is said everywhere, and no reader is shown a number."""

import re
import unittest

from harness import Stack, wait_for

MOST = (1 << 63) - 1
SETTINGS = {"cache": {"ttl_ms": 300}, "flusher": {"flush_interval_ms": 200, "commit_interval_ms": 20}}


class Damaged(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=2, settings=SETTINGS))

    def set_field(self, page: str, value: str) -> None:
        """Writes the page's field as an operator would."""
        place = self.stack.status("page", page)
        shard = next(shard for shard in self.stack.shards if shard.name == place["shard"])
        with shard.client() as redis:
            redis("HSET", f"visits:{{{place['bucket']}}}", page, value)

    def refused(self, page: str) -> bool:
        answer = self.stack.read(page)
        return answer.status == 503 and answer.json()["type"] == "urn:visitd:problem:count-damaged"

    def metric(self, name: str) -> int:
        """The sum over all lanes."""
        text = self.stack.ask("GET", "/metrics").body.decode()
        return sum(int(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\d+)$", text, re.MULTILINE))

    def log(self) -> str:
        return self.stack.processes["flusher"].text()

    def test_a_field_that_is_no_integer_is_said_everywhere_until_it_is_mended(self):
        for page in ("home", "about"):
            self.stack.post(page)
        self.stack.flush()
        self.set_field("home", "abc")
        wait_for("home is refused once its TTL is over", lambda: self.refused("home"))
        answer = self.stack.read("home")
        self.assertIn("Retry-After", answer.headers)
        self.assertNotIn("count", answer.json())
        # Other pages go on, and a list names the one that is damaged.
        self.assertEqual(self.stack.get("about"), 1)
        many = self.stack.ask("GET", "/visits?page=about&page=home")
        self.assertEqual((many.status, many.json()["type"], many.json()["parameter"]), (503, "urn:visitd:problem:count-damaged", "home"))

        # Said by the log, once a reason, and by every tool.
        wait_for("the log says it", lambda: "page home of shard" in self.log())
        self.assertEqual(self.stack.status()["flusher"]["statistics"]["pages_uncountable"], 1)
        self.assertIn("1 pages cannot be counted", self.stack.visitctl("status").stdout)
        checks = {check["name"]: check for check in self.stack.ask("GET", "/readyz?verbose").json()["checks"]}
        self.assertEqual(checks["pages"]["status"], "warning")
        self.assertEqual(self.metric("visitd_flusher_pages_uncountable"), 1)
        wait_for("refused reads are counted", lambda: self.metric("visitd_frontend_reads_damaged_total") >= 2)
        self.assertIn("no integer", self.stack.status("page", "home")["redis"]["damaged"])
        for _ in range(3):
            self.refused("home")
        self.assertEqual(self.log().count("page home of shard"), 1)

        # A flush that had to put visits aside says so.
        self.stack.post("home")
        flushed = self.stack.status("flush")
        if "pages_set_aside" not in flushed:  # a flush of the interval was quicker
            wait_for("visits are put aside", lambda: self.metric("visitd_flusher_pages_set_aside_total") == 1)
        else:
            self.assertEqual((flushed["pages_set_aside"], flushed["set_aside"]), (1, "home"))
        self.assertEqual(self.stack.status("page", "home")["redis"]["set_aside"], 1)
        self.assertTrue(self.refused("home"))

        # Also where the flusher is killed, and away: the last known count is no count.
        self.stack.kill9("flusher")
        self.assertTrue(self.refused("home"))
        self.stack.restart("flusher")
        wait_for("the next life finds it too", lambda: self.refused("home") and self.log().count("cannot be counted") >= 2)

        # Mended, it is taken as it stands, and its visits are counted again.
        self.set_field("home", "7")
        wait_for("home is counted again", lambda: self.stack.read("home").status == 200)
        self.assertEqual(self.stack.get("home"), 7)
        self.stack.post("home")
        self.assertEqual(self.stack.get("home"), 8)
        self.stack.wait_for_redis({"home": 8, "about": 1})
        wait_for("no page is damaged", lambda: self.metric("visitd_flusher_pages_uncountable") == 0)
        wait_for("the log says it", lambda: "can be counted again" in self.log())

    def test_a_count_that_would_pass_the_most_that_redis_holds_is_no_number(self):
        self.stack.post("full")
        self.stack.flush()
        self.set_field("full", str(MOST))
        wait_for("Redis is asked again", lambda: self.stack.get("full") == MOST)
        self.stack.post("full")
        self.assertTrue(self.refused("full"), self.stack.read("full"))
        wait_for("its visit is put aside", lambda: self.metric("visitd_flusher_pages_set_aside_total") == 1)
        for _ in range(40):  # over several TTLs: never the number that lacks its visit
            self.assertTrue(self.refused("full"), self.stack.read("full"))
        wait_for("it is asked again", lambda: self.stack.status("page", "full")["redis"].get("damaged", "").startswith("its count would pass"))
        with self.subTest("a restart of the flusher remembers that a visit is missing"):
            self.stack.restart("flusher")
            wait_for("the shards are up", lambda: {shard["state"] for shard in self.stack.status()["shards"]} == {"up"})
            for _ in range(40):
                self.assertNotEqual(self.stack.read("full").status, 200)
        self.set_field("full", "5")
        wait_for("it is counted again", lambda: self.stack.read("full").status == 200)
        self.assertEqual(self.stack.get("full"), 5)

    def test_a_page_that_nobody_reads_is_found_by_its_batch_and_forgotten_once_mended(self):
        self.stack.post("quiet")
        self.stack.flush()
        self.set_field("quiet", "x")
        self.stack.post("quiet")
        self.stack.post("other")
        wait_for("the log says it", lambda: "page quiet of shard" in self.log())
        wait_for("metrics say it", lambda: self.metric("visitd_flusher_pages_uncountable") == 1)
        self.set_field("quiet", "3")
        # The flusher asks again by itself after a flush.
        wait_for("it is found mended", lambda: self.metric("visitd_flusher_pages_uncountable") == 0)
        self.stack.post("quiet")
        self.stack.wait_for_redis({"quiet": 4, "other": 1})


if __name__ == "__main__":
    unittest.main()
