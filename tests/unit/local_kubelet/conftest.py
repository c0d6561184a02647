"""A kubelet over the real API and a runtime whose containers the test holds in its hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import pytest

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.store import Store
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.gpus import Gpu
from chalkcompute.local.kubelet import BackOffSettings, LogStore, run_kubelet
from chalkcompute.local.kubelet.devices import GpuAssignments
from chalkcompute.local.ports import ImagePullError, Manifest, ReplicaExit, ReplicaSpec, StartError
from chalkcompute.local.runtime.images import parse_reference

NODE = "node1"
FAST = BackOffSettings(base_seconds=0.05, cap_seconds=0.2, poll_seconds=0.02)


class FakeReplica:
    """A container that ends when the test says so, or when it is stopped."""

    def __init__(self, spec: ReplicaSpec) -> None:
        self.spec = spec
        self.pid = 1
        self.started_at = datetime.now(UTC)
        self.loopback_ports: frozenset[int] = frozenset()
        self.graces: list[float] = []
        self._ended: asyncio.Future[ReplicaExit] = asyncio.get_running_loop().create_future()

    def end(self, code: int, reason: str | None = None) -> None:
        if not self._ended.done():
            reason = reason or ("Completed" if code == 0 else "Error")
            self._ended.set_result(ReplicaExit(code, reason, datetime.now(UTC)))

    async def wait(self) -> ReplicaExit:
        return await asyncio.shield(self._ended)

    async def stop(self, grace_seconds: float) -> ReplicaExit:
        self.graces.append(grace_seconds)
        self.end(143 if grace_seconds else 137)
        return await self.wait()

    def usage(self) -> tuple[float, int]:
        return 0.0, 0


class FakeRuntime:
    """Implements `ports.Runtime`; every Pod is on 127.0.0.1."""

    tier = "plain"
    limitations: tuple[str, ...] = ()
    limits: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self.replicas: list[FakeReplica] = []
        self.absent_images: set[str] = set()
        self.policies: list[str] = []
        self.start_error: StartError | None = None
        self.addresses: dict[str, str | None] = {}

    def assign_address(self, pod_uid: str, preferred: str | None = None) -> str:
        self.addresses[pod_uid] = preferred
        return "127.0.0.1"

    def release_address(self, pod_uid: str) -> None:
        self.addresses.pop(pod_uid, None)

    async def pull(self, image: str, *, policy: str = "IfNotPresent") -> tuple[str, str | None]:
        parse_reference(image)
        self.policies.append(policy)
        if policy == "Never" and image in self.absent_images:
            raise ImagePullError(
                f'Container image "{image}" is not present with pull policy of Never',
                reason="ErrImageNeverPull",
            )
        if image in self.absent_images:
            raise ImagePullError(f"no `{image}` here")
        return "sha256:" + "0" * 64, f"image `{image}` is stood in for"

    async def start(self, spec: ReplicaSpec) -> FakeReplica:
        if self.start_error is not None:
            raise self.start_error
        spec.log_path.write_text(f"line of {spec.container}\n")
        replica = FakeReplica(spec)
        self.replicas.append(replica)
        return replica

    async def close(self) -> None:
        for replica in self.replicas:
            replica.end(137)


class Cluster:
    """The API, the runtime, the folders, and ways to wait for what a test wants to see."""

    def __init__(self, folder: Path, gpus: Sequence[Gpu] = ()) -> None:
        self.folder = folder
        self.gpus = GpuAssignments(gpus)
        self.store = Store(folder / "store.db")
        self.api = ResourceApi(self.store)
        self.runtime = FakeRuntime()
        self.logs = LogStore(folder / "logs")

    def kubelet(self) -> asyncio.Task[None]:
        return asyncio.create_task(
            run_kubelet(
                self.api,
                self.runtime,
                node_name=NODE,
                logs_dir=self.folder / "logs",
                logs=self.logs,
                gpus=self.gpus,
                back_off=FAST,
            )
        )

    def create(self, kind: str, name: str, **content: Any) -> Manifest:
        metadata = {"name": name, "namespace": "default"}
        return self.api.create(
            {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}, manager="test"
        )

    def run_pod(self, name: str = "web", *, pod: dict[str, Any] | None = None, **container: Any) -> Manifest:
        app = {
            "name": "app",
            "image": "python:3.12",
            "terminationMessagePolicy": "FallbackToLogsOnError",
            **container,
        }
        spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 7, "containers": [app], **(pod or {})}
        return self.create("Pod", name, spec=spec)

    def pod(self, name: str = "web") -> Manifest:
        return self.api.get("Pod", name, "default")

    def container(self, name: str = "web", field: str = "containerStatuses") -> dict[str, Any]:
        statuses: list[dict[str, Any]] = (self.pod(name).get("status") or {}).get(field) or [{}]
        return statuses[0]

    def waiting(self) -> dict[str, str]:
        """`state.waiting` of the container, {} when it does not wait."""
        found: dict[str, str] = self.container().get("state", {}).get("waiting", {})
        return found

    def conditions(self, name: str = "web") -> dict[str, str]:
        found = (self.pod(name).get("status") or {}).get("conditions") or []
        return {condition["type"]: condition["status"] for condition in found}

    def events(self, reason: str) -> list[str]:
        return [event["message"] for event in self.api.list("Event") if event["reason"] == reason]

    async def until(self, true: Callable[[], Any]) -> Any:
        """Wait for something to be true; the test's own time limit ends it."""
        while True:
            try:
                if found := true():
                    return found
            except StatusError as error:
                if error.code != 404:
                    raise
            await asyncio.sleep(0.005)

    async def running(self, count: int = 1, name: str = "web") -> FakeReplica:
        """The newest container, once so many were started and the Pod's status says that it runs."""
        await self.until(lambda: len(self.runtime.replicas) >= count)
        await self.until(lambda: "running" in self.container(name).get("state", {}))
        return self.runtime.replicas[-1]

    async def gone(self, name: str = "web") -> None:
        def absent() -> bool:
            return all(pod["metadata"]["name"] != name for pod in self.api.list("Pod"))

        await self.until(absent)


class RunCluster(Protocol):
    def __call__(self, scenario: Callable[[Cluster], Awaitable[None]], gpus: Sequence[Gpu] = ()) -> None: ...


@pytest.fixture
def cluster(tmp_path: Path) -> RunCluster:
    """Runs a scenario beside a kubelet."""

    def run(scenario: Callable[[Cluster], Awaitable[None]], gpus: Sequence[Gpu] = ()) -> None:
        async def main() -> None:
            made = Cluster(tmp_path, gpus)
            kubelet = made.kubelet()
            try:
                async with asyncio.timeout(60):
                    await scenario(made)
            finally:
                kubelet.cancel()
                await asyncio.gather(kubelet, return_exceptions=True)
                made.store.close()

        asyncio.run(main())

    return run
