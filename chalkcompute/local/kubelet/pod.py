"""One Pod from its binding to its end.

Source: `pkg/kubelet/pod_workers.go`, `pkg/kubelet/kubelet.go` SyncPod and SyncTerminatingPod.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalkcompute.local.apimachinery.pod_resources import shared_limits
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.events import EventRecorder
from chalkcompute.local.kubelet.backoff import BackOffSettings
from chalkcompute.local.kubelet.container import ContainerRunner
from chalkcompute.local.kubelet.devices import GpuAssignments
from chalkcompute.local.kubelet.environment import Lookup, PodFacts
from chalkcompute.local.kubelet.logs import LogStore
from chalkcompute.local.kubelet.status import ContainerState, Role, phase_of, pod_status
from chalkcompute.local.kubelet.unsupported import unsupported_fields
from chalkcompute.local.kubelet.volumes import VolumeError, VolumeFolders
from chalkcompute.local.ports import Api, Manifest, RunningContainer, Runtime

__all__ = ["NodeContext", "PodWorker"]

MANAGER = "kubelet"
_SUBSTITUTED = "chalk.ai/image-substituted"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What all Pods of this node share."""

    api: Api
    runtime: Runtime
    events: EventRecorder
    logs: LogStore
    volumes: VolumeFolders
    gpus: GpuAssignments
    back_off: BackOffSettings
    host_ip: str
    now: Callable[[], datetime]


class PodWorker:
    """Runs one Pod; implements `context.PodContext`."""

    def __init__(self, node: NodeContext, pod: Manifest) -> None:
        self._node = node
        self.pod = pod
        self.runtime, self.events, self.logs = node.runtime, node.events, node.logs
        self.volumes, self.gpus = node.volumes, node.gpus
        self.back_off = node.back_off
        self.now = node.now
        recorded = (pod.get("status") or {}).get("podIP")
        address = node.runtime.assign_address(pod["metadata"]["uid"], recorded)
        self.facts = PodFacts(address, node.host_ip)
        self._init = self._runners("initContainers", "initContainerStatuses")
        self._main = self._runners("containers", "containerStatuses")
        self._ending = asyncio.Event()
        self._gone = asyncio.Event()

    def update(self, pod: Manifest) -> None:
        """The Pod has changed in the store."""
        self.pod = pod
        if pod["metadata"].get("deletionTimestamp"):
            self._ending.set()
            if pod["metadata"].get("deletionGracePeriodSeconds") == 0:
                self._gone.set()

    def vanish(self) -> None:
        """The Pod has gone from the store: end everything at once."""
        self._ending.set()
        self._gone.set()

    async def run(self) -> None:
        """Run the Pod until it has been deleted."""
        self.update(self.pod)
        if (self.pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            await self._ending.wait()
        else:
            living: asyncio.Task[Any] = asyncio.create_task(
                self._live(), name=f"pod {self.pod['metadata']['name']}"
            )
            ending: asyncio.Task[Any] = asyncio.create_task(self._ending.wait())
            try:
                await asyncio.wait({living, ending}, return_when=asyncio.FIRST_COMPLETED)
                if living.done() and not ending.done():
                    living.result()
                    await ending  # all containers have ended for good
            finally:
                for task in (living, ending):
                    task.cancel()
                await asyncio.gather(living, ending, return_exceptions=True)
        await self._terminate()
        self._finish()

    async def abandon(self) -> None:
        """End every process of the Pod, and nothing more."""
        await asyncio.gather(*(runner.stop(0) for runner in (*self._main, *self._init)))

    def running(self) -> Iterator[RunningContainer]:
        """The containers that run now."""
        metadata = self.pod["metadata"]
        whose = metadata["namespace"], metadata["name"], metadata["uid"]
        for runner in (*self._init, *self._main):
            if runner.replica is not None:
                yield RunningContainer(*whose, runner.name, runner.replica)

    @property
    def lookup(self) -> Lookup:
        """Finds objects in the Pod's namespace."""

        def look(kind: str, name: str) -> Manifest | None:
            try:
                return self._node.api.get(kind, name, self.pod["metadata"]["namespace"])
            except StatusError as error:
                if error.code == 404:
                    return None
                raise

        return look

    def publish(self) -> None:
        """Write the status, if it has changed."""
        self._publish(None)

    def substituted(self, container: str, warning: str) -> None:
        """Say that the host base stands in: an Event and an annotation."""
        self.events.event(self.pod, "Warning", "ImageSubstituted", warning, f"spec.containers{{{container}}}")
        live = self._live_object()
        if live is not None:
            annotations = live["metadata"].setdefault("annotations", {})
            if annotations.get(_SUBSTITUTED) != warning:
                annotations[_SUBSTITUTED] = warning
                self._write(live, "")

    # Life -----------------------------------------------------------------------------------

    async def _live(self) -> None:
        self.publish()
        self._say_what_is_not_done()
        await self._set_up_volumes()
        sidecars: list[asyncio.Task[None]] = []
        try:
            if await self._run_init_containers(sidecars):
                async with asyncio.TaskGroup() as group:
                    for runner in self._main:
                        group.create_task(runner.run(), name=f"container {runner.name}")
        finally:
            for task in sidecars:
                task.cancel()
            for ended in await asyncio.gather(*sidecars, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.error("pod %s: a sidecar", self.pod["metadata"]["name"], exc_info=ended)
        # The work is done: those that only helped go in the reverse of the order in which they came.
        for runner in reversed(self._init):
            if runner.state.role == "sidecar":
                await runner.stop(self._grace_seconds())
        self.gpus.release(self.pod["metadata"]["uid"])
        self.publish()

    def _say_what_is_not_done(self) -> None:
        fields = unsupported_fields(self.pod)
        if fields:
            listed = ", ".join(f"spec.{field}" for field in fields)
            self._not_supported(f"the local cluster does not act upon {listed}")
        if shared := shared_limits(self.pod["spec"]):
            listed = ", ".join(f"spec.resources.limits[{name}]" for name in shared)
            self._not_supported(
                f"the local cluster holds each container to {listed} by itself, not all of them together"
            )

    def _not_supported(self, message: str) -> None:
        self.events.event(self.pod, "Warning", "NotSupported", message)

    async def _set_up_volumes(self) -> None:
        while True:
            try:
                self.volumes.set_up(self.pod, self.facts, self.lookup)
            except (VolumeError, OSError) as error:
                self.events.event(self.pod, "Warning", "FailedMount", str(error))
                await asyncio.sleep(self.back_off.poll_seconds)
                continue
            return

    async def _run_init_containers(self, sidecars: list[asyncio.Task[None]]) -> bool:
        """One after the other; False when one failed for good. Those that run on are added to `sidecars`."""
        for runner in self._init:
            if runner.state.role == "sidecar":  # runs beside the rest once it has started
                sidecars.append(asyncio.create_task(runner.run(), name=f"sidecar {runner.name}"))
                await runner.started.wait()
                continue
            ended = runner.state.terminated
            if ended is None or ended["exitCode"] != 0:
                await runner.run()
            ended = runner.state.terminated
            if ended is None or ended["exitCode"] != 0:
                return False
        return True

    def _runners(self, field: str, status_field: str) -> list[ContainerRunner]:
        """The containers of a list, with what an earlier kubelet wrote of them."""
        spec = self.pod["spec"]
        policy = spec.get("restartPolicy", "Always")
        is_init = field == "initContainers"
        statuses = {
            status["name"]: status for status in (self.pod.get("status") or {}).get(status_field) or ()
        }
        waiting = ("PodInitializing" if spec.get("initContainers") else "ContainerCreating", "")
        runners = []
        for container in spec.get(field) or ():
            role: Role = "main"
            if is_init:
                role = "sidecar" if container.get("restartPolicy") == "Always" else "init"
            state = ContainerState(
                name=container["name"],
                image=container["image"],
                waiting=waiting,
                resources=container.get("resources") or {},
                volume_mounts=container.get("volumeMounts") or (),
                role=role,
            )
            if container["name"] in statuses:
                state.resume(statuses[container["name"]], self.now())
            own_policy = container.get("restartPolicy") or (
                "OnFailure" if is_init and policy == "Always" else policy
            )
            runners.append(ContainerRunner(self, container, state, policy=own_policy))
        return runners

    # Death ----------------------------------------------------------------------------------

    async def _terminate(self) -> None:
        """Stop every container within the grace period; at once when the Pod has gone from the store."""
        grace = self._grace_seconds()
        stopping = asyncio.gather(*(runner.stop(grace) for runner in (*self._main, *self._init)))
        gone = asyncio.create_task(self._gone.wait())
        try:
            either: set[asyncio.Future[Any]] = {stopping, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                await asyncio.gather(*(runner.stop(0) for runner in (*self._main, *self._init)))
            await stopping
        finally:
            gone.cancel()

    def _grace_seconds(self) -> float:
        metadata = self.pod["metadata"]
        if self._gone.is_set():
            return 0.0
        return float(metadata.get("deletionGracePeriodSeconds", 30))

    def _finish(self) -> None:
        """Nothing of it runs any more: the object goes, and what it had."""
        metadata = self.pod["metadata"]
        main, init = [r.state for r in self._main], [r.state for r in self._init]
        phase = phase_of("Never", init, main)
        self._publish(phase if phase in ("Succeeded", "Failed") else None)
        self.gpus.release(metadata["uid"])
        with contextlib.suppress(StatusError):  # it may have been deleted by force
            self._node.api.delete(
                "Pod", metadata["name"], metadata["namespace"], uid=metadata["uid"], grace_seconds=0
            )
        self.runtime.release_address(metadata["uid"])
        self.logs.remove(self.pod)
        self.volumes.remove(self.pod)

    # The store ------------------------------------------------------------------------------

    def _publish(self, phase: str | None) -> None:
        live = self._live_object()
        if live is None:
            return
        status = pod_status(
            live,
            init=[runner.state for runner in self._init],
            main=[runner.state for runner in self._main],
            pod_ip=self.facts.pod_ip,
            host_ip=self.facts.host_ip,
            now=self.now(),
            phase=phase,
        )
        if status != live.get("status"):
            self._write({**live, "status": status}, "status")

    def _live_object(self) -> Manifest | None:
        """The Pod in the store, None when it has gone or another has its name."""
        metadata = self.pod["metadata"]
        live = self.lookup("Pod", metadata["name"])
        return live if live is not None and live["metadata"]["uid"] == metadata["uid"] else None

    def _write(self, pod: Manifest, subresource: str) -> None:
        # Read just before, in the same step of the loop: nobody can have written in between.
        try:
            self.pod = self._node.api.update(pod, manager=MANAGER, subresource=subresource)
        except StatusError as error:
            log.warning("pod %s: the API server refuses its status: %s", pod["metadata"]["name"], error)
