"""The shell around a reconcile: watches kinds, queues keys, retries what failed.

`Api` calls are synchronous over the live store, and one worker runs one `sync` at a time, without
awaiting inside it. So a sync always reads its own writes and those of every other controller: the
expectations that Kubernetes' controllers keep against stale caches are not needed here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Protocol, TypeAlias

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.objects import Key
from chalkcompute.local.controllers.workqueue import WorkQueue
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["Clock", "Controller", "find", "relabelled", "run_controller", "run_once", "selectable"]

Clock: TypeAlias = Callable[[], datetime]

RESYNC_SECONDS = 600.0  # a safety net only: changes are not lost inside one process
_RESTART_SECONDS = 1.0

log = logging.getLogger(__name__)


class Controller(Protocol):
    """One kind of reconcile."""

    @property
    def name(self) -> str:
        """For the log."""
        ...

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds whose changes matter."""
        ...

    def keys(self, change: Change) -> Iterable[Key]:
        """What to look at because of a change."""
        ...

    def sync(self, key: Key) -> float | None:
        """Observe, reconcile, act. Returns in how many seconds to look again, or None."""
        ...


def find(api: Api, kind: str, key: Key) -> Manifest | None:
    """The object, or None when there is none."""
    try:
        return api.get(kind, key[1], key[0])
    except StatusError as error:
        if error.code == 404:
            return None
        raise


def selectable(api: Api, kind: str, owner: Manifest, *, everything: bool) -> list[Manifest]:
    """Objects that `owner` selects, or could have selected before.

    Args:
        api: Where from.
        kind: Their kind.
        owner: A ReplicaSet or Deployment.
        everything: Read the whole namespace: something that the owner controls may have lost its
            labels. Otherwise only what has the labels of the selector is read, which is much less.
    """
    selector = owner["spec"]["selector"]
    labels = None if everything else selector.get("matchLabels")
    return api.list(kind, owner["metadata"]["namespace"], labels=labels)


def relabelled(change: Change) -> bool:
    """Whether an object's labels changed, so that who selects it may have, too."""
    return change.old is not None and (change.old["metadata"].get("labels") or {}) != (
        change.obj["metadata"].get("labels") or {}
    )


async def run_controller(api: Api, controller: Controller, *, resync: float = RESYNC_SECONDS) -> None:
    """Run until cancelled. What a sync raises is logged and tried again, never ends it."""
    queue = WorkQueue()
    tasks = [
        asyncio.create_task(work, name=f"{controller.name}: {part}")
        for part, work in (
            ("watch", _watch(api, controller, queue)),
            ("work", _work(controller, queue)),
            ("resync", _resync(api, controller, queue, resync)),
        )
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        queue.close()


async def _watch(api: Api, controller: Controller, queue: WorkQueue) -> None:
    while True:
        try:
            async for change in api.changes(controller.kinds):
                _enqueue(controller, change, queue)
        except Exception:
            log.exception("%s: the watch failed; it starts again", controller.name)
        await asyncio.sleep(_RESTART_SECONDS)


def _enqueue(controller: Controller, change: Change, queue: WorkQueue) -> None:
    """Note what a change concerns. One that cannot be understood must not hide those after it."""
    try:
        for key in controller.keys(change):
            queue.add(key)
    except Exception:
        name = change.obj["metadata"].get("name")
        log.exception("%s: a change of %s %s is passed over", controller.name, change.kind, name)


async def _work(controller: Controller, queue: WorkQueue) -> None:
    while True:
        key = await queue.take()
        run_once(controller, key, queue)
        await asyncio.sleep(0)  # everything shares one loop: let requests and probes in between


def run_once(controller: Controller, key: Key, queue: WorkQueue) -> None:
    """One sync, and when to look again."""
    try:
        again = controller.sync(key)
    except StatusError as error:
        delay = queue.retry(key)
        # A conflict means that the object changed since it was read: ordinary, and gone next time.
        level = logging.DEBUG if error.code == 409 else logging.WARNING
        log.log(level, "%s %s: %s; again in %.3f s", controller.name, "/".join(key), error, delay)
    except Exception:
        delay = queue.retry(key)
        log.exception("%s %s failed; again in %.3f s", controller.name, "/".join(key), delay)
    else:
        queue.forget(key)
        if again is not None:
            queue.add_after(key, again)


async def _resync(api: Api, controller: Controller, queue: WorkQueue, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        for kind in controller.kinds:
            for obj in api.list(kind):
                _enqueue(controller, Change("MODIFIED", kind, obj, obj), queue)
