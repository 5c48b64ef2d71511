#!/usr/bin/env python3
"""The Grafana dashboard and Prometheus' rules name metrics that /metrics has, and the alerts fire when they should."""

import json
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import SOURCE_ROOT, Stack, wait_for

RULES = SOURCE_ROOT / "deploy/prometheus/visitd.rules.yml"
DASHBOARD = SOURCE_ROOT / "deploy/grafana/visitd.json"


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return asked + re.findall(r"^\s+expr: (.+)$", RULES.read_text(), re.MULTILINE)


def labels_of(selector: str) -> set[str]:
    return set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', selector)) - {"instance", "job"}


class Monitoring(unittest.TestCase):
    def test_every_metric_and_label_that_is_named_is_served(self):
        with Stack(frontends=1, settings={"flusher": {"flush_interval_ms": 200}}) as stack:
            stack.post("home")
            stack.get("home")

            def served() -> dict[str, set[str]]:
                found: dict[str, set[str]] = {}
                for line in stack.ask("GET", "/metrics").body.decode().splitlines():
                    sample = re.match(r"([a-z_]+)(\{.*\})? \d+$", line)
                    if sample:
                        found.setdefault(sample[1], set()).update(labels_of(sample[2] or ""))
                return found

            metrics = wait_for("the shards are told", lambda: (now := served()) and "visitd_shard_state" in now and now)
        asked = queries()
        self.assertGreater(len(asked), 30)
        named = [found for query in asked for found in re.findall(r"(visitd_[a-z_]+)(\{[^}]*\})?", query)]
        self.assertGreater(len(named), 30)
        for name, selector in named:
            self.assertIn(name, metrics)
            self.assertLessEqual(labels_of(selector), metrics[name], f"{name}{selector}")

    def test_promtool_finds_no_fault_in_the_rules_and_each_alert_fires(self):
        done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            tests = Path(folder) / "tests.yml"
            tests.write_text((SOURCE_ROOT / "tests/package/alerts_test.yml").read_text().replace("RULES", str(RULES)))
            done = subprocess.run(["promtool", "test", "rules", str(tests)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_alert_is_tested(self):
        alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
        self.assertGreaterEqual(len(alerts), 10)
        tests = (SOURCE_ROOT / "tests/package/alerts_test.yml").read_text()
        for alert in alerts:
            self.assertEqual(tests.count(f"alertname: {alert}}}"), 1, f"{alert} keeps quiet where all is well")
            self.assertEqual(tests.count(f'alertname="{alert}"'), 1, f"{alert} fires")


if __name__ == "__main__":
    unittest.main()
