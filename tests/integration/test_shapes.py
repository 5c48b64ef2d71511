#!/usr/bin/env python3
"""In other counters' places: what their clients ask for is answered as they expect it (tests/integration/shapes/), and counted as all
visits are; their scripts, as they are published, count and show in a real browser (test_shape_clients.py)."""

import unittest
from pathlib import Path

from golden_exchanges import exchanges
from harness import Client
from shaped_stack import ShapedStack

GOLDEN = Path(__file__).resolve().parent / "shapes"


class Golden(unittest.TestCase):
    def check_shape(self, name: str) -> None:
        files = sorted((GOLDEN / name).glob("*.golden"))
        self.assertTrue(files)
        with ShapedStack(name) as stack:
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
