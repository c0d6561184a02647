"""Probes: TCP, HTTP and gRPC checks of a running container, and when they count.

Source: `pkg/kubelet/prober` and `pkg/probe`. Messages are the kubelet's, for tools that read Events.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.kubelet.dial import NetworkError, connected, host_port
from chalkcompute.local.kubelet.grpc_health import check_health
from chalkcompute.local.kubelet.http_probe import BodyProblemError, HttpProblemError, get_status, request_of

__all__ = ["ProbeFailedError", "Prober", "Tally", "check", "check_http", "port_number"]

_FIRST_SECONDS = 0.01  # a server that starts is looked at often, so that it is used at once
_PART = 0.2  # of the time since its start: how much later the next look is
_WARM_UP_SECONDS = 1.0  # before it no failure counts, or is told of


class ProbeFailedError(Exception):
    """The check failed; the text says how.

    Attributes:
        state: "" for an answer that counts, or for none. Otherwise the check itself went wrong, which counts
            neither way: the state that the kubelet speaks of then.
    """

    def __init__(self, why: str, state: str = "") -> None:
        super().__init__(why)
        self.state = state

    @property
    def event(self) -> str:
        """What the Event says after the probe's kind."""
        return f"errored and resulted in {self.state} state: {self}" if self.state else f"failed: {self}"


def port_number(port: int | str, container: Mapping[str, Any]) -> int:
    """A port of a probe, which may be the name of one of the container's.

    Raises:
        ProbeFailedError: No port has that name.
    """
    if isinstance(port, int):
        return port
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    if port.isdigit():
        return int(port)
    raise ProbeFailedError(f'strconv.Atoi: parsing "{port}": invalid syntax', "unknown")


async def check(probe: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str) -> None:
    """Run a check once.

    Raises:
        ProbeFailedError: It failed.
    """
    timeout = probe.get("timeoutSeconds") or 1
    if (tcp := probe.get("tcpSocket")) is not None:
        await _check_tcp(tcp.get("host") or pod_ip, port_number(tcp["port"], container), timeout)
    elif (http := probe.get("httpGet")) is not None:
        await check_http(http, container, pod_ip, timeout)
    elif (grpc := probe.get("grpc")) is not None:
        why = await check_health(pod_ip, grpc["port"], grpc.get("service") or "", timeout)
        if why is not None:
            raise ProbeFailedError(why)
    else:
        raise ProbeFailedError(
            "exec probes are not supported by the local cluster yet; use httpGet or tcpSocket"
        )


async def _check_tcp(host: str, port: int, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout), connected(host, port):
            pass
    except TimeoutError:
        raise ProbeFailedError(f"dial tcp {host_port(host, port)}: i/o timeout") from None
    except NetworkError as error:
        raise ProbeFailedError(str(error)) from None


async def check_http(
    http: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, timeout: float
) -> None:
    """An HTTP check: any status from 200 to 399 is a success, read to the end within the time.

    Raises:
        ProbeFailedError: It failed.
    """
    host, port = http.get("host") or pod_ip, port_number(http["port"], container)
    try:
        status = await get_status(request_of(http, host, port), timeout)
    except ValueError as error:
        raise ProbeFailedError(f"{host_port(host, port)}: {error}", "unknown") from None
    except HttpProblemError as error:
        raise ProbeFailedError(str(error)) from None
    except BodyProblemError as error:
        raise ProbeFailedError(str(error), "failure") from None
    if not 200 <= status < 400:
        raise ProbeFailedError(f"HTTP probe failed with statuscode: {status}")


@dataclass(slots=True)
class Tally:
    """Results in a row, and when they make a verdict. Pure.

    Attributes:
        successes: Successes in a row that make one.
        failures: Failures in a row that make one.
    """

    successes: int
    failures: int
    _verdict: bool | None = None
    _last: bool | None = None
    _in_a_row: int = 0

    def note(self, succeeded: bool) -> bool | None:
        """Count a result; the verdict if it is the first one, or has turned."""
        self._in_a_row = self._in_a_row + 1 if succeeded == self._last else 1
        self._last = succeeded
        needed = self.successes if succeeded else self.failures
        if self._in_a_row < needed or self._verdict == succeeded:
            return None
        self._verdict = succeeded
        return succeeded


@dataclass(frozen=True, slots=True)
class Prober:
    """One probe of one running container.

    Attributes:
        probe: `Probe`.
        container: The container's spec.
        pod_ip: Where to knock.
        started_at: When the container started, on the loop's clock.
        on_failure: Called with the text of each failure that is told of, `failed: ...`.
    """

    probe: Mapping[str, Any]
    container: Mapping[str, Any]
    pod_ip: str
    started_at: float
    on_failure: Callable[[str], None]

    async def run_once(self) -> bool:
        """Check until the first verdict."""
        async with contextlib.aclosing(self.verdicts()) as verdicts:
            async for verdict in verdicts:
                return verdict
        raise AssertionError("probes do not end by themselves")

    async def verdicts(self) -> AsyncGenerator[bool, None]:
        """Check for ever; a verdict when a threshold is reached for the first time, and whenever it turns."""
        loop = asyncio.get_running_loop()
        period = self.probe.get("periodSeconds") or 10
        await asyncio.sleep(self.started_at + (self.probe.get("initialDelaySeconds") or 0) - loop.time())
        tally = Tally(self.probe.get("successThreshold") or 1, self.probe.get("failureThreshold") or 3)
        begun = due = loop.time()
        cold = (self.probe.get("successThreshold") or 1) == 1
        if cold:
            await self._warm_up(begun, begun + min(period, _WARM_UP_SECONDS))
        while True:
            failure = await self._once()
            if failure is not None:
                self.on_failure(failure.event)
            # As the kubelet, which throws away the result of a check that could not be made.
            if failure is None or not failure.state:
                verdict = tally.note(failure is None)
                if verdict is not None:
                    yield verdict
            cold = cold and failure is not None
            # As a ticker: a slow check does not put the next one off, unless it takes longer than the period.
            due = max(due + period, loop.time())
            if cold and await self._warm_up(begun, due):
                due = loop.time()
            await asyncio.sleep(due - loop.time())

    async def _warm_up(self, begun: float, until: float) -> bool:
        """Look often at a container that has not succeeded yet; only success counts. Whether it succeeded.

        A kubelet would look once and then wait a whole period: on one's own machine that is a long time.

        Args:
            begun: When it was looked at first, on the loop's clock.
            until: When to stop.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(until):
                while await self._once() is not None:
                    await asyncio.sleep(max(_FIRST_SECONDS, (loop.time() - begun) * _PART))
        except TimeoutError:
            return False
        return True

    async def _once(self) -> ProbeFailedError | None:
        try:
            await check(self.probe, self.container, self.pod_ip)
        except ProbeFailedError as error:
            return error
        return None
