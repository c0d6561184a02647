"""The shell: the queue, retries, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.controller import run_controller
from chalkcompute.local.controllers.objects import Key, key_of
from chalkcompute.local.controllers.workqueue import LONGEST_DELAY_SECONDS, WorkQueue
from chalkcompute.local.ports import Change


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}


def test_a_key_waits_at_most_once() -> None:
    async def scenario() -> list[Key]:
        queue = WorkQueue()
        for name in ("a", "b", "a"):
            queue.add(("", name))
        return [await queue.take(), await queue.take()]

    assert asyncio.run(scenario()) == [("", "a"), ("", "b")]


def test_retries_come_later_and_later_until_a_success() -> None:
    async def scenario() -> list[float]:
        queue = WorkQueue()
        delays = [queue.retry(("", "a")) for _ in range(20)]
        queue.forget(("", "a"))
        delays.append(queue.retry(("", "a")))
        queue.close()
        return delays

    delays = asyncio.run(scenario())
    assert delays[:3] == [0.005, 0.01, 0.02]
    assert delays[-2] == LONGEST_DELAY_SECONDS
    assert delays[-1] == 0.005


def test_the_earlier_of_two_appointments_counts() -> None:
    async def scenario() -> Key:
        queue = WorkQueue()
        queue.add_after(("", "a"), 3600)
        queue.add_after(("", "a"), 0)
        queue.add_after(("", "a"), 3600)
        key = await queue.take()
        queue.close()
        return key

    assert asyncio.run(scenario()) == ("", "a")


class Feed:
    """The part of `Api` that the shell uses: changes, handed out once per watch."""

    def __init__(self, *watches: list[Change | Exception]) -> None:
        self.watches = list(watches)

    async def _run(self, watch: list[Change | Exception]) -> AsyncIterator[Change]:
        for change in watch:
            if isinstance(change, Exception):
                raise change
            yield change
        await asyncio.Event().wait()

    def changes(self, kinds: Any, *, replay: bool = True) -> AsyncIterator[Change]:
        return self._run(self.watches.pop(0) if self.watches else [])

    def list(self, kind: str, namespace: str = "", *, labels: Any = None) -> list[dict[str, Any]]:
        return [config_map("resynced")]


class Troubled:
    """Fails as often as told, then notes the key."""

    name = "troubled"
    kinds = ("ConfigMap",)

    def __init__(self, *failures: Exception, wanted: int = 1) -> None:
        self.failures = list(failures)
        self.done: list[Key] = []
        self.wanted = wanted
        self.finished = asyncio.Event()

    def keys(self, change: Change) -> Iterator[Key]:
        yield key_of(change.obj)

    def sync(self, key: Key) -> float | None:
        if self.failures:
            raise self.failures.pop(0)
        self.done.append(key)
        if len(self.done) >= self.wanted:
            self.finished.set()
        return 0.0 if len(self.done) < self.wanted else None


async def until_finished(feed: Feed, controller: Troubled, resync: float = 3600) -> None:
    task = asyncio.create_task(run_controller(feed, controller, resync=resync))  # type: ignore[arg-type]
    async with asyncio.timeout(60):
        await controller.finished.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_what_fails_is_tried_again_and_said(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> list[Key]:
        controller = Troubled(
            StatusError(409, "Conflict", "changed meanwhile"),
            StatusError(403, "Forbidden", "exceeded quota"),
            ValueError("a bug"),
        )
        await until_finished(Feed([Change("ADDED", "ConfigMap", config_map("a"))]), controller)
        return controller.done

    assert asyncio.run(scenario()) == [("default", "a")]
    assert [r.levelname for r in caplog.records] == ["WARNING", "ERROR"]
    assert "exceeded quota" in caplog.records[0].message


def test_a_sync_may_ask_to_look_again() -> None:
    async def scenario() -> list[Key]:
        controller = Troubled(wanted=3)
        await until_finished(Feed([Change("ADDED", "ConfigMap", config_map("a"))]), controller)
        return controller.done

    assert asyncio.run(scenario()) == [("default", "a")] * 3


def test_a_broken_watch_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> list[Key]:
        controller = Troubled()
        second: list[Change | Exception] = [Change("ADDED", "ConfigMap", config_map("b"))]
        await until_finished(Feed([RuntimeError("lost")], second), controller)
        return controller.done

    assert asyncio.run(scenario()) == [("default", "b")]
    assert "troubled: the watch failed" in caplog.text


class Choosy(Troubled):
    """Cannot understand one object."""

    def keys(self, change: Change) -> Iterator[Key]:
        if change.obj["metadata"]["name"] == "odd":
            raise KeyError("spec")
        yield from super().keys(change)


def test_a_change_that_cannot_be_understood_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> list[Key]:
        controller = Choosy()
        changes = [Change("ADDED", "ConfigMap", config_map(name)) for name in ("odd", "b")]
        await until_finished(Feed([*changes]), controller)
        return controller.done

    assert asyncio.run(scenario()) == [("default", "b")]
    assert "troubled: a change of ConfigMap odd is passed over" in caplog.text


def test_everything_is_looked_at_again_from_time_to_time() -> None:
    async def scenario() -> list[Key]:
        controller = Troubled()
        await until_finished(Feed(), controller, resync=0.01)
        return controller.done

    assert asyncio.run(scenario()) == [("default", "resynced")]
