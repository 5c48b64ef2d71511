#!/usr/bin/env python3
"""What /metrics says of every process of the host: by Prometheus' rules, and true."""

import collections
import re
import socket
import subprocess
import unittest

from harness import PATIENCE_S, Stack, wait_for
from refused_requests import refused_by_content, refused_by_form, request_bytes

# Each on a connection of its own. Pages are read 400 at a time at most.
REFUSED = [
    *refused_by_form("POST", "/visits"),
    *((name, request) for path in ("/visit/{page_id}", "/visits", "/visits/{page_id}", "/pages") for name, _, request, _ in refused_by_content(path)),
    ("no-such-path", request_bytes("GET", "/nothing")),
    ("method-not-allowed", request_bytes("PUT", "/")),
    ("owner-key-unset", request_bytes("GET", "/total")),
    ("owner-from-elsewhere", request_bytes("DELETE", "/visits/home", "Origin: https://example.org")),
]


def samples_of(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^([a-z_]+(?:\{.*\})?) (\d+)$", text, re.MULTILINE)}


def total(samples: dict[str, int], name: str) -> int:
    """Over all frontends."""
    return sum(value for sample, value in samples.items() if re.fullmatch(name.replace("LANE", r'lane="\d+"'), sample))


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack(frontends=2, settings={"http": {"batch_read_limit": 400}, "flusher": {"flush_interval_ms": 200}}))

    def text(self) -> str:
        answer = self.stack.ask("GET", "/metrics")
        self.assertEqual(answer.status, 200)
        return answer.body.decode()

    def test_promtool_finds_nothing_to_say(self):
        self.stack.post("home")
        done = subprocess.run(["promtool", "check", "metrics"], input=self.text(), capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_any_frontend_tells_of_all_processes(self):
        for _ in range(40):
            self.stack.post("sum")
        self.assertEqual(self.stack.get("sum"), 40)
        name = r"visitd_frontend_visits_total\{LANE\}"
        wait_for("all visits are told", lambda: total(samples_of(self.text()), name) >= 40)
        samples = samples_of(self.text())
        self.assertEqual(total(samples, r"visitd_frontend_up\{LANE\}"), 2)
        self.assertEqual(samples["visitd_flusher_up"], 1)
        for shard in self.stack.shards:
            self.assertEqual(samples[f'visitd_shard_state{{shard="{shard.name}",state="up"}}'], 1)
        wait_for("a flush is told", lambda: samples_of(self.text())["visitd_flusher_flushes_total"] > 0)

    def test_every_refusal_is_counted_under_its_name(self):
        before = samples_of(self.text())
        expected = collections.Counter(reason for reason, _ in REFUSED)
        for _, request in REFUSED:
            with socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        def counted() -> dict[str, int]:
            now = samples_of(self.text())
            name = r'visitd_frontend_requests_refused_total\{LANE,reason="%s"\}'
            return {reason: total(now, name % reason) - total(before, name % reason) for reason in expected}

        try:
            wait_for("every refusal is counted", lambda: counted() == expected)
        except AssertionError:
            self.assertEqual(counted(), expected)


if __name__ == "__main__":
    unittest.main()
