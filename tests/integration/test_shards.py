#!/usr/bin/env python3
"""`visitctl shards list` and `locate` on real servers: what they are, what waits for them, and where a page is."""

import subprocess
import unittest

from harness import Stack, wait_for

SETTINGS = {"flusher": {"flush_interval_ms": 200, "commit_interval_ms": 20}, "redis": {"check_interval_ms": 100, "buckets": 256}}


class Shards(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, settings=SETTINGS, redis_arguments=("--maxmemory", "64mb")))

    def listed(self) -> dict[str, dict]:
        return {shard["name"]: shard for shard in self.stack.status("shards", "list")["shards"]}

    def test_a_list_says_what_each_server_is(self):
        version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
        shards = wait_for("each server has said what it is", lambda: (listed := self.listed()) and
                          all(shard["latency_us"] is not None for shard in listed.values()) and listed)  # fmt: skip
        self.assertEqual(list(shards), [shard.name for shard in self.stack.shards])
        for shard in self.stack.shards:
            row = shards[shard.name]
            self.assertEqual((row["state"], row["role"], row["address"]), ("up", "master", f"127.0.0.1:{shard.port}"))
            self.assertTrue(row["version"].startswith("redis "), row)
            self.assertIn(f"v={row['version'].removeprefix('redis ')} ", version)
            self.assertEqual(row["memory_limit_bytes"], 64 << 20)
            self.assertGreater(row["memory_bytes"], 100_000)
            self.assertLess(row["memory_bytes"], 64 << 20)
            self.assertGreater(row["latency_us"], 0)
            self.assertIsNone(row["oldest_wait_ms"])
        self.assertEqual(sum(row["buckets"] for row in shards.values()), 256)
        self.assertAlmostEqual(sum(row["share"] for row in shards.values()), 1.0)
        text = self.stack.visitctl("shards", "list").stdout
        for word in ("master", version.split("v=")[1].split()[0], "64.0 MiB", " %", " ms"):
            self.assertIn(word, text)

    def test_visits_for_a_shard_that_is_down_wait_and_the_list_says_how_long(self):
        down, other = self.stack.shards
        page = next(f"page-{n}" for n in range(100) if self.stack.status("shards", "locate", f"page-{n}")["shard"] == down.name)
        self.stack.kill9(down.name)
        wait_for("the shard is down", lambda: self.listed()[down.name]["state"] == "down")
        self.stack.post(page)
        first = wait_for("the visit waits", lambda: self.listed()[down.name]["oldest_wait_ms"])
        wait_for("it goes on waiting", lambda: self.listed()[down.name]["oldest_wait_ms"] > first + 500)
        self.assertIsNone(self.listed()[other.name]["oldest_wait_ms"])
        # What the server said last stays.
        self.assertEqual(self.listed()[down.name]["role"], "master")
        self.stack.restart(down.name)
        self.stack.wait_for_redis({page: 1})
        wait_for("nothing waits", lambda: self.listed()[down.name]["oldest_wait_ms"] is None)

    def test_a_page_is_where_locate_says(self):
        pages = [f"page-{n}" for n in range(20)]
        for page in pages:
            self.stack.post(page)
        self.stack.flush()
        ports = {shard.name: shard for shard in self.stack.shards}
        for page in pages:
            place = self.stack.status("shards", "locate", page)
            self.assertEqual(place["address"], f"127.0.0.1:{ports[place['shard']].port}")
            with ports[place["shard"]].client() as redis:
                self.assertEqual(redis("HGET", place["key"], page), "1")
        self.stack.kill9("flusher")
        text = self.stack.visitctl("shards", "locate", pages[0]).stdout
        self.assertIn("the flusher is away", text)
        self.assertIn(self.stack.status("shards", "locate", pages[0])["key"], text)

    def test_a_group_without_its_command_is_refused(self):
        for arguments, why in ((("shards",), "subcommand"), (("shards", "lst"), "there is no command 'shards lst'; did you mean 'list'? `visitctl help shards` lists them"), (("shards", "locate"), "PAGE")):
            refused = self.stack.visitctl(*arguments, check=False)
            self.assertEqual(refused.returncode, 2, refused)
            self.assertIn(why, refused.stderr)


if __name__ == "__main__":
    unittest.main()
