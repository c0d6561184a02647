"""Clusters that outlive their routes by a moment, so that a route that moves finds one at any time.

Envoy takes its files in one by one, the clusters before the routes. A cluster that went in the same step as
the last route to it would be gone while that route is still in use: 503, `no_cluster`.
"""

from __future__ import annotations

from typing import Any

from chalkcompute.local.gateway.resources import endpoints_file

__all__ = ["LINGER", "Lingering"]

LINGER = 5.0
"""Seconds that a cluster without a route stays; on a busy machine Envoy may be that late to load a file."""

Files = dict[str, dict[str, Any]]


class Lingering:
    """What was there the last time, and until when."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}
        self._until: dict[str, float] = {}

    def join(self, files: Files, now: float) -> tuple[Files, float | None]:
        """The files with the clusters that have just gone, and the seconds after which to ask again.

        Args:
            files: What `translate` made, in the order in which it is to be written.
            now: Seconds on a clock that only goes forward.
        """
        wanted = {cluster["name"]: cluster for cluster in files["cds"]["resources"]}
        for name in self._known.keys() - wanted.keys():
            self._until.setdefault(name, now + LINGER)
        for name in [name for name, until in self._until.items() if name in wanted or until <= now]:
            del self._until[name]
        self._known = {name: self._known[name] for name in self._until} | {
            name: (cluster, files.get(endpoints_file(name))) for name, cluster in wanted.items()
        }
        endpoints = {
            endpoints_file(name): content
            for name, (_, content) in sorted(self._known.items())
            if content is not None
        }
        clusters = [cluster for _, (cluster, _) in sorted(self._known.items())]
        joined = {**endpoints, **files, "cds": {**files["cds"], "resources": clusters}}
        return joined, min(self._until.values()) - now if self._until else None
