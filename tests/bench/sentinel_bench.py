#!/usr/bin/env python3
"""Failovers by Sentinel, under visits and under plain INCR on the same servers: what each of them lost of what was acknowledged.

Before each failover the replicas stand still for a while, as behind a slow network; then the primary is killed, and one of them is
promoted. Runs in a network namespace of its own, whose sockets hold little: what a primary sent and no replica has read dies with it.
Needs root. VISITD_BUILD_ROOT names the build folder; arguments: failovers (5), seconds that the replicas stand still (1). Prints lines
"name value unit".
"""

import collections
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import Traffic, wait_for  # noqa: E402
from sentinels import WatchedStack  # noqa: E402

IN_NAMESPACE = "VISITD_BENCH_IN_NAMESPACE"
SOCKET_BYTES = "4096 8192 8192"
INCR_CLIENTS = 4
INCR_KEYS = 50


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<66} {value:10.0f} {unit}", flush=True)


def enter_namespace() -> None:
    setup = f"ip link set lo up && echo {SOCKET_BYTES} > /proc/sys/net/ipv4/tcp_rmem && echo {SOCKET_BYTES} > /proc/sys/net/ipv4/tcp_wmem"
    command = ["unshare", "--net", "sh", "-c", f'{setup} && exec "$@"', "sh", sys.executable, *sys.argv]
    sys.exit(subprocess.run(command, env=os.environ | {IN_NAMESPACE: "1"}).returncode)


class Increments:
    """Clients that count by INCR, as a plain counter does: they follow the primary, and repeat what was not answered not once."""

    def __init__(self, stack: WatchedStack):
        self.stack = stack
        self.acknowledged: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._count, args=(number,), daemon=True) for number in range(INCR_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _count(self, number: int) -> None:
        turn = number
        while not self._ending.is_set():
            try:
                with self.stack.watched.client() as redis:
                    while not self._ending.is_set():
                        turn += 1
                        key = f"incr-{turn % INCR_KEYS}"
                        redis("INCR", key)
                        with self._lock:
                            self.acknowledged[key] += 1
            except (OSError, RuntimeError):  # killed, or a replica by now
                time.sleep(0.02)

    def lost(self) -> int:
        with self.stack.watched.client() as redis:
            held = redis.pipeline([("GET", key) for key in self.acknowledged])
        return sum(max(0, count - int(value or 0)) for count, value in zip(self.acknowledged.values(), held))


def main() -> None:
    failovers = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    lag_s = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    if IN_NAMESPACE not in os.environ:
        enter_namespace()
    with WatchedStack(frontends=1, settings={"flusher": {"flush_interval_ms": 100}}) as stack:
        traffic = Traffic(stack, clients=INCR_CLIENTS, readers=1, pages=INCR_KEYS).start()
        increments = Increments(stack)
        away_s = []
        for _ in range(failovers):
            time.sleep(1.0)
            primary = stack.watched.primary()
            replicas = [name for name in stack.watched.servers if name != primary]
            for name in replicas:
                stack.pause(name)
            time.sleep(lag_s)
            stack.kill9(primary)
            killed = time.monotonic()
            for name in replicas:
                stack.resume(name)
            new = wait_for("another primary", lambda primary=primary: stack.another_primary(primary), 60, 0.02)
            wait_for("the flusher is connected to it", lambda new=new: "name=visitd" in stack.say(new, "CLIENT", "LIST"), 60, 0.02)
            away_s.append(time.monotonic() - killed)
            stack.write_server(primary, new)
            stack.start_one(primary)
            stack.wait_for_followers()
        increments.stop()
        traffic.stop()
        held = traffic.check(60)
        lost = sum(max(0, count - held.get(page, 0)) for page, count in traffic.acknowledged.items())
        show("failovers, replicas behind by ms", lag_s * 1000, "ms")
        show("failovers", failovers, "")
        show("INCR: acknowledged", increments.acknowledged.total(), "counts")
        show("INCR: lost of those", increments.lost(), "counts")
        show("visitd: acknowledged", traffic.acknowledged.total(), "visits")
        show("visitd: lost of those", lost, "visits")
        show("visitd: reads that fell", len(traffic.faults), "reads")
        show("from the kill to the flusher at the new primary, the longest", max(away_s) * 1000, "ms")


if __name__ == "__main__":
    main()
