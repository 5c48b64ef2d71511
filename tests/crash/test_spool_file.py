"""The spool's file is removed or replaced under a running flusher: what is open goes into a new file there, and nothing is lost."""

import shutil
import sqlite3
import time
import unittest

from harness import Stack, Traffic, wait_for


def remove_tree(path) -> None:
    """Again where the flusher made a file in it meanwhile."""

    def gone() -> bool:
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    wait_for(f"{path} is gone", gone, pause_s=0)


class SpoolFile(unittest.TestCase):
    def stack(self, **flusher) -> Stack:
        return Stack(frontends=2, settings={"cache": {"ttl_ms": 200}, "flusher": {"flush_interval_ms": 300, **flusher}})

    def with_visits_in_the_spool_alone(self, hurt, said: str) -> None:
        """No flush, so that only the spool holds ten visits; the file is hurt; killed, the next start still has them."""
        with self.stack(flush_interval_ms=600_000, commit_interval_ms=50) as stack:
            for _ in range(10):
                stack.post("home")
            self.committed(stack)
            hurt(stack)
            wait_for("it is found out", lambda: said in stack.processes["flusher"].text())
            self.assertEqual(stack.processes["flusher"].text().count("under the running flusher"), 1)
            for name in stack.processes:
                if not name.startswith("redis"):
                    stack.kill9(name)
            # Only the file under the name is left of the ten.
            shutil.rmtree(stack.runtime_directory)
            stack.runtime_directory.mkdir()
            for name in stack.processes:
                if not name.startswith("redis"):
                    stack.start_one(name)
            stack.wait_ready()
            self.assertEqual(stack.get("home"), 10)
            stack.post("home")
            stack.flush()
            self.assertEqual(stack.redis_counts(), {"home": 11})

    def committed(self, stack: Stack) -> None:
        wait_for("the lanes are durable", lambda: sum(lane["undurable_bytes"] or 0 for ring in stack.status("lanes")["rings"]
                                                      for lane in ring["lanes"]) == 0)  # fmt: skip

    def test_it_is_removed(self):
        self.with_visits_in_the_spool_alone(lambda stack: (stack.state_directory / "spool.db").unlink(), "was removed")

    def test_it_is_removed_with_its_log(self):
        def hurt(stack):
            for path in stack.state_directory.glob("spool.db*"):
                path.unlink()

        self.with_visits_in_the_spool_alone(hurt, "was removed")

    def test_its_log_is_removed(self):
        self.with_visits_in_the_spool_alone(lambda stack: (stack.state_directory / "spool.db-wal").unlink(), "has lost its write-ahead log")

    def test_the_state_directory_is_removed(self):
        self.with_visits_in_the_spool_alone(lambda stack: remove_tree(stack.state_directory), "was removed")

    def test_another_spool_is_put_there_and_kept(self):
        def hurt(stack):
            copy = stack.folder / "copy.db"
            with sqlite3.connect(copy) as other:
                other.execute("CREATE TABLE somebodys (value)")
            other.close()
            copy.rename(stack.state_directory / "spool.db")
            (stack.state_directory / "spool.db-wal").unlink()
            (stack.state_directory / "spool.db-wal").write_bytes(b"somebody's log")

        def check(stack):
            hurt(stack)
            wait_for("it is kept", lambda: list(stack.state_directory.glob("spool.db.found-*[0-9]")))
            (kept,) = stack.state_directory.glob("spool.db.found-*[0-9]")
            self.assertEqual((kept.parent / f"{kept.name}-wal").read_bytes(), b"somebody's log")
            (kept.parent / f"{kept.name}-wal").unlink()
            with sqlite3.connect(kept) as other:
                self.assertEqual(other.execute("SELECT count(*) FROM somebodys").fetchone(), (0,))
            other.close()

        self.with_visits_in_the_spool_alone(check, "was replaced by another file")

    def test_all_of_it_under_load(self):
        with self.stack(commit_interval_ms=50) as stack:
            traffic = Traffic(stack, clients=6, readers=2, pages=30).start()
            path = stack.state_directory / "spool.db"
            old = stack.folder / "old.db"
            shutil.copy(path, old)
            for round_number in range(3):
                time.sleep(0.7)
                path.unlink(missing_ok=True)
                time.sleep(0.7)
                shutil.copy(old, stack.folder / "again.db")
                (stack.folder / "again.db").rename(path)
                time.sleep(0.7)
                remove_tree(stack.state_directory)
                time.sleep(1.5 if round_number % 2 else 0.2)
                wait_for("the file is there again", path.exists)
                stack.kill9("flusher")
                stack.start_one("flusher")
            traffic.stop()
            traffic.check()

    def test_where_no_new_file_can_be_made_visits_wait_in_the_lanes(self):
        with self.stack(commit_interval_ms=50) as stack:
            stack.post("home")
            stack.wait_for_redis({"home": 1})
            # A file where the directory was: nothing can be made there, whoever this runs as.
            in_the_way = stack.folder / "in-the-way"
            in_the_way.write_text("in the way")

            def takes_its_place() -> bool:
                remove_tree(stack.state_directory)
                try:
                    in_the_way.rename(stack.state_directory)
                except IsADirectoryError:
                    return False  # the flusher has made a new directory before the file was there
                return True

            wait_for("a file is in the way", takes_its_place)
            wait_for("it is said", lambda: "cannot write what it has open to a new file" in stack.processes["flusher"].text())
            for _ in range(5):
                stack.post("home")
            self.assertEqual(stack.get("home"), 6)
            stack.state_directory.unlink()
            stack.wait_for_redis({"home": 6})
            self.assertTrue((stack.state_directory / "spool.db").exists())
            stack.kill9("flusher")
            stack.start_one("flusher")
            stack.post("home")
            stack.wait_for_redis({"home": 7})


if __name__ == "__main__":
    unittest.main()
