"""One of two shards is down: everything of the other goes on, and of its own pages nothing is lost, lower, or called 0."""

import time
import unittest

from harness import Stack, wait_for


def held(redis) -> list[str]:
    """The pages that a shard holds."""
    keys = redis("KEYS", "visits:{*}")
    return [field for fields in redis.pipeline([("HKEYS", key) for key in keys]) for field in fields if not field.startswith("\x01")]


class Outage(unittest.TestCase):
    def test_a_shard_that_is_down_holds_back_its_own_pages_only(self):
        with Stack(frontends=2, settings={"cache": {"ttl_ms": 300}}) as stack:
            pages = [f"page-{n}" for n in range(40)]
            expected = {page: 0 for page in pages}

            def visit(some):
                for page in some:
                    stack.post(page)
                    expected[page] += 1

            visit(pages)
            visit(pages)
            stack.wait_for_redis(expected)
            for page in pages:
                self.assertEqual(stack.get(page), 2)
            # Each page is where consistent hashing says, and both shards are used.
            places = {page: shard for page, (shard, _) in stack.redis_places().items()}
            for page in pages[:10]:
                self.assertEqual(stack.status("page", page)["shard"], places[page])
            self.assertEqual(set(places.values()), {shard.name for shard in stack.shards})

            down = stack.shards[0].name
            ours = [page for page in pages if places[page] == down]
            others = [page for page in pages if places[page] != down]
            unknown = [f"unknown-{n}" for n in range(40)]
            stack.kill9(down)
            wait_for("the shard is seen to be down",
                     lambda: [s["state"] for s in stack.status()["shards"] if s["name"] == down] == ["down"])  # fmt: skip
            time.sleep(0.5)  # past the TTL
            visit(pages)
            for page in others:
                answer = stack.read(page)
                self.assertEqual((answer.status, answer.json()["count"]), (200, 3))
            for page in ours:
                answer = stack.read(page)
                self.assertEqual((answer.status, answer.json()["count"]), (200, 3), page)
                self.assertRegex(answer.headers["Cache-Status"], r"hit; ttl=(0|-\d+)$")
            states = {page: stack.read(page).status for page in unknown}
            for page in unknown:
                stack.post(page)
                self.assertEqual(states[page], stack.read(page).status)
                if states[page] == 503:
                    self.assertIn("Retry-After", stack.read(page).headers)
            self.assertEqual(set(states.values()), {200, 503})
            flush = stack.visitctl("flush", "--timeout", "1", check=False)
            self.assertEqual(flush.returncode, 1)
            self.assertIn(down, flush.stdout + flush.stderr)

            stack.restart(down)
            expected.update({page: 1 for page in unknown})
            stack.wait_for_redis(expected)
            for page in pages:
                wait_for(f"{page} is fresh again", lambda page=page: "ttl=-" not in (stack.read(page).headers["Cache-Status"] or "ttl=-"))
                self.assertEqual(stack.get(page), 3)
            for page in unknown:
                self.assertEqual(stack.get(page), 1)

    def test_a_shard_that_is_unreachable_does_not_stop_the_flusher_from_starting(self):
        stack = Stack(frontends=1)
        try:
            stack.start()
            stack.stop_one("flusher")
            stack.kill9(stack.shards[0].name)
            stack.start_one("flusher")
            for n in range(20):
                stack.post(f"page-{n}")
            with stack.shards[1].client() as redis:
                wait_for("the living shard has its pages", lambda: held(redis))
            stack.start_one(stack.shards[0].name)
            stack.wait_for_redis({f"page-{n}": 1 for n in range(20)})
        finally:
            stack.close()

    def test_a_new_deployment_waits_for_all_its_shards_and_loses_nothing(self):
        stack = Stack(frontends=1)
        try:
            stack.start_one(stack.shards[1].name)
            stack.wait_for_shard(stack.shards[1])
            stack.start_one("flusher")
            stack.start_one("frontend_1")
            wait_for("the frontend listens", lambda: stack.listens(stack.processes["frontend_1"].pid))
            for n in range(20):
                stack.post(f"page-{n}")
            # Whether a shard that is away holds the deployment's identity, and counts, cannot be known.
            wait_for("it says what it waits for", lambda: f"waiting for shard {stack.shards[0].name}" in stack.processes["flusher"].text())
            self.assertEqual(stack.read("page-1").status, 503)
            with stack.shards[1].client() as redis:
                self.assertEqual(redis("DBSIZE"), 0)
            stack.start_one(stack.shards[0].name)
            stack.wait_for_redis({f"page-{n}": 1 for n in range(20)})
        finally:
            stack.close()


if __name__ == "__main__":
    unittest.main()
