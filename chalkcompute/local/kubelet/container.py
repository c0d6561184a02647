"""One container over its runs: pull, start, probe, back off, again.

Source: `pkg/kubelet/kuberuntime/kuberuntime_manager.go`, `pkg/kubelet/images/image_manager.go`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalkcompute.local.apimachinery.pod_resources import effective_limits
from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.gpus import device_files, visible_devices
from chalkcompute.local.kubelet.backoff import BackOff
from chalkcompute.local.kubelet.context import PodContext
from chalkcompute.local.kubelet.devices import TooFewGpusError, wanted_gpus
from chalkcompute.local.kubelet.environment import (
    ContainerConfigError,
    container_environment,
    expand,
)
from chalkcompute.local.kubelet.health import watch_health
from chalkcompute.local.kubelet.hooks import LEAST_GRACE_SECONDS, HookFailedError, pre_stop
from chalkcompute.local.kubelet.logs import tail
from chalkcompute.local.kubelet.status import ContainerState, terminated_state
from chalkcompute.local.ports import (
    ImagePullError,
    Mount,
    Replica,
    ReplicaExit,
    ReplicaSpec,
    StartError,
)
from chalkcompute.local.runtime.images import parse_reference

__all__ = ["ContainerRunner"]

log = logging.getLogger(__name__)

_MESSAGE_BYTES = 4096
_DEFAULT_GRACE_SECONDS = 30
_QUIET_SECONDS = 1.0
_TCP = (None, "TCP")
# Reasons that another try does not change, and the reason of the Event that says so.
_FINAL = {"InvalidImageName": "InspectFailed", "ErrImageNeverPull": "ErrImageNeverPull"}


class ContainerRunner:
    """Runs one container of a Pod until it is not to be run again."""

    def __init__(
        self, context: PodContext, spec: Mapping[str, Any], state: ContainerState, *, policy: str
    ) -> None:
        self._context = context
        self.spec = spec
        self.policy = policy
        self.field_path = f"spec.containers{{{spec['name']}}}"
        self._restarts = BackOff(context.back_off)
        self._pulls = BackOff(context.back_off)
        self._has_run = state.terminated is not None or state.last_terminated is not None
        self._message_file = Path("/dev/null")
        self._warned_ports: set[int] = set()
        self._told: Replica | None = None
        self._stopping: asyncio.Task[None] | None = None  # kept: the loop holds a task only weakly
        self.state = state
        self.replica: Replica | None = None
        self.started = asyncio.Event()

    @property
    def name(self) -> str:
        """The container's name."""
        return str(self.spec["name"])

    async def run(self) -> None:
        """Run it, again and again as its restart policy says. Returns when it is not to run again."""
        if self.state.terminated is not None and not self._runs_again():
            return  # an earlier kubelet saw it through
        while True:
            await self._pull()
            ended_at = await self._run_once()
            if not self._runs_again():
                return
            await self._wait_for_restart(ended_at)

    async def stop(self, grace_seconds: float) -> None:
        """End what runs, its hook first; the state says so afterwards."""
        if (replica := self.replica) is not None:
            await self._end(replica, grace_seconds, f"Stopping container {self.name}")

    async def _end(self, replica: Replica, grace_seconds: float, message: str) -> None:
        """As the kubelet: say so, run the hook, leave to the program what is left of the time."""
        if self._told is not replica:
            self._told = replica
            self._event("Normal", "Killing", message)
        if grace_seconds > 0:
            try:
                grace_seconds -= await pre_stop(self.spec, replica, self.pod_ip, grace_seconds)
            except HookFailedError as error:
                grace_seconds -= error.seconds
                self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {error}")
            grace_seconds = max(grace_seconds, LEAST_GRACE_SECONDS)
        self._record_end(replica, await replica.stop(grace_seconds))

    # Images ---------------------------------------------------------------------------------

    async def _pull(self) -> None:
        image = str(self.spec["image"])
        policy = str(self.spec.get("imagePullPolicy") or "IfNotPresent")
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            # What is on this machine is there at once, and whoever waits for longer wants to know why.
            say = loop.call_later(
                _QUIET_SECONDS, self._event, "Normal", "Pulling", f'Pulling image "{image}"'
            )
            try:
                image_id, warning = await self._context.runtime.pull(image, policy=policy)
            except ImagePullError as error:
                await self._wait_for_image(image, error)
                continue
            finally:
                say.cancel()
            break
        if image_id != self.state.image_id:
            self.state.image_id = image_id
            seconds = loop.time() - began
            self._event(
                "Normal",
                "Pulled",
                f'Container image "{image}" already present on machine'
                if seconds < _QUIET_SECONDS
                else f'Successfully pulled image "{image}" in {seconds:.1f}s',
            )
            if warning is not None:
                self._context.substituted(self.name, warning)

    async def _wait_for_image(self, image: str, error: ImagePullError) -> None:
        if error.reason in _FINAL:
            self._wait(error.reason, str(error))
            self._event("Warning", _FINAL[error.reason], str(error))
            self._event("Warning", "Failed", f"Error: {error.reason}")
            await asyncio.sleep(self._context.back_off.base_seconds)
            return
        failed_at = self._context.now()
        self._event("Normal", "Pulling", f'Pulling image "{image}"')
        self._event("Warning", "Failed", f'Failed to pull image "{image}": {error}')
        self._event("Warning", "Failed", f"Error: {error.reason}")
        self._wait(error.reason, str(error))
        self._pulls.advance(failed_at, failed_at)
        await asyncio.sleep(min(self._context.back_off.poll_seconds, self._pulls.seconds(failed_at)))
        self._event("Normal", "BackOff", f'Back-off pulling image "{image}"')
        self._event("Warning", "Failed", "Error: ImagePullBackOff")
        self._wait("ImagePullBackOff", f'Back-off pulling image "{image}": {error.reason}: {error}')
        await asyncio.sleep(self._pulls.seconds(failed_at))

    # One run --------------------------------------------------------------------------------

    async def _run_once(self) -> datetime:
        """Start it and see it through; returns when it ended."""
        context = self._context
        run = self.state.restart_count + 1 if self._has_run else 0
        spec = await self._configure(run)
        container_id = f"chalk://{uuid.uuid4().hex}{uuid.uuid4().hex}"
        try:
            replica = await context.runtime.start(spec)
        except StartError as error:
            self._begun(run)
            return self._record_start_error(error, container_id)
        self._begun(run)
        self.replica = replica
        self.state.image = str(parse_reference(spec.image))
        self.state.run(replica.started_at, container_id)
        self._event("Normal", "Created", f"Created container: {self.name}")
        self._event("Normal", "Started", f"Started container {self.name}")
        if "startupProbe" not in self.spec:
            self._mark_started()
        context.publish()
        exit_ = await self._attend(replica)
        return self._record_end(replica, exit_)

    def _begun(self, run: int) -> None:
        self._has_run = True
        self.state.restart_count = run

    async def _configure(self, run: int) -> ReplicaSpec:
        """The resolved container; waits for what is missing."""
        context = self._context
        while True:
            try:
                return self._resolve(run)
            except (ContainerConfigError, TooFewGpusError, OSError) as error:  # OSError: the disk is full
                if self.state.waiting != ("CreateContainerConfigError", str(error)):
                    self._event("Warning", "Failed", f"Error: {error}")
                self._wait("CreateContainerConfigError", str(error))
                await asyncio.sleep(context.back_off.poll_seconds)

    def _resolve(self, run: int) -> ReplicaSpec:
        context, spec, pod = self._context, self.spec, self._context.pod
        env = container_environment(pod, spec, context.facts, context.lookup)
        limits = effective_limits(pod["spec"], spec)
        gpus = context.gpus.assign(pod["metadata"]["uid"], self.name, wanted_gpus(spec))
        self._message_file = context.volumes.termination_message(pod, self.name, run)
        message_path = spec.get("terminationMessagePath") or "/dev/termination-log"
        message = Mount(self._message_file, message_path, read_only=False)
        return ReplicaSpec(
            namespace=pod["metadata"]["namespace"],
            pod=pod["metadata"]["name"],
            pod_uid=pod["metadata"]["uid"],
            container=self.name,
            image=spec["image"],
            command=tuple(expand(word, env) for word in spec.get("command") or ()),
            args=tuple(expand(word, env) for word in spec.get("args") or ()),
            # What the Pod says wins, as over the variables of a device plugin.
            env={**(visible_devices(gpus) if context.gpus else {}), **env},
            working_dir=spec.get("workingDir") or None,
            mounts=(*context.volumes.mounts(pod, spec, lambda text: expand(text, env)), message),
            ports=tuple(p["containerPort"] for p in spec.get("ports") or () if p.get("protocol") in _TCP),
            # A limit of 0 is none, as for container runtimes.
            cpu_limit=float(parse_quantity(limits.get("cpu", "0"))) or None,
            memory_limit=int(parse_quantity(limits.get("memory", "0"))) or None,
            gpus=tuple(gpu.id for gpu in gpus),
            devices=device_files(gpus),
            log_path=context.logs.begin(pod, self.name, run),
        )

    async def _attend(self, replica: Replica) -> ReplicaExit:
        """Probe a running container until it ends."""
        probes = asyncio.create_task(watch_health(self, asyncio.get_running_loop().time()))
        probes.add_done_callback(self._log_failure)
        try:
            return await replica.wait()
        finally:
            probes.cancel()
            await asyncio.gather(probes, return_exceptions=True)

    def _log_failure(self, probes: asyncio.Task[None]) -> None:
        """An error of ours: nobody probes this run any more, which nothing else would tell."""
        if not probes.cancelled() and (error := probes.exception()) is not None:
            log.error("container %s: its probes ended", self.name, exc_info=error)

    # What its probes say --------------------------------------------------------------------

    @property
    def pod_ip(self) -> str:
        """Where its probes knock."""
        return self._context.facts.pod_ip

    def has_started(self) -> None:
        """Its start-up probe has succeeded."""
        self._mark_started()
        self._context.publish()

    def is_ready(self, ready: bool) -> None:
        """Its readiness probe has reached a threshold."""
        self.state.ready = ready and self.state.started
        if self.replica is not None:
            self._warn_of_loopback(self.replica)
        self._context.publish()

    def is_unhealthy(self, kind: str, probe: Mapping[str, Any]) -> None:
        """Its `startup` or `liveness` probe has failed for good."""
        if self.replica is None or self._context.pod["metadata"].get("deletionTimestamp"):
            return  # it ends anyhow
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is None:
            grace = self._context.pod["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE_SECONDS)
        message = f"Container {self.name} failed {kind} probe, will be restarted"
        self._stopping = asyncio.create_task(self._end(self.replica, grace, message))

    def probe_failed(self, text: str) -> None:
        """One check has failed."""
        self._event("Warning", "Unhealthy", text)

    def _warn_of_loopback(self, replica: Replica) -> None:
        """Here a server on 127.0.0.1 is reached all the same; a cluster would not reach it."""
        declared = {port["containerPort"] for port in self.spec.get("ports") or ()}
        for port in sorted(declared & replica.loopback_ports - self._warned_ports):
            self._warned_ports.add(port)
            self._event(
                "Warning",
                "LoopbackOnly",
                f"Container {self.name} listens on port {port} of 127.0.0.1 only: this cluster reaches it, "
                "others would not; listen on 0.0.0.0",
            )

    def _mark_started(self) -> None:
        self.state.started = True
        self.state.ready = "readinessProbe" not in self.spec
        self.started.set()

    # Ends -----------------------------------------------------------------------------------

    def _record_end(self, replica: Replica, exit_: ReplicaExit) -> datetime:
        if self.replica is not replica:  # whoever came first has recorded it
            return exit_.finished_at
        self.replica = None
        self.state.end(
            terminated_state(
                exit_.exit_code,
                exit_.reason,
                message=self._termination_message(exit_),
                started_at=replica.started_at,
                finished_at=exit_.finished_at,
                container_id=self.state.container_id,
            )
        )
        self._context.publish()
        return exit_.finished_at

    def _termination_message(self, exit_: ReplicaExit) -> str:
        metadata = self._context.pod["metadata"]
        written = self._message_file.read_bytes()[-_MESSAGE_BYTES:].decode(errors="replace")
        if written or exit_.exit_code == 0:
            return written
        if self.spec.get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return ""
        path = self._context.logs.open(
            metadata["namespace"], metadata["name"], metadata["uid"], self.name, False
        )
        return tail(path) if path is not None else ""

    def _record_start_error(self, error: StartError, container_id: str) -> datetime:
        now = datetime.now(UTC)
        self.state.container_id = container_id
        self.state.end(
            terminated_state(
                error.exit_code,
                "StartError",
                message=str(error),
                started_at=None,
                finished_at=now,
                container_id=container_id,
            )
        )
        self._event("Normal", "Created", f"Created container: {self.name}")
        self._event("Warning", "Failed", f"Error: {error}")
        if self._runs_again():
            self._wait("RunContainerError", str(error))
        else:
            self._context.publish()
        return now

    def _runs_again(self) -> bool:
        if self.policy == "Always":
            return True
        ended = self.state.terminated or self.state.last_terminated or {}
        return self.policy == "OnFailure" and ended.get("exitCode") != 0

    async def _wait_for_restart(self, ended_at: datetime) -> None:
        context, metadata = self._context, self._context.pod["metadata"]
        context.logs.retire(metadata["uid"], self.name)
        delay = self._restarts.seconds(ended_at)
        if delay > 0:
            pod = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
            self._event(
                "Warning", "BackOff", f"Back-off restarting failed container {self.name} in pod {pod}"
            )
            self._wait(
                "CrashLoopBackOff", f"back-off {delay:g}s restarting failed container={self.name} pod={pod}"
            )
        else:
            delay = min(context.back_off.poll_seconds, context.back_off.base_seconds)
        await asyncio.sleep(delay)
        self._restarts.advance(ended_at, context.now())

    def _wait(self, reason: str, message: str) -> None:
        self.state.wait(reason, message)
        self._context.publish()

    def _event(self, event_type: str, reason: str, message: str) -> None:
        self._context.events.event(self._context.pod, event_type, reason, message, self.field_path)
