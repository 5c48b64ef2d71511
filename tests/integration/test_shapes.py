#!/usr/bin/env python3
"""In other counters' places: what their clients ask for is answered as they expect it (tests/integration/shapes/), and counted as all
visits are; their scripts, as they are published, count and show in a real browser (test_shape_clients.py)."""

import os
import signal
import unittest
from pathlib import Path

from golden_exchanges import exchanges
from harness import Client, Stack, free_port, wait_for

GOLDEN = Path(__file__).resolve().parent / "shapes"
KEY = "correct-horse-battery-staple"


class Shaped(Stack):
    """A stack that serves these shapes, with a private address and a key of the owner."""

    def __init__(self, *shapes: str, **settings):
        self.private = free_port()
        http = {"shapes": list(shapes), "private_listen": [f"127.0.0.1:{self.private}"]} | settings.pop("http", {})
        super().__init__(frontends=2, settings={"http": http, "cache": {"ttl_ms": 300}, **settings})
        key_file = self.folder / "owner_key"
        key_file.write_text(KEY + "\n")
        self.settings["owner"] = {"key_file": str(key_file)}
        self.write_settings()


class Golden(unittest.TestCase):
    def check_shape(self, name: str) -> None:
        files = sorted((GOLDEN / name).glob("*.golden"))
        self.assertTrue(files)
        with Shaped(name) as stack:
            for file in files:
                for exchange in exchanges(file):
                    with self.subTest(exchange.where), Client(stack.private if exchange.at_private else stack.port) as client:
                        answer = client.ask(exchange.method, exchange.target, exchange.content, exchange.fields)
                        self.assertEqual(exchange.faults(answer), [], f"{exchange.method} {exchange.target}")

    def test_countapi(self):
        self.check_shape("countapi")

    def test_abacus(self):
        self.check_shape("abacus")

    def test_goatcounter(self):
        self.check_shape("goatcounter")

    def test_busuanzi(self):
        self.check_shape("busuanzi")

    def test_vercount(self):
        self.check_shape("vercount")

    def test_hits(self):
        self.check_shape("hits")


if __name__ == "__main__":
    unittest.main()
