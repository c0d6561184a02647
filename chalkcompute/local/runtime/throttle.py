"""A CPU limit without control groups: processes that have had their share are paused until there is more.

A token bucket over the period of the kernel's own bandwidth control: CPU time flows in at the rate of the
limit, and what is used flows out. When the bucket is empty the processes are stopped, when it is full they
go on. Pure; `watch.py` looks at the clock, and stops them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Bucket", "Step", "advance"]

PERIOD_SECONDS = 0.1
_LEAST_SECONDS = 0.01  # CPU time is counted in hundredths of a second
_IDLE_SECONDS = 0.5
_GROWTH = 1.5
# What a replica took while nobody looked is forgiven beyond this: a long pause would look like a hang.
_MOST_PAUSE_SECONDS = 0.5
# Many threads on many cores take so much between two looks that this is not enough to hold them.
_MOST_PAUSE_OF_MANY_SECONDS = 2.0
_BUSY = 0.5  # of the limit: from here on it is looked at in every period


@dataclass(frozen=True, slots=True)
class Bucket:
    """The share of one replica.

    Attributes:
        limit: Cores.
        at: When it was looked at last, in seconds of any clock that does not go back.
        used: CPU seconds used until then.
        tokens: CPU seconds that it may use now; negative when it has used too many.
        paused: Whether its processes are stopped.
        rate: Cores that it took when it ran last.
        interval: Seconds until the next look.
    """

    limit: float
    at: float
    used: float
    tokens: float = 0.0
    paused: bool = False
    rate: float = 1.0
    interval: float = PERIOD_SECONDS

    @property
    def capacity(self) -> float:
        """CPU seconds of one period."""
        return self.limit * PERIOD_SECONDS


@dataclass(frozen=True, slots=True)
class Step:
    """What to do: pause the processes or let them run, and look again after `seconds`."""

    pause: bool
    seconds: float


def advance(bucket: Bucket, now: float, used: float) -> tuple[Bucket, Step]:
    """The bucket after a look at the clock and at what was used, and what follows from it."""
    passed = max(0.0, now - bucket.at)
    spent = max(0.0, used - bucket.used)  # less than before: a process ended, and took its count along
    rate = spent / passed if passed > 0 and not bucket.paused else bucket.rate
    least = min(rate * _LEAST_SECONDS, bucket.limit * _MOST_PAUSE_OF_MANY_SECONDS)
    most_debt = max(bucket.limit * _MOST_PAUSE_SECONDS, least) - bucket.capacity
    tokens = max(-most_debt, min(bucket.capacity, bucket.tokens + bucket.limit * passed - spent))
    # Half full is enough to go on: a timer that is a little early must not cost another round.
    pause = tokens < bucket.capacity / 2 if bucket.paused else tokens <= 0
    seconds = (bucket.capacity - tokens) / bucket.limit if pause else _until_next_look(bucket, tokens, rate)
    after = replace(bucket, at=now, used=used, tokens=tokens, paused=pause, rate=rate, interval=seconds)
    return after, Step(pause, seconds)


def _until_next_look(bucket: Bucket, tokens: float, rate: float) -> float:
    if rate > bucket.limit:
        return max(_LEAST_SECONDS, min(PERIOD_SECONDS, tokens / (rate - bucket.limit)))
    if bucket.paused or rate > bucket.limit * _BUSY:
        return PERIOD_SECONDS
    return min(_IDLE_SECONDS, max(PERIOD_SECONDS, bucket.interval) * _GROWTH)
