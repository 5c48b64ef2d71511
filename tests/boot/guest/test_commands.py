#!/usr/bin/env python3
"""The commands that the documents name for an operator of the package, as they stand there, and what follows when settings are wrong."""

import os
import re
import shutil
import signal
import socket
import subprocess
import unittest
from pathlib import Path

from guest import (
    FRONTENDS,
    PORT,
    WAIT_S,
    Traffic,
    do,
    documented,
    flush,
    is_active,
    is_refused,
    journal,
    main_pid,
    post,
    run,
    show,
    wait_for,
    wait_for_count,
    wait_for_shards,
)

SETTINGS = Path("/etc/visitd/visitd.toml")
STATE = Path("/var/lib/visitd")
POLICY = Path("/usr/sbin/policy-rc.d")
ROLLING_RESTART = "/usr/libexec/visitd/rolling-restart"
RINGS = Path("/run/visitd/rings")
RUNNING = ["visit-flusher.service", *FRONTENDS]
# One that fails as long as the settings are wrong starts again after 5 s; in this long it may not write more than a few lines.
LOOK_S = 10
LINES_LIMIT = 40  # of a unit; a fast loop wrote 400


def pids() -> dict[str, int]:
    return {unit: main_pid(unit) for unit in RUNNING}


class Commands(unittest.TestCase):
    def setUp(self):
        before = SETTINGS.read_text()
        self.addCleanup(SETTINGS.write_text, before)
        self.addCleanup(POLICY.unlink, missing_ok=True)

    def set(self, *lines: str) -> None:
        SETTINGS.write_text("\n".join(lines) + "\n")

    def test_1_a_reload_lets_all_of_them_read_their_settings_again(self):
        before = pids()
        self.set("[http]", "retry_after_s = 7", "[redis]", "held_recheck_ms = 777")
        run("systemctl", "reload", "visit-frontend@*", "visit-flusher")
        for unit, key in ((FRONTENDS[0], "http.retry_after_s"), (FRONTENDS[1], "http.retry_after_s"), ("visit-flusher", "redis.held_recheck_ms")):
            wait_for(f"{unit} read {key}", lambda unit=unit, key=key: re.search(rf"read the settings again: .*{key}", journal(unit)))
        self.assertEqual(pids(), before)
        # Wrong ones are told to whoever asks, and nobody is asked to read them.
        self.set("[ring]", "lanes = 0")
        for unit in ("visit-flusher", FRONTENDS[0]):
            run("systemctl", "reload", unit, check=False)
            self.assertEqual(show(unit, "ReloadResult")["ReloadResult"], "exit-code")
            wait_for("the journal names the setting", lambda unit=unit: "ring.lanes" in journal(unit))
        self.assertEqual(pids(), before)

    def test_2_the_journal_knows_warnings_from_the_rest(self):
        self.set("[ring]", "lanes = 4")  # cannot change while it runs
        run("systemctl", "reload", "visit-frontend@*", "visit-flusher")
        warnings = ("journalctl", "--no-pager", "-b", "-o", "cat", "-u", "visit*", "-p", "warning")
        wait_for("a warning", lambda: "ring.lanes" in run(*warnings))
        self.assertNotIn("serving as lane", run(*warnings))
        said = run("journalctl", "--no-pager", "-b", "-o", "cat", "-u", "visit*")
        self.assertRegex(said, re.compile(r"^serving as lane", re.MULTILINE))

    def test_3_a_restart_of_all_of_it_checks_the_settings_first(self):
        before = pids()
        self.set("[ring]", "lanes = 0")
        said = run(ROLLING_RESTART, check=False)
        self.assertIn("nothing was restarted", said)
        self.assertIn("lanes", said)
        self.assertEqual(pids(), before)

    def test_4_a_restart_of_all_of_it_goes_from_the_flusher_to_the_frontends_and_refuses_nobody(self):
        before = pids()
        run("systemctl", "stop", FRONTENDS[1])
        with Traffic("rolled") as traffic:
            traffic.wait_for_more()
            run(ROLLING_RESTART)
            traffic.wait_for_more()
        self.assertEqual((traffic.refused_connections, traffic.not_taken), (0, {}), journal())
        self.assertFalse(is_active(FRONTENDS[1]), "a unit that was stopped was started")
        run("systemctl", "start", FRONTENDS[1])
        since = {unit: int(show(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"]) for unit in RUNNING}
        self.assertLess(since["visit-flusher.service"], since[FRONTENDS[0]])
        self.assertEqual([unit for unit, pid in pids().items() if pid == before[unit]], [])

    def test_4_a_restart_of_all_of_it_with_other_lanes_leaves_the_ring_and_loses_nothing(self):
        usual = SETTINGS.read_text()
        for name, settings in (("fewer-lanes", "[ring]\nlanes = 4\nlane_bytes = 65536\n"), ("usual-lanes", usual)):
            before, ring = pids(), RINGS.read_text()
            SETTINGS.write_text(settings)
            with Traffic(name) as traffic:
                traffic.wait_for_more()
                run(ROLLING_RESTART)
                wait_for("a ring of the new settings", lambda ring=ring: RINGS.read_text() != ring)
                for unit in RUNNING:
                    wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
                traffic.wait_for_more()
            self.assertEqual(traffic.refused_connections, 0)
            # The first frontend that is restarted leaves the ring with the other one: visits are put off meanwhile.
            self.assertEqual([reason for reason in traffic.not_taken if not reason.startswith("503 ")], [])
            print(f"\n{name}: {traffic.total} visits, put off: {sum(traffic.not_taken.values())}", flush=True)
            traffic.check_redis()
            since = {unit: int(show(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"]) for unit in RUNNING}
            self.assertLess(since["visit-flusher.service"], min(since[unit] for unit in FRONTENDS))
            self.assertEqual([unit for unit, pid in pids().items() if pid == before[unit]], [])

    def test_5_an_upgrade_restarts_nothing_that_the_policy_keeps(self):
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
        before = pids()
        run(ROLLING_RESTART, "--upgrade")
        self.assertEqual(pids(), before)
        POLICY.unlink()
        run(ROLLING_RESTART, "--upgrade")
        self.assertEqual([unit for unit, pid in pids().items() if pid == before[unit]], [])

    def test_6_a_disabled_frontend_stays_so(self):
        run("systemctl", "disable", "--now", "visit-frontend@2")
        run("systemctl", "restart", "visitd.target")
        wait_for("frontend 1 runs", lambda: is_active(FRONTENDS[0]))
        run(ROLLING_RESTART)
        run("dpkg-reconfigure", "visitd", check=False)
        self.assertFalse(is_active(FRONTENDS[1]))
        run("systemctl", "enable", "--now", "visit-frontend@2")
        self.assertTrue(is_active(FRONTENDS[1]))

    def test_7_wrong_settings_make_no_fast_loop_and_right_ones_are_taken_by_themselves(self):
        post("mended", 3)
        wait_for_count("mended", 3)
        self.set("[ring]", "lanes = 0")
        for unit in RUNNING:
            run("systemctl", "kill", "--signal=KILL", unit)
        with self.subTest("pace"):
            os.sync()
            wait_for("the flusher failed", lambda: "ring.lanes" in journal("visit-flusher"))
            since = run("date", "+%s").strip()
            wait_for("a look", lambda: int(run("date", "+%s")) >= int(since) + LOOK_S, limit_s=WAIT_S + LOOK_S, pause_s=0.5)
            for unit in RUNNING:
                lines = run("journalctl", "--no-pager", "-o", "cat", "--since", f"@{since}", "-u", unit).splitlines()
                self.assertLess(len(lines), LINES_LIMIT, "\n".join(lines))
                print(f"\n{unit}: {len(lines)} lines in {LOOK_S} s of wrong settings", flush=True)
        self.set("")
        for unit in RUNNING:
            wait_for(f"{unit} runs again", lambda unit=unit: is_active(unit))
        wait_for_count("mended", 3)


class ByHand(unittest.TestCase):
    """Drop-ins and commands of docs/, as they stand there."""

    def drop_in(self, unit: str, text: str) -> None:
        path = Path(f"/etc/systemd/system/{unit}.d/override.conf")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.addCleanup(self.take_away, path)
        run("systemctl", "daemon-reload")

    def take_away(self, path: Path) -> None:
        # Stopped as it is: RemoveOnStop= of a drop-in that is gone removes nothing.
        run("systemctl", "stop", "visitd.target", "visitd.socket", "visitd-private.socket")
        path.unlink()
        path.parent.rmdir()
        run("systemctl", "daemon-reload")
        self.restart()

    def restart(self) -> None:
        run("systemctl", "restart", "visitd.target")
        for unit in RUNNING:
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))

    def test_1_root_leaves_nothing_in_the_flushers_folders(self):
        post("renewed", 2)
        flush()
        run("systemctl", "stop", "visit-flusher")
        said = run("visit-flusher", "--config", str(SETTINGS), "--renew-spool", check=False)
        self.assertIn("visit-flusher", said)
        self.assertEqual([path for path in STATE.iterdir() if path.stat().st_uid == 0], [])
        self.assertEqual([path for path in STATE.iterdir() if "aside" in path.name], [])
        said = run("visit-frontend", "--config", str(SETTINGS), "--prepare", check=False)
        self.assertIn("belongs to user visit-frontend", said)

    def test_2_the_spool_is_renewed_with_the_documented_commands(self):
        stop, renew, start = documented("operate.md", "Remove or renew a spool by hand").replace("sudo ", "").splitlines()
        run(*stop.split())
        with subprocess.Popen(renew.split(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as flusher:
            for line in flusher.stderr:
                if "was put away" in line:
                    break
            flusher.send_signal(signal.SIGINT)
            flusher.stderr.read()
        run(*start.split())
        self.assertEqual(len(list(STATE.glob("spool.db.aside-*"))), 1)
        wait_for_shards("up")
        post("renewed", 3)
        wait_for_count("renewed", 5)

    def test_3_a_shard_that_the_unit_may_not_reach_is_told_with_the_setting(self):
        before = SETTINGS.read_text()
        SETTINGS.write_text('[redis]\ntimeout_ms = 1000\nshards = ["redis_7070=redis://192.0.2.1:7070", "redis://127.0.0.1:7071"]\n')
        run("systemctl", "restart", "visit-flusher")
        wait_for("the journal names the setting", lambda: "IPAddressAllow=" in journal("visit-flusher"))
        SETTINGS.write_text(before)
        run("systemctl", "restart", "visit-flusher")
        wait_for_shards("up")

    def test_4_a_unix_socket_for_the_proxys_group_alone(self):
        self.drop_in("visitd.socket", documented("proxies.md", "A Unix socket", "ini"))
        self.restart()
        path = Path("/run/visitd.sock")
        self.assertEqual((path.stat().st_mode & 0o777, path.group()), (0o660, "www-data"))
        self.assertTrue(is_refused(), "port 8000 is still open")
        self.assertIn("success", run("curl", "--silent", "--unix-socket", str(path), "-X", "POST", "http://localhost/visit/by-socket"))
        said = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "curl", "--silent", "--unix-socket", path,
                               "http://localhost/visits/by-socket"], capture_output=True, timeout=WAIT_S)  # fmt: skip
        self.assertEqual((said.returncode, said.stdout), (7, b""))
        many = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--unix-socket", str(path), "http://localhost/visits", "-d", '{"by-socket":101}')
        self.assertEqual(run(*many), "200", journal(FRONTENDS[0]))
        # Open to every user, it is a stranger's.
        run("systemctl", "stop", "visitd.target", "visitd.socket")
        Path("/etc/systemd/system/visitd.socket.d/override.conf").write_text(
            documented("proxies.md", "A Unix socket", "ini").replace("SocketMode=0660", "SocketMode=0666"))  # fmt: skip
        run("systemctl", "daemon-reload")
        self.restart()
        self.assertEqual(run(*many), "403")
        self.assertRegex(journal(FRONTENDS[0]), r"/run/visitd\.sock.*every user of this host may connect.*mode is 0666.*SocketMode=")

    def test_5_a_port_of_its_own_and_a_setting_that_has_no_effect(self):
        self.drop_in("visitd.socket", documented("proxies.md", "Behind a proxy", "ini"))
        SETTINGS.write_text('[http]\nlisten = ["127.0.0.1:9999"]\n')
        self.addCleanup(SETTINGS.write_text, "")
        self.restart()
        wait_for("the journal names setting and unit", lambda: re.search(r"http\.listen.*has no effect.*visitd\.socket", journal(FRONTENDS[0])))
        listening = [line.split()[1] for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines() if " 0A " in line]
        self.assertEqual([address for address in listening if address.endswith(":1F40")], ["0100007F:1F40"])

    def test_5_a_port_that_another_program_has_is_told_with_the_socket_unit(self):
        self.addCleanup(self.restart)
        run("systemctl", "stop", "visitd.target", "visitd.socket", "visitd-private.socket")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("", PORT))
            other.listen(1)
            run("systemctl", "start", "--no-block", "visitd.target")
            wait_for("the journal names the socket unit",
                     lambda: re.search(r"the unit visitd\.socket does not listen\. Another program may have its port", journal(FRONTENDS[0])))  # fmt: skip
        for unit in FRONTENDS:  # by themselves, once the port is free
            wait_for(f"{unit} runs", lambda unit=unit: is_active(unit))
        self.assertFalse(is_refused())

    def test_5_a_port_that_systemd_has_is_told_with_who_has_it(self):
        folder = Path("/tmp/visitd-by-hand")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        settings = folder / "visitd.toml"
        settings.write_text(f'[paths]\nruntime_directory = "{folder}/run"\nstate_directory = "{folder}/state"\n[http]\nlisten = ["127.0.0.1:{PORT}"]\n')
        settings.chmod(0o600)
        said = run("visit-frontend", "--config", str(settings), check=False)
        run("visitctl", "--config", str(settings), "remove", "--yes", check=False)
        self.assertIn(f"'127.0.0.1:{PORT}' is in use by systemd, for a socket unit (systemctl list-sockets names it)", said)

    def test_6_shards_with_a_password_that_no_other_user_sees(self):
        post("secret", 2)
        flush()
        self.addCleanup(self.without_password)
        do("systemd.md", "Passwords")
        wait_for_shards("up")
        for port in ("7070", "7071"):
            self.assertIn("NOAUTH", run("redis-cli", "-p", port, "ping"))
        post("secret", 3)
        wait_for_count("secret", 5)
        flush()
        self.assertEqual(run("grep", "--recursive", "--files-with-matches", "--text", "YOUR-PASSWORD", "/proc/self/root/etc/systemd", check=False), "")
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            self.assertNotIn(b"YOUR-PASSWORD", command.read_bytes())
        for name in ("redis_password", "redis_shard.conf"):
            self.assertEqual(os.stat(SETTINGS.parent / name).st_mode & 0o777, 0o600)

    def without_password(self) -> None:
        for name in ("redis_password", "redis_shard.conf"):
            (SETTINGS.parent / name).unlink(missing_ok=True)
        run("systemctl", "restart", "visit-redis@7070", "visit-redis@7071", "visit-flusher")
        wait_for_shards("up")

    def test_7_a_password_file_that_the_frontends_can_read_is_refused(self):
        secret = SETTINGS.parent / "readable"
        secret.write_text("x\n")
        secret.chmod(0o644)
        self.addCleanup(secret.unlink)
        before = SETTINGS.read_text()
        SETTINGS.write_text(f'[redis]\npassword_file = "{secret}"\n')
        run("systemctl", "restart", "--no-block", FRONTENDS[1])
        wait_for("it is told", lambda: f"can read '{secret}'" in journal(FRONTENDS[1]))
        SETTINGS.write_text(before)
        wait_for("frontend 2 runs", lambda: is_active(FRONTENDS[1]))

    def test_8_the_settings_are_for_the_group_alone(self):
        self.assertEqual((SETTINGS.stat().st_mode & 0o777, SETTINGS.owner(), SETTINGS.group()), (0o640, "root", "visitd"))


if __name__ == "__main__":
    unittest.main()
