"""Segments removed, the runtime directory made anew, settings changed: nothing acknowledged is lost, no lane has two owners."""

import ctypes
import subprocess
import time
import unittest

from harness import LIBC, PATIENCE_S, Stack, Traffic, segments, wait_for

IPC_RMID = 0


def noted(stack: Stack, name: str) -> list[int]:
    """The ids of the segments that the runtime directory names, oldest first."""
    path = stack.runtime_directory / name
    return [int(line.split()[1]) for line in path.read_text().splitlines()] if path.exists() else []


def lanes_in_use(stack: Stack) -> list[dict]:
    """What visitctl reports of the lanes of the ring in use."""
    return next(ring["lanes"] for ring in stack.status("lanes")["rings"] if ring["in_use"])


def remove_segment(segment: int) -> None:
    if LIBC.shmctl(segment, IPC_RMID, None) != 0:
        raise OSError(ctypes.get_errno(), f"segment {segment}")


class Segments(unittest.TestCase):
    def under_load(self, stack: Stack, hurt) -> None:
        traffic = Traffic(stack, clients=8, readers=2, pages=30).start()
        time.sleep(1)
        hurt()
        time.sleep(4)
        before = traffic.acknowledged.total()
        wait_for("visits are acknowledged again", lambda: traffic.acknowledged.total() > before + 500)
        traffic.stop()
        traffic.check()

    def test_both_are_shown_by_ipcs_with_their_modes(self):
        with Stack(frontends=2) as stack:
            def shown(segment: int) -> tuple[str, str]:
                """The mode and the number of attached processes, as ipcs prints them."""
                table = subprocess.run(["ipcs", "-m"], capture_output=True, text=True, check=True).stdout
                line = next(line for line in table.splitlines() if f" {segment} " in line).split()
                return line[3], line[5]

            for name in ("rings", "cache"):
                segment = noted(stack, name)[-1]
                # A process that listens already may be about to attach the other side's segment.
                wait_for(f"the segment of {name} has three processes", lambda: shown(segment)[1] == "3")
                self.assertEqual(shown(segment)[0], "640")

    def test_the_ring_is_removed_under_load(self):
        with Stack(frontends=2, supervised=True) as stack:
            old = noted(stack, "rings")[-1]
            self.under_load(stack, lambda: remove_segment(old))
            self.assertNotEqual(noted(stack, "rings")[-1], old)
            wait_for("nobody holds the old ring", lambda: old not in [s["shmid"] for s in segments()])

    def test_the_cache_is_removed_under_load(self):
        with Stack(frontends=2, supervised=True) as stack:
            old = noted(stack, "cache")[-1]
            self.under_load(stack, lambda: remove_segment(old))
            self.assertNotEqual(noted(stack, "cache")[-1], old)
            wait_for("nobody holds the old cache", lambda: old not in [s["shmid"] for s in segments()])

    def test_the_runtime_directory_is_made_anew_under_load(self):
        with Stack(frontends=2, supervised=True) as stack:
            aside = stack.folder / "run.aside"

            def hurt():
                stack.runtime_directory.rename(aside)
                stack.runtime_directory.mkdir(mode=0o700)
                # One more flusher and one more frontend than there ever should be, before the others have noticed.
                for name in ("flusher", "frontend_1"):
                    second = subprocess.Popen(stack.processes[name].argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                              env=stack._environment)  # fmt: skip
                    self.addCleanup(second.wait)
                    self.addCleanup(second.kill)
                    stack._pids.add(second.pid)

            self.under_load(stack, hurt)
            living = [lane["pid"] for lane in lanes_in_use(stack) if lane["process"] == "running"]
            self.assertEqual(len(living), len(set(living)))
            self.assertLessEqual({stack.processes[name].pid for name in stack.frontends}, set(living))

    def test_changed_settings_count_after_a_restart_and_lose_nothing(self):
        with Stack(frontends=2, supervised=True) as stack:
            for _ in range(50):
                stack.post("home")
            stack.settings["ring"].update({"lanes": 6, "lane_bytes": 2 << 20})
            stack.settings["cache"]["entries"] = 1000
            stack.write_settings()
            for name in ("frontend_1", "flusher", "frontend_2"):
                stack.kill9(name)
            wait_for("the new ring is used", lambda: len(lanes_in_use(stack)) == 6)
            stack.wait_ready()
            for _ in range(50):
                stack.post("home")
            stack.wait_for_redis({"home": 100})
            self.assertEqual(stack.get("home"), 100)

    def test_changed_settings_without_a_flusher_wait_until_the_ring_is_drained(self):
        with Stack(frontends=1) as stack:
            stack.stop_one("flusher")
            for _ in range(20):
                stack.post("home")
            stack.settings["ring"]["lanes"] = 2
            stack.write_settings()
            stack.restart("frontend_1")
            wait_for("the frontend listens", lambda: stack.listens(stack.processes["frontend_1"].pid))
            self.assertIn("stays in use", stack.processes["frontend_1"].text())
            stack.post("home")
            stack.start_one("flusher")
            stack.wait_for_redis({"home": 21})
            stack.restart("frontend_1")
            wait_for("the new ring is used", lambda: len(lanes_in_use(stack)) == 2)

    def test_more_frontends_than_lanes_are_refused_with_what_to_do(self):
        with Stack(frontends=2, settings={"ring": {"lanes": 2}}) as stack:
            third = subprocess.run(stack.processes["frontend_1"].argv, capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual(third.returncode, 1)
            self.assertIn("raise ring.lanes", third.stderr)
            for name in stack.frontends:
                self.assertIn(str(stack.processes[name].pid), third.stderr)


if __name__ == "__main__":
    unittest.main()
