#!/usr/bin/env python3
"""compose.yaml, the Kubernetes example and the Dockerfile: what can be said of them without a container engine, and the processes of
compose.yaml in the namespaces that it asks for."""

import collections
import http.client
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import yaml
from containers import Compose, compose_file, image_settings
from harness import BUILD_ROOT, SOURCE_ROOT, wait_for

SERVICES = {"redis-7070", "redis-7071", "namespaces", "flusher", "frontend"}
OURS = {"namespaces", "flusher", "frontend"}
PROGRAMS = {"visit-frontend", "visit-flusher", "visitctl"}


def add_what_an_engine_adds(image: Path) -> None:
    (image / "proc").mkdir()
    (image / "etc/hosts").touch()


def make_image(folder: Path) -> Path:
    """The tree of the container image, of the programs that were built."""
    image = folder / "image"
    subprocess.run([SOURCE_ROOT / "deploy/container/image-tree", BUILD_ROOT, image], check=True, capture_output=True)
    add_what_an_engine_adds(image)
    return image


class ComposeFile(unittest.TestCase):
    def setUp(self):
        self.file = compose_file()

    def test_compose_takes_it(self):
        done = subprocess.run(["docker-compose", "-f", SOURCE_ROOT / "compose.yaml", "config", "--quiet"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)

    def test_every_container_is_confined_and_watched(self):
        self.assertEqual(set(self.file["services"]), SERVICES)
        for name, service in self.file["services"].items():
            with self.subTest(name):
                self.assertIs(service["read_only"], True)
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                self.assertEqual(service["restart"], "unless-stopped")
                self.assertFalse({"privileged", "cap_add", "devices", "pid"} & set(service))
                if name != "namespaces":
                    self.assertEqual(service["healthcheck"]["test"][0], "CMD", "there is no shell")

    def test_frontends_reach_no_shard(self):
        services = self.file["services"]
        self.assertEqual(services["frontend"]["network_mode"], "service:namespaces")
        self.assertEqual(services["namespaces"]["networks"], ["web"])
        self.assertEqual(services["flusher"]["networks"], ["shards"])
        self.assertIs(self.file["networks"]["shards"]["internal"], True)
        self.assertEqual([name for name, service in services.items() if "ports" in service], ["namespaces"])

    def test_the_users_are_those_of_the_image(self):
        tree = (SOURCE_ROOT / "deploy/container/image-tree").read_text()
        numbers = {name: re.search(rf"\b{name}=(\d+)", tree)[1] for name in ("group", "frontend", "flusher")}
        self.assertEqual(image_settings()["user"], f"{numbers['frontend']}:{numbers['group']}")
        self.assertEqual(self.file["services"]["flusher"]["user"], f"{numbers['flusher']}:{numbers['group']}")
        self.assertIn(f"gid={numbers['group']}", self.file["volumes"]["run"]["driver_opts"]["o"])

    def test_every_container_has_limits_of_memory_and_log(self):
        limits = {name: service["mem_limit"] for name, service in self.file["services"].items()}
        settings = default_mebibytes()
        self.assertGreaterEqual(int(limits["frontend"].removesuffix("m")), settings["lane_bytes"] + settings["buffered_bodies_limit_bytes"] + 100)
        self.assertGreaterEqual(int(limits["flusher"].removesuffix("m")), settings["memory_limit_bytes"] + settings["keep_batches_bytes"] + 100)
        for name, service in self.file["services"].items():
            self.assertIn("max-size", service["logging"]["options"], name)

    def test_a_unit_starts_all_of_it_with_the_machine(self):
        unit = (SOURCE_ROOT / "deploy/container/visitd-compose.service").read_text()
        self.assertIn("Requires=docker.service", unit)
        self.assertIn("--force-recreate", unit)
        self.assertIn("WantedBy=multi-user.target", unit)

    def test_shards_live_on_volumes_and_write_all_down(self):
        for name in ("redis-7070", "redis-7071"):
            service = self.file["services"][name]
            self.assertEqual(service["volumes"], [f"{name}:/data"])
            self.assertIn(name, self.file["volumes"])
            self.assertEqual(service["command"][1:3], ["--appendonly", "yes"])


def default_mebibytes() -> dict[str, int]:
    """Limits of the settings' defaults that are given in MiB, by key."""
    return {key: int(size) for key, size in re.findall(r'^#(\w+) = "(\d+)MiB"$', (SOURCE_ROOT / "deploy/visitd.toml").read_text(), re.MULTILINE)}


class Kubernetes(unittest.TestCase):
    def setUp(self):
        parts = list(yaml.safe_load_all((SOURCE_ROOT / "deploy/kubernetes/visitd.yaml").read_text()))
        self.services = {part["metadata"]["name"]: part["spec"] for part in parts if part["kind"] == "Service"}
        self.parts = {part["kind"]: part for part in parts if part["kind"] != "Service"}
        self.assertEqual(len(parts), len(self.parts) + len(self.services))
        self.pod = self.parts["StatefulSet"]["spec"]["template"]["spec"]
        self.sidecars = {container["name"]: container for container in self.pod["initContainers"]}

    def test_the_parts_name_each_other(self):
        workload = self.parts["StatefulSet"]["spec"]
        labels = workload["template"]["metadata"]["labels"]
        self.assertEqual(workload["selector"]["matchLabels"], labels)
        for service in self.services.values():
            self.assertEqual(service["selector"], labels)
        self.assertEqual(self.services[workload["serviceName"]]["clusterIP"], "None")
        self.assertEqual([name for name, service in self.services.items() if "clusterIP" not in service], ["website"])
        containers = [*self.pod["initContainers"], *self.pod["containers"]]
        ports = {port["name"] for container in containers for port in container.get("ports", [])}
        self.assertLessEqual({port["targetPort"] for service in self.services.values() for port in service["ports"]}, ports)
        volumes = {volume["name"] for volume in self.pod["volumes"]} | {claim["metadata"]["name"] for claim in workload["volumeClaimTemplates"]}
        self.assertEqual({mount["name"] for container in containers for mount in container.get("volumeMounts", [])}, volumes)
        self.assertEqual(self.pod["volumes"][0]["configMap"]["name"], self.parts["ConfigMap"]["metadata"]["name"])

    def test_the_flusher_begins_first_and_ends_last(self):
        self.assertEqual(list(self.sidecars), ["flusher", "frontend"])
        for sidecar in self.sidecars.values():
            self.assertEqual(sidecar["restartPolicy"], "Always")

    def test_the_sidecars_are_confined_and_share_only_what_they_must(self):
        self.assertNotIn("hostIPC", self.pod)
        self.assertNotIn("hostNetwork", self.pod)
        for name, sidecar in self.sidecars.items():
            with self.subTest(name):
                context = sidecar["securityContext"]
                self.assertTrue(context["readOnlyRootFilesystem"])
                self.assertFalse(context["allowPrivilegeEscalation"])
                self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
                self.assertIn(sidecar["command"][0], PROGRAMS)
        users = {sidecar["securityContext"]["runAsUser"] for sidecar in self.sidecars.values()}
        self.assertEqual(users, {int(image_settings()["user"].split(":")[0]), int(compose_file()["services"]["flusher"]["user"].split(":")[0])})
        mounts = {name: {mount["mountPath"] for mount in sidecar["volumeMounts"]} for name, sidecar in self.sidecars.items()}
        self.assertNotIn("/var/lib/visitd", mounts["frontend"])
        self.assertIn("/var/lib/visitd", mounts["flusher"])
        # One that is not ready would take the website out of its Service.
        self.assertNotIn("readinessProbe", self.sidecars["frontend"])
        self.assertEqual(self.sidecars["flusher"]["livenessProbe"]["exec"]["command"], ["visitctl", "check", "flusher"])

    def test_the_website_shares_neither_group_nor_volume_and_nobody_has_a_token(self):
        self.assertIs(self.pod["automountServiceAccountToken"], False)
        groups = {sidecar["securityContext"]["runAsGroup"] for sidecar in self.sidecars.values()}
        self.assertEqual(groups, {int(image_settings()["user"].split(":")[1])})
        (website,) = self.pod["containers"]
        self.assertNotIn("runAsGroup", self.pod["securityContext"])
        self.assertNotIn(website["securityContext"]["runAsGroup"], groups)
        self.assertNotIn(self.pod["securityContext"]["fsGroup"], groups)
        self.assertNotIn("volumeMounts", website)

    def test_each_sidecar_has_a_limit_of_memory_that_holds_what_its_settings_allow(self):
        limits = {name: int(sidecar["resources"]["limits"]["memory"].removesuffix("Mi")) for name, sidecar in self.sidecars.items()}
        settings = default_mebibytes()
        self.assertGreaterEqual(limits["frontend"], settings["lane_bytes"] + settings["buffered_bodies_limit_bytes"] + 100)
        self.assertGreaterEqual(limits["flusher"], settings["memory_limit_bytes"] + settings["keep_batches_bytes"] + 100)

    def test_the_programs_take_the_settings(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "visitd.toml"
            path.write_text(self.parts["ConfigMap"]["data"]["visitd.toml"])
            for program in ("frontend/visit-frontend", "flusher/visit-flusher"):
                done = subprocess.run([BUILD_ROOT / program, "--config", path, "--check-config"], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("redis://redis-7070:6379", done.stdout)


class Dockerfile(unittest.TestCase):
    def setUp(self):
        text = re.sub(r"\\\n", " ", (SOURCE_ROOT / "Dockerfile").read_text())
        self.steps = [line.split(None, 1) for line in text.splitlines() if line and not line.startswith("#")]

    def test_every_step_is_one_that_the_campaign_carries_out(self):
        self.assertLessEqual({step[0] for step in self.steps}, {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "CMD"})
        for name, rest in self.steps:
            if name == "RUN":
                done = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, rest)

    def test_the_image_holds_nothing_but_what_it_copies_and_is_not_roots(self):
        last = max(number for number, step in enumerate(self.steps) if step[0] == "FROM")
        self.assertEqual(self.steps[last], ["FROM", "scratch"])
        self.assertTrue(all("--from=build" in shlex.split(rest) for name, rest in self.steps[last:] if name == "COPY"))
        self.assertNotEqual(image_settings()["user"].split(":")[0], "0")

    def test_what_it_copies_is_there_and_not_left_out(self):
        ignored = (SOURCE_ROOT / ".dockerignore").read_text().split()
        for name, rest in self.steps:
            words = shlex.split(rest)
            if name == "COPY" and not words[0].startswith("--from"):
                for source in words[:-1]:
                    self.assertTrue((SOURCE_ROOT / source).exists(), source)
                    self.assertNotIn("/" + source, ignored)


class Image(unittest.TestCase):
    make_image = staticmethod(make_image)

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        if os.geteuid() != 0:
            self.skipTest("owners of files are set by root alone")
        self.image = self.make_image(self.folder)

    def test_it_holds_the_three_programs_no_shell_and_is_small(self):
        self.assertEqual({path.name for path in (self.image / "usr/bin").iterdir()}, PROGRAMS)
        executables = [path for path in self.image.rglob("*") if path.is_file() and ".so" not in path.name and os.access(path, os.X_OK)]
        self.assertEqual({path.name for path in executables}, PROGRAMS)
        size = sum(path.lstat().st_size for path in self.image.rglob("*") if path.is_file())
        self.assertLess(size, 40 << 20)

    def test_each_entry_point_starts_in_it(self):
        for program in PROGRAMS:
            done = subprocess.run(["chroot", "--userspec=6401:6400", self.image, f"/usr/bin/{program}", "--version"], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(program, done.stdout)


class Layout(unittest.TestCase):
    """The services of compose.yaml as processes in namespaces, each as process 1 of its own, without a capability, on a read-only root."""

    make_image = staticmethod(make_image)

    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("namespaces of different users are made by root alone")
        folder = Path(tempfile.mkdtemp(prefix="visitd-image-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.compose = Compose(self.make_image(folder), {"VISITD_FLUSHER_FLUSH_INTERVAL_MS": "500"})
        self.addCleanup(self.compose.close)
        self.addCleanup(self.print_logs_of_a_failure)
        self.compose.start_all()
        self.watched = ["flusher", "frontend-1", "frontend-2"]
        for name in self.watched:
            wait_for(f"{name} is healthy", lambda name=name: self.compose.is_healthy(name), 30, 0.1)

    def print_logs_of_a_failure(self) -> None:
        outcome = self._outcome
        if any(test is self for test, _ in outcome.result.failures + outcome.result.errors):
            for name in self.compose.containers:
                print(f"--- {name}\n{self.compose.log(name)}", flush=True)

    def count(self, page: str) -> int | None:
        with self.compose.client() as client:
            try:
                answer = client.ask("GET", f"/visits/{page}")
            except (OSError, http.client.HTTPException):
                return None
            return answer.json()["count"] if answer.status == 200 else None

    def status_of_all_running(self, place: str) -> dict | None:
        status = self.compose.visitctl(place, "status")
        processes = {frontend["process"] for frontend in status["frontends"]} | {status["flusher"]["process"]}
        return status if processes == {"running"} and {shard["state"] for shard in status["shards"]} == {"up"} else None

    def test_all_find_each_other_across_namespaces(self):
        with self.compose.client() as client:
            for _ in range(10):
                self.assertEqual(client.ask("POST", "/visit/home").status, 200)
                client.disconnect()
        self.assertEqual(wait_for("the count is known", lambda: self.count("home"), 20), 10)
        # Each program is process 1 of its own namespace, and a container sees its own process's lock alone.
        for place in self.watched:
            status = wait_for(f"all run, as seen from {place}", lambda place=place: self.status_of_all_running(place), 30, 0.2)
            self.assertEqual(len(status["frontends"]), 2)
            self.assertEqual(sum(frontend["lock_seen"] for frontend in status["frontends"]), place != "flusher", place)
        owners = {segment["what"]: segment["owner"] for segment in self.compose.visitctl("flusher", "ipcs")["segments"]}
        self.assertEqual(owners, {"ring": "visit-frontend", "cache": "visit-flusher"})
        # Where nothing of visitd may run besides, the namespaces hold the segments.
        self.assertEqual(self.compose.inside("namespaces", "visitctl", "check", "frontend").returncode, 1)

    def test_a_check_tells_of_its_own_container(self):
        one = self.compose.containers["frontend-1"]
        one.signal(signal.SIGSTOP)
        try:
            wait_for("the one that stands still is not healthy", lambda: not self.compose.is_healthy("frontend-1"), 30, 0.2)
            wait_for("the other one is", lambda: self.compose.is_healthy("frontend-2"), 30, 0.2)
        finally:
            one.signal(signal.SIGCONT)
        wait_for("it is healthy again", lambda: self.compose.is_healthy("frontend-1"), 30, 0.2)
        self.compose.containers["flusher"].signal(signal.SIGSTOP)
        wait_for("a flusher that stands still is not healthy", lambda: not self.compose.is_healthy("flusher"), 30, 0.2)
        wait_for("the frontends are", lambda: self.compose.is_healthy("frontend-1"), 30, 0.2)
        self.compose.containers["flusher"].signal(signal.SIGCONT)
        wait_for("the flusher is again", lambda: self.compose.is_healthy("flusher"), 30, 0.2)

    def test_containers_that_are_killed_and_started_again_keep_counting_exactly(self):
        acknowledged, unknown = collections.Counter(), collections.Counter()
        ending = threading.Event()

        def visit(number: int) -> None:
            with self.compose.client() as client:
                while not ending.is_set():
                    try:
                        status = client.ask("POST", "/visit/home").status
                    except ConnectionRefusedError:
                        status = 503  # nobody listened
                    except (OSError, http.client.HTTPException):
                        status = 0
                    if status == 200:
                        acknowledged[number] += 1
                    elif status == 0:
                        unknown[number] += 1
                    time.sleep(0.001 if status == 200 else 0.02)

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            for name in ("flusher", "frontend-1", "flusher", "frontend-2"):
                seen = acknowledged.total()
                wait_for("visits are counted", lambda seen=seen: acknowledged.total() > seen + 50, 30)
                self.compose.containers[name].signal(signal.SIGKILL)
                self.compose.containers[name].process.wait(20)
                self.compose.start(name)
                wait_for(f"{name} is healthy again", lambda name=name: self.compose.is_healthy(name), 30, 0.1)
        finally:
            ending.set()
            for thread in threads:
                thread.join(60)
        total = wait_for("the count is known", lambda: self.count("home"), 30)
        self.assertGreaterEqual(total, acknowledged.total())
        self.assertLessEqual(total, acknowledged.total() + unknown.total())
        self.compose.visitctl("flusher", "flush")
        page = self.compose.visitctl("flusher", "page", "home")
        self.assertEqual(page["redis"]["count"], total)

    def test_stopped_in_order_all_end_well_and_the_counts_stay(self):
        with self.compose.client() as client:
            for _ in range(5):
                self.assertEqual(client.ask("POST", "/visit/home").status, 200)
        for name in ("frontend-1", "frontend-2", "flusher", "namespaces", "redis-7070", "redis-7071"):
            self.assertEqual(self.compose.containers[name].stop(), 0, self.compose.log(name))
        # The segments went with the namespace: what is there now was in Redis.
        self.compose.start_all()
        self.assertEqual(wait_for("the count is known", lambda: self.count("home"), 30), 5)


if __name__ == "__main__":
    unittest.main()
