"""What Envoy counts, as numbers over a window (pure).

Envoy's admin interface, `/stats?format=json&histogram_buckets=detailed`: counters go up until Envoy starts
again, histograms are the buckets of its log-linear histograms (two significant digits, milliseconds).
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["QUERY", "WINDOW", "Clusters", "Reading", "Window", "parse", "quantile"]

QUERY = (
    "/stats?usedonly&format=json&histogram_buckets=detailed"
    "&filter=%5Ecluster%5C..*%5C.upstream_rq_(active%7Cpending_active%7Ctotal%7Ctime)%24"
)
"""Path of the admin interface that answers what `parse` reads."""

WINDOW = 10.0
"""Seconds that rates and percentiles are taken over: some requests of a quiet route, and still of now."""

_PREFIX = "cluster."
_MILLISECONDS = 1000.0

Buckets = Counter[tuple[float, float]]
"""How many requests took how long: by lower bound and width, in milliseconds."""


@dataclass(slots=True)
class Reading:
    """What Envoy says of one cluster.

    Attributes:
        active: Requests under way, those that wait for a connection included.
        total: Requests since Envoy started.
        times: How long those took that are answered.
    """

    active: int = 0
    total: int = 0
    times: Buckets = field(default_factory=Counter)


def parse(text: str) -> dict[str, Reading]:
    """The readings in an answer, by name of the cluster.

    Raises:
        ValueError: It is not such an answer.
    """
    found: dict[str, Reading] = {}
    for entry in json.loads(text)["stats"]:
        if "histograms" in entry:
            for histogram in entry["histograms"].get("details") or ():
                _take_times(found, histogram)
            continue
        cluster, _, what = entry["name"].removeprefix(_PREFIX).rpartition(".")
        reading = found.setdefault(cluster, Reading())
        if what == "upstream_rq_total":
            reading.total = int(entry["value"])
        elif what in ("upstream_rq_active", "upstream_rq_pending_active"):
            reading.active += int(entry["value"])
    return found


def _take_times(found: dict[str, Reading], histogram: Mapping[str, Any]) -> None:
    cluster, _, what = histogram["name"].removeprefix(_PREFIX).rpartition(".")
    if what == "upstream_rq_time":
        times = found.setdefault(cluster, Reading()).times
        for bucket in histogram.get("totals") or ():
            times[float(bucket["lower_bound"]), float(bucket["width"])] += int(bucket["count"])


@dataclass(frozen=True, slots=True)
class Window:
    """Of some clusters together.

    Attributes:
        seconds: How long the window is; 0 with one reading only.
        active: Requests under way at its end.
        total: Requests since the first reading of all.
        requests: Those in the window.
        times: How long those took that were answered in it.
    """

    seconds: float
    active: int
    total: int
    requests: int
    times: Buckets


@dataclass(slots=True)
class _Series:
    """One cluster: `total` and `times` only grow, whatever becomes of Envoy."""

    last: Reading = field(default_factory=Reading)
    total: int = 0
    times: Buckets = field(default_factory=Counter)
    kept: deque[tuple[float, int, Buckets]] = field(default_factory=deque)

    def take(self, now: float, reading: Reading) -> bool:
        """Whether there was a request since the last reading, or is one."""
        restarted = reading.total < self.last.total
        new = reading.total - (0 if restarted else self.last.total)
        before: Buckets = Counter() if restarted else self.last.times
        self.last = reading
        self.total += new
        # Counter's `-` drops what would be negative: a histogram is merged a moment after its counter.
        self.times = self.times + (reading.times - before)
        self.kept.append((now, self.total, self.times))
        while len(self.kept) > 1 and self.kept[1][0] <= now - WINDOW:
            self.kept.popleft()
        return new > 0 or reading.active > 0


class Clusters:
    """Readings of clusters over time."""

    def __init__(self) -> None:
        self._series: dict[str, _Series] = {}

    def follow(self, now: float, names: Iterable[str]) -> None:
        """From now on these; what is known of others is forgotten."""
        self._series = {
            name: self._series.get(name) or _Series(kept=deque([(now, 0, Counter())])) for name in names
        }

    def take(self, now: float, readings: Mapping[str, Reading]) -> set[str]:
        """Take a whole reading in; the clusters that had or have a request.

        Args:
            now: Seconds on a clock that only goes forward.
            readings: By cluster; one that is not among them has had no request yet.
        """
        return {
            name for name, series in self._series.items() if series.take(now, readings.get(name, Reading()))
        }

    def restart(self) -> None:
        """Envoy has ended: nothing is under way, and it will count from 0."""
        for series in self._series.values():
            series.last = Reading()

    def window(self, names: Iterable[str]) -> Window:
        """What is known of some clusters, taken together."""
        seconds, active, total, requests = 0.0, 0, 0, 0
        times: Buckets = Counter()
        for name in names:
            series = self._series.get(name)
            if series is None:
                continue
            (begun, first, before), (ended, last, after) = series.kept[0], series.kept[-1]
            seconds = max(seconds, ended - begun)
            active += series.last.active
            total += last
            requests += last - first
            times += after - before
        return Window(seconds, active, total, requests, times)


def quantile(times: Buckets, part: float) -> float | None:
    """The duration in seconds that this part (0 to 1) of the requests kept within; None without any."""
    count = sum(times.values())
    if not count:
        return None
    wanted, seen = part * count, 0
    lower, width, inside = 0.0, 0.0, 0.0
    for (lower, width), number in sorted(times.items()):  # noqa: B007 - the last one counts when all are seen
        inside = max(wanted - seen, 0.0) / number
        seen += number
        if seen >= wanted:
            break
    return (lower + width * min(inside, 1.0)) / _MILLISECONDS
