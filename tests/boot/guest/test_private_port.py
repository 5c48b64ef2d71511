#!/usr/bin/env python3
"""With the drop-in that docs/systemd.md names, health and metrics are served at a port of their own and nowhere else."""

import unittest
from pathlib import Path

from guest import FRONTENDS, PORT, ask, is_active, is_refused, post, run, wait_for, wait_for_count

PRIVATE_PORT = 8001
DROP_IN = Path("/etc/systemd/system/visit-frontend@.service.d/private-port.conf")
OF_THE_HOST = ("/livez", "/readyz", "/metrics")


def restart() -> None:
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "visitd.target")
    for unit in FRONTENDS:
        wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))


class PrivatePort(unittest.TestCase):
    def statuses(self, port: int) -> dict[str, int]:
        return {path: ask("GET", path, port=port).status for path in OF_THE_HOST}

    def test_health_and_metrics_move_to_the_private_port_and_back(self):
        self.assertTrue(is_refused(PRIVATE_PORT))
        DROP_IN.parent.mkdir(exist_ok=True)
        DROP_IN.write_text("[Service]\nSockets=visitd-private.socket\n")
        restart()
        self.assertEqual(self.statuses(PRIVATE_PORT), dict.fromkeys(OF_THE_HOST, 200))
        self.assertEqual(self.statuses(PORT), dict.fromkeys(OF_THE_HOST, 404))
        self.assertEqual(ask("POST", "/visit/private", port=PRIVATE_PORT).status, 404)
        self.assertEqual(ask("GET", "/visits/private", port=PRIVATE_PORT).status, 404)
        post("private", 2)
        wait_for_count("private", 2)
        # Each frontend serves it: one is enough.
        run("systemctl", "stop", FRONTENDS[0])
        self.assertEqual(self.statuses(PRIVATE_PORT), dict.fromkeys(OF_THE_HOST, 200))
        DROP_IN.unlink()
        run("systemctl", "stop", "visitd-private.socket")
        restart()
        self.assertEqual(self.statuses(PORT), dict.fromkeys(OF_THE_HOST, 200))
        self.assertTrue(is_refused(PRIVATE_PORT))


if __name__ == "__main__":
    unittest.main()
