"""The kubelet of the embedded cluster: Pods bound to this node become replicas of the runtime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from chalkcompute.local.clock import utc_now
from chalkcompute.local.controllers.events import EventRecorder
from chalkcompute.local.controllers.pods import is_finished
from chalkcompute.local.kubelet.backoff import BackOffSettings
from chalkcompute.local.kubelet.devices import GpuAssignments
from chalkcompute.local.kubelet.logs import LogSource, LogStore
from chalkcompute.local.kubelet.pod import NodeContext, PodWorker
from chalkcompute.local.kubelet.volumes import VolumeFolders
from chalkcompute.local.ports import Api, Change, RunningContainer, Runtime

__all__ = ["BackOffSettings", "LogSource", "LogStore", "RunningContainers", "run_kubelet"]

log = logging.getLogger(__name__)


class RunningContainers:
    """The containers that a kubelet runs, each time it is looked through; none until it has been started."""

    def __init__(self) -> None:
        self.workers: dict[str, PodWorker] = {}

    def __iter__(self) -> Iterator[RunningContainer]:
        for worker in self.workers.values():
            yield from worker.running()


async def run_kubelet(
    api: Api,
    runtime: Runtime,
    *,
    node_name: str,
    logs_dir: Path,
    pods_dir: Path | None = None,
    volumes_dir: Path | None = None,
    logs: LogStore | None = None,
    running: RunningContainers | None = None,
    gpus: GpuAssignments | None = None,
    host_ip: str = "127.0.0.1",
    back_off: BackOffSettings | None = None,
    now: Callable[[], datetime] = utc_now,
) -> None:
    """Run the Pods of a node until cancelled; their replicas are then the caller's to stop (`Runtime.close`).

    Args:
        api: The API server from the inside.
        runtime: What starts replicas.
        node_name: Pods with this `spec.nodeName` are ours.
        logs_dir: Folder for logs.
        pods_dir: Folder for volumes; `pods` beside the logs by default.
        volumes_dir: Folder for what claims hold; `volumes` beside the logs by default.
        logs: The log files, when the API server reads them, too; made from `logs_dir` by default.
        running: Where to tell what runs.
        gpus: The GPUs of this node, and whose they are; none by default.
        host_ip: The node's address.
        back_off: Delays of restarts and pulls; the kubelet's own by default.
        now: The clock, in UTC.
    """
    node = NodeContext(
        api=api,
        runtime=runtime,
        events=EventRecorder(api, "kubelet", node_name, clock=now),
        logs=logs or LogStore(logs_dir),
        volumes=VolumeFolders(
            pods_dir or logs_dir.parent / "pods", claims=volumes_dir or logs_dir.parent / "volumes"
        ),
        gpus=gpus if gpus is not None else GpuAssignments(),
        back_off=back_off or BackOffSettings(),
        host_ip=host_ip,
        now=now,
    )
    ours = [pod for pod in api.list("Pod") if pod["spec"].get("nodeName") == node_name]
    uids = {pod["metadata"]["uid"] for pod in ours}
    node.logs.keep_only(uids)
    node.volumes.keep_only(uids)
    node.gpus.keep_only({pod["metadata"]["uid"] for pod in ours if not is_finished(pod)})
    await _Kubelet(node, node_name, running or RunningContainers()).run()


class _Kubelet:
    def __init__(self, node: NodeContext, node_name: str, running: RunningContainers) -> None:
        self._node = node
        self._node_name = node_name
        self._workers = running.workers
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            async for change in self._node.api.changes(("Pod",)):
                if change.obj["spec"].get("nodeName") == self._node_name:
                    try:
                        self._take(change)
                    except Exception:  # one Pod must not end the kubelet
                        log.exception("pod %s: cannot be taken", change.obj["metadata"]["name"])
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, change: Change) -> None:
        uid = change.obj["metadata"]["uid"]
        worker = self._workers.get(uid)
        if worker is None and change.type != "DELETED":
            worker = self._workers[uid] = PodWorker(self._node, change.obj)
            task = asyncio.create_task(self._run(uid, worker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif worker is not None and change.type == "DELETED":
            worker.vanish()
            del self._workers[uid]
        elif worker is not None:
            worker.update(change.obj)

    async def _run(self, uid: str, worker: PodWorker) -> None:
        """Run a Pod to its end; after an error of ours, from the start."""
        while True:
            try:
                await worker.run()
            except Exception:
                log.exception("pod %s: the kubelet failed; it starts again", worker.pod["metadata"]["name"])
                await worker.abandon()
                await asyncio.sleep(self._node.back_off.base_seconds)
                if self._workers.get(uid) is not worker:  # deleted meanwhile
                    return
                worker = self._workers[uid] = PodWorker(self._node, worker.pod)
            else:
                return
