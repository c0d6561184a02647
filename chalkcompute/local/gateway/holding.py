"""How many requests may wait for a first replica, and whom that wakes.

Bounded in number and in bytes: what waits is memory and sockets of the daemon. Bounded in time by the
InterceptorRoute (`interceptors.readiness`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from chalkcompute.local.clock import utc_now

__all__ = ["Bounds", "Key", "RefusedError", "Seat", "WaitingRoom"]

_WAKE_EVERY = 1.0

Key: TypeAlias = tuple[str, str]
"""Namespace and name of an InterceptorRoute."""

Seat: TypeAlias = Callable[[int], None]
"""Told how many bytes, head and body, a request that waits takes by now."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be held at once.

    Attributes:
        per_route: Requests of one InterceptorRoute.
        requests: Requests of all.
        request_bytes: Bytes of one request, the head with it, that are taken from the network meanwhile; the
            rest stays with the client, which is slowed down as by any slow server.
        bytes: The same of all together.
    """

    per_route: int = 500
    requests: int = 1000
    request_bytes: int = 384 * 1024
    bytes: int = 64 * 1024 * 1024


class RefusedError(Exception):
    """A request that is not held, or no longer.

    Attributes:
        reason: `timeout`, `too-many`, `too-large`, `stopping` or `again`: what `x-chalk-activator` says.
        retry_after: Seconds after which it may be sent again.
    """

    def __init__(self, reason: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class WaitingRoom:
    """Counts what is inside the activator, and what of it waits.

    Args:
        bounds: What is let in.
        now: The clock, in UTC.
    """

    def __init__(self, bounds: Bounds | None = None, *, now: Callable[[], datetime] = utc_now) -> None:
        self._bounds = bounds or Bounds()
        self._now = now
        self._active_at: dict[Key, datetime] = {}
        self._inside: Counter[Key] = Counter()
        self._held: Counter[Key] = Counter()
        self._entered: Counter[Key] = Counter()
        self._bytes = 0
        self._listeners: list[tuple[dict[Key, None], asyncio.Event]] = []

    def inside(self, key: Key) -> int:
        """Requests of a route that are held, or being passed on."""
        return self._inside[key]

    def held(self, key: Key) -> int:
        """Requests of a route that wait."""
        return self._held[key]

    def entered(self, key: Key) -> int:
        """Requests of a route that ever came."""
        return self._entered[key]

    def active_at(self, key: Key) -> datetime | None:
        """The last moment at which a request of a route was inside."""
        return self._now() if self._inside[key] else self._active_at.get(key)

    @contextlib.contextmanager
    def visit(self, key: Key) -> Iterator[None]:
        """While a request of a route is with us."""
        self._entered[key] += 1
        self._inside[key] += 1
        try:
            yield
        finally:
            self._inside[key] -= 1
            self._active_at[key] = self._now()

    @contextlib.contextmanager
    def seat(self, key: Key) -> Iterator[Seat]:
        """While a request of a route waits; wakes whoever listens.

        Raises:
            RefusedError: There is no room; the seat that is given raises it too.
        """
        self._admit(key)
        taken = 0

        def hold(size: int) -> None:
            nonlocal taken
            more = min(size, self._bounds.request_bytes) - taken
            self._admit_bytes(more)
            taken += more
            self._bytes += more

        self._held[key] += 1
        if self._held[key] == 1:
            for pending, event in self._listeners:
                pending[key] = None
                event.set()
        try:
            yield hold
        finally:
            self._held[key] -= 1
            self._bytes -= taken

    def _admit(self, key: Key) -> None:
        namespace, name = key
        if self._held[key] >= self._bounds.per_route:
            raise RefusedError(
                "too-many",
                f"{self._bounds.per_route} requests already wait for the first replica of "
                f"InterceptorRoute `{name}` in namespace `{namespace}`: try again when it is up",
                5,
            )
        if self._held.total() >= self._bounds.requests:
            raise RefusedError(
                "too-many",
                f"{self._bounds.requests} requests already wait for first replicas on this cluster: "
                "try again later",
                5,
            )

    def _admit_bytes(self, more: int) -> None:
        if self._bytes + more > self._bounds.bytes:
            raise RefusedError(
                "too-large",
                f"what waits for first replicas already fills the {self._bounds.bytes} bytes there are for "
                "it: try again later, or with a smaller body",
                5,
            )

    async def wakes(self) -> AsyncIterator[Key]:
        """`measures.Traffic.wakes`."""
        loop = asyncio.get_running_loop()
        pending: dict[Key, None] = dict.fromkeys(+self._held)
        event = asyncio.Event()
        listener = (pending, event)
        self._listeners.append(listener)
        tick = loop.time() + _WAKE_EVERY
        try:
            while True:
                while pending:
                    key = next(iter(pending))
                    del pending[key]
                    yield key
                event.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(tick):
                        await event.wait()
                if loop.time() >= tick:
                    pending.update(dict.fromkeys(+self._held))
                    tick = loop.time() + _WAKE_EVERY
        finally:
            self._listeners.remove(listener)
