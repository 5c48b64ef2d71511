#!/usr/bin/env python3
"""Health and metrics are served at a port of their own and nowhere else, by every frontend; and where docs/systemd.md says so, at the public one."""

import json
import unittest

from guest import FRONTENDS, PORT, PRIVATE_PORT, ask, count, is_active, is_refused, post, run, wait_for, wait_for_count

OF_THE_HOST = ("/livez", "/readyz", "/metrics")
SOCKET = "visitd-private.socket"
TRIES = 20  # whichever frontend answers: all say the same


def restart() -> None:
    run("systemctl", "restart", "visitd.target")
    for unit in FRONTENDS:
        wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))


class PrivatePort(unittest.TestCase):
    def statuses(self, port: int) -> dict[str, set[int]]:
        return {path: {ask("GET", path, port=port).status for _ in range(TRIES)} for path in OF_THE_HOST}

    def check_private(self) -> None:
        self.assertEqual(self.statuses(PRIVATE_PORT), dict.fromkeys(OF_THE_HOST, {200}))
        self.assertEqual(self.statuses(PORT), dict.fromkeys(OF_THE_HOST, {404}))

    def test_1_health_and_metrics_are_at_the_private_port_of_every_frontend(self):
        self.assertTrue(is_active(SOCKET))
        self.check_private()
        post("private", 2)
        wait_for_count("private", 2)
        for unit in FRONTENDS:
            run("systemctl", "stop", unit)
            self.check_private()
            run("systemctl", "start", unit)
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
        self.assertIn(run("systemctl", "is-enabled", SOCKET, check=False).strip(), ("static", "indirect"))

    def test_2_whoever_reaches_it_may_add_what_it_likes(self):
        before = count("private")
        body = json.dumps({"private": 1000}).encode()
        self.assertEqual(ask("POST", "/visits", body, port=PRIVATE_PORT).status, 200)
        wait_for_count("private", before + 1000)

    def test_3_without_the_socket_they_are_at_the_public_port(self):
        run("systemctl", "mask", "--now", SOCKET)
        try:
            restart()
            self.assertTrue(is_refused(PRIVATE_PORT))
            self.assertEqual(self.statuses(PORT), dict.fromkeys(OF_THE_HOST, {200}))
        finally:
            run("systemctl", "unmask", SOCKET)
        restart()
        self.check_private()


if __name__ == "__main__":
    unittest.main()
