"""`preStop`: what a container does before it is told to end.

Source: `pkg/kubelet/lifecycle/handlers.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from chalkcompute.local.kubelet.probes import ProbeFailedError, check_http
from chalkcompute.local.ports import Replica

__all__ = ["LEAST_GRACE_SECONDS", "HookFailedError", "pre_stop"]

LEAST_GRACE_SECONDS = 2.0
"""What is left to the program when its hook took everything."""

_HTTP_SECONDS = 30
_NOT_SUPPORTED = "exec hooks are not supported by the local cluster yet; use sleep or httpGet"


class HookFailedError(Exception):
    """The hook failed, which does not keep the container from ending.

    Attributes:
        seconds: How long it took.
    """

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


async def pre_stop(container: Mapping[str, Any], replica: Replica, pod_ip: str, grace: float) -> float:
    """Run the hook of a container, if it has one; its time is the grace period's.

    Returns:
        The seconds that it took.

    Raises:
        HookFailedError: It failed.
    """
    hook = (container.get("lifecycle") or {}).get("preStop") or {}
    if not hook:
        return 0.0
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await _run(hook, container, replica, pod_ip)
    except ProbeFailedError as error:
        raise HookFailedError(str(error), loop.time() - began) from None
    return loop.time() - began


async def _run(hook: Mapping[str, Any], container: Mapping[str, Any], replica: Replica, pod_ip: str) -> None:
    if (sleep := hook.get("sleep")) is not None:
        with contextlib.suppress(TimeoutError):  # nobody waits for a program that has ended
            await asyncio.wait_for(replica.wait(), sleep.get("seconds") or 0)
    elif (http := hook.get("httpGet")) is not None:
        await check_http(http, container, pod_ip, _HTTP_SECONDS)
    else:
        raise ProbeFailedError(_NOT_SUPPORTED)
