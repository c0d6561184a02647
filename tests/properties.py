"""How many examples a property test looks at, and which."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["examples"]

# `make explore` sets it: that many times the examples, other ones at each run.
_EXPLORE = int(os.environ.get("EXPLORE", "0"))


def examples(number: int) -> settings:
    """Settings of a property test: `number` examples, the same at every run of the same test.

    So that a commit that was green is green, and what one run finds the next one finds too.
    """
    if _EXPLORE:
        return settings(
            max_examples=number * _EXPLORE, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    return settings(max_examples=number, deadline=None, derandomize=True)
