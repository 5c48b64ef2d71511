"""A mark of ours that this spool never wrote, and `visitctl accept` at a terminal: held with the reason, asked, and taken or not."""

import json
import os
import pty
import subprocess
import unittest

from harness import PATIENCE_S, VISITCTL, Stack, wait_for

# Of a life that comes after every other.
FOREIGN = "99-0123456789abcdef 7 fedcba9876543210"
SETTINGS = {"cache": {"ttl_ms": 200}, "flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "redis": {"held_recheck_ms": 200}}


class Prompt:
    """`visitctl accept` at a terminal."""

    def __init__(self, stack: Stack, shard: str):
        self._terminal, inside = pty.openpty()
        self._process = subprocess.Popen([str(VISITCTL), "--config", str(stack.settings_file), "accept", shard],
                                         stdin=inside, stdout=inside, stderr=inside, start_new_session=True)  # fmt: skip
        os.close(inside)
        self.text = ""

    def read(self) -> bool:
        """False: the other end is closed."""
        try:
            some = os.read(self._terminal, 4096)
        except OSError:
            return False
        self.text += some.decode().replace("\r\n", "\n")
        return bool(some)

    def wait_asked(self) -> str:
        while "Type yes:" not in self.text:
            assert self.read(), self.text
        return self.text

    def say(self, line: str) -> int:
        """The exit status after this answer."""
        os.write(self._terminal, f"{line}\n".encode())
        while self.read():
            pass
        os.close(self._terminal)
        return self._process.wait(PATIENCE_S)


class Accept(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, shards=1, settings=SETTINGS, redis_arguments=("--appendfsync", "always")))
        self.shard = self.stack.shards[0]
        for _ in range(5):
            self.stack.post("home")
        self.stack.wait_for_redis({"home": 5})
        wait_for("home is read", lambda: self.stack.get("home") == 5)
        with self.shard.client() as redis:
            fields = redis("HKEYS", self.key_of("home"))
        self.writer = next(field for field in fields if field.startswith("\x01w:"))

    def key_of(self, page: str) -> str:
        return f"visits:{{{self.stack.status('page', page)['bucket']}}}"

    def mark(self, page: str, mark: str = FOREIGN) -> None:
        """Our field of the page's bucket holds a mark that this flusher did not write, as where a copy of it counts."""
        with self.shard.client() as redis:
            redis("HSET", self.key_of(page), self.writer, mark)

    def state(self) -> dict:
        return self.stack.status()["shards"][0]

    def wait_held(self) -> str:
        """A read past its TTL finds it out."""
        wait_for("the shard is held", lambda: self.stack.read("home") and self.state()["state"] == "held")
        return self.state()["reason"]

    def wait_up(self) -> None:
        wait_for("the shard is up", lambda: self.state()["state"] == "up")

    def token(self) -> str:
        """Of what would be accepted now."""
        return json.loads(self.stack.visitctl("accept", self.shard.name, "--json", check=False).stdout)["token"]

    def test_a_mark_that_this_spool_never_wrote_is_held_with_the_reason_and_can_be_accepted(self):
        # Found by a read, on a living connection, in a bucket that this host has never written.
        self.mark("never")
        wait_for("the read finds it", lambda: self.stack.read("never").status == 503 and self.state()["state"] == "held")
        self.assertIn("clone", self.wait_held())
        self.assertIn(FOREIGN, self.wait_held())
        self.stack.post("never")
        self.stack.post("home")
        self.assertEqual(self.stack.redis_counts(), {"home": 5})
        self.stack.visitctl("accept", self.shard.name, "--yes")
        self.wait_up()
        # What waited is counted, on top of what the shard holds, and goes on under marks of this flusher.
        self.stack.wait_for_redis({"home": 6, "never": 1})
        self.stack.post("never")
        self.stack.wait_for_redis({"home": 6, "never": 2})
        wait_for("it is read", lambda: self.stack.shows("never", 2))
        # It stays so over a restart.
        self.stack.restart("flusher")
        self.wait_up()
        self.stack.post("never")
        self.stack.wait_for_redis({"home": 6, "never": 3})

    def test_a_terminal_is_told_what_would_be_given_up_and_asked(self):
        self.mark("home")
        self.wait_held()
        prompt = Prompt(self.stack, self.shard.name)
        said = prompt.wait_asked()
        self.assertIn("1 buckets hold something else", said)
        self.assertIn("5 visits of 1 pages", said)
        self.assertNotEqual(prompt.say("no"), 0)
        self.assertIn("nothing was changed", prompt.text)
        self.assertEqual(self.state()["state"], "held")

        prompt = Prompt(self.stack, self.shard.name)
        prompt.wait_asked()
        self.assertEqual(prompt.say("yes"), 0, prompt.text)
        self.wait_up()
        self.stack.post("home")
        self.stack.wait_for_redis({"home": 6})

    def test_what_was_agreed_to_is_void_when_the_shard_changes_meanwhile(self):
        self.mark("home")
        self.wait_held()
        prompt = Prompt(self.stack, self.shard.name)
        prompt.wait_asked()
        before = self.token()
        self.mark("other")
        wait_for("the flusher has looked again", lambda: self.token() != before)
        self.assertNotEqual(prompt.say("yes"), 0)
        self.assertIn("has changed since", prompt.text)
        self.assertEqual(self.state()["state"], "held")
        self.assertEqual(self.stack.redis_counts(), {"home": 5})
        # Looked at again, it is taken.
        prompt = Prompt(self.stack, self.shard.name)
        self.assertIn("2 buckets hold something else", prompt.wait_asked())
        self.assertEqual(prompt.say("yes"), 0, prompt.text)
        self.wait_up()


if __name__ == "__main__":
    unittest.main()
