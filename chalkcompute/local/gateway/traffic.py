"""What the gateway knows of requests: Envoy's counters, read once a second, and what the activator holds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from chalkcompute.local.clock import utc_now
from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.gateway.envoy import admin_get
from chalkcompute.local.gateway.holding import WaitingRoom
from chalkcompute.local.gateway.stats import QUERY, Clusters, parse, quantile
from chalkcompute.local.measures import RouteTraffic

__all__ = ["GatewayTraffic"]

_log = logging.getLogger(__name__)

_EVERY = 1.0
_NOBODY = ("", "")

_Route: TypeAlias = tuple[str, str, str]


class GatewayTraffic:
    """Implements `measures.Traffic`.

    Args:
        room: Where requests wait for a first replica.
        now: The clock, in UTC.
        monotonic: Seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        room: WaitingRoom,
        *,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._room = room
        self._now = now
        self._monotonic = monotonic
        self._clusters = Clusters()
        self._cluster_names: dict[_Route, list[str]] = {}
        self._active_at: dict[_Route, datetime] = {}
        self._read_at: datetime | None = None
        self._has_routes = asyncio.Event()

    # measures.Traffic -----------------------------------------------------------------------

    def of_route(self, kind: str, namespace: str, name: str) -> RouteTraffic | None:
        route = (kind, namespace, name)
        # The activator knows of those since the last reading, and of those that always go through it.
        key = (namespace, name) if kind == "InterceptorRoute" else _NOBODY
        entered, inside = self._room.entered(key), self._room.inside(key)
        names = self._cluster_names.get(route, ()) if self._read_at is not None else ()
        if not names and not entered:
            return None
        window = self._clusters.window(names)
        moments = [at for at in (self._active_at.get(route), self._room.active_at(key)) if at is not None]
        return RouteTraffic(
            timestamp=self._read_at if names and self._read_at else self._now(),
            window=window.seconds,
            in_flight=max(window.active, inside),
            held=self._room.held(key),
            requests=max(window.total, entered),
            requests_per_second=window.requests / window.seconds if window.seconds else 0.0,
            p50_seconds=quantile(window.times, 0.5),
            p99_seconds=quantile(window.times, 0.99),
            active_at=max(moments, default=None),
        )

    def wakes(self) -> AsyncIterator[tuple[str, str]]:
        return self._room.wakes()

    # The gateway's side ---------------------------------------------------------------------

    def follow(self, backends: Mapping[str, Backend]) -> None:
        """Tell what is behind each of Envoy's clusters, by their names."""
        found: dict[_Route, list[str]] = defaultdict(list)
        for cluster, backend in backends.items():
            found["HTTPRoute", *backend.route].append(cluster)
            if backend.interceptor is not None:
                found["InterceptorRoute", *backend.interceptor].append(cluster)
        self._cluster_names = dict(found)
        self._active_at = {route: at for route, at in self._active_at.items() if route in found}
        self._clusters.follow(self._monotonic(), backends)
        if found:
            self._has_routes.set()
        else:
            self._has_routes.clear()

    def take(self, answer: str) -> None:
        """Take one answer of Envoy's admin interface in.

        Raises:
            ValueError: It is no such answer.
        """
        readings = parse(answer)
        self._read_at = self._now()
        busy = self._clusters.take(self._monotonic(), readings)
        for route, names in self._cluster_names.items():
            if not busy.isdisjoint(names):
                self._active_at[route] = self._read_at

    def restart(self) -> None:
        """Envoy has ended: what was under way is not any more."""
        self._clusters.restart()

    async def run(self, admin: Path) -> None:
        """Read from Envoy's admin socket until cancelled, while there are routes."""
        while True:
            await self._has_routes.wait()
            status, answer = await admin_get(admin, QUERY)
            if status == 200:
                try:
                    self.take(answer)
                except (ValueError, KeyError, TypeError):
                    _log.exception("envoy's statistics could not be read")
            await asyncio.sleep(_EVERY)
