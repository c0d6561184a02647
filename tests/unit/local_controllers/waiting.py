"""How tests wait for controllers that run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(holds: Callable[[], object]) -> None:
    """Wait until it holds; 60 seconds are a failure."""
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)
