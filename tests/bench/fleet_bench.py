#!/usr/bin/env python3
"""What a fleet of hosts costs a cluster of three primaries: server time, network and memory, by batch and by page, as the
servers say it themselves. The hosts' writers are real, their visits are made up (fleet_bench.cpp).

Arguments: as for fleet-bench, e.g. --hosts 1000 --pages 1000. Prints lines "name value unit".
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from harness import BUILD_ROOT  # noqa: E402
from redis_cluster import ClusterStack  # noqa: E402

LOADS = [["--hosts", "1000", "--pages", "200"], ["--hosts", "100", "--pages", "2000"], ["--hosts", "10", "--pages", "20000"], ["--hosts", "1", "--pages", "200000"]]
FLUSHES = 2


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:<66} {value:12.3f} {unit}", flush=True)


def figures(stack: ClusterStack) -> dict[str, float]:
    """The sum over the primaries."""
    total: dict[str, float] = {}
    for node in stack.nodes:
        with node.client() as redis:
            for line in redis("INFO", "everything").splitlines():
                name, _, value = line.partition(":")
                if name in ("used_cpu_user", "used_cpu_sys", "used_cpu_user_main_thread", "used_cpu_sys_main_thread", "total_net_input_bytes", "total_net_output_bytes", "used_memory_dataset"):
                    total[name] = total.get(name, 0) + float(value)
    return total


def measure(arguments: list[str]) -> None:
    load = dict(zip(arguments[::2], arguments[1::2]))
    hosts, pages = int(load["--hosts"]), int(load["--pages"])
    print(f"--- {hosts} hosts, each with {pages} pages a flush, of 10^9", flush=True)
    with ClusterStack(replicas=0, frontends=0, node_timeout_ms=15_000).only_servers() as stack:
        program = BUILD_ROOT / "tests/bench/fleet-bench"
        fleet = subprocess.Popen([program, str(stack.nodes[0].port), *arguments, "--flushes", str(FLUSHES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        before = figures(stack)
        for flush in range(FLUSHES):
            batches = float(fleet.stdout.readline().split()[-1])
            seconds = float(fleet.stdout.readline().split()[-1])
            after = figures(stack)
            spent = {name: after[name] - before[name] for name in after}
            name = "the first flush (each host's first batch of each bucket)" if flush == 0 else "a later flush"
            main = (spent["used_cpu_user_main_thread"] + spent["used_cpu_sys_main_thread"]) * 1e6
            show(f"{name}: pages a batch", hosts * pages / batches, "")
            if flush > 0:  # before the first one, connections and buckets were made
                show("  time of the servers' main threads", main / (hosts * pages), "us a page")
                show("  the same", main / batches, "us a batch")
                show("  to the servers", spent["total_net_input_bytes"] / (hosts * pages), "bytes a page")
                show("  from the servers", spent["total_net_output_bytes"] / (hosts * pages), "bytes a page")
                show("  a host's flush takes", seconds / hosts * 1000, "ms")
            show("  memory of the servers", spent["used_memory_dataset"] / (hosts * pages), "bytes a page")
            before = figures(stack)
            fleet.stdin.write("\n")
            fleet.stdin.flush()
        fleet.stdin.close()
        assert fleet.wait(60) == 0


def main() -> int:
    for arguments in [sys.argv[1:]] if len(sys.argv) > 1 else LOADS:
        measure(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
