"""Probes: TCP, HTTP and gRPC checks of a running container, and when they count.

Source: `pkg/kubelet/prober` and `pkg/probe`. Messages are the kubelet's, for tools that read Events.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.kubelet.grpc_health import check_health

__all__ = ["ProbeFailedError", "Prober", "check", "port_number"]

_FIRST_SECONDS = 0.03  # a server that has just started is looked at often, so that it is used at once
_GROWTH = 1.5
_BODY_BYTES = 10 * 1024


class ProbeFailedError(Exception):
    """The check failed; the text says how."""


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
    raise ProbeFailedError(f"couldn't find port: {port}")


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
        await _check_grpc(pod_ip, grpc["port"], grpc.get("service") or "", timeout)
    else:
        raise ProbeFailedError(
            "exec probes are not supported by the local cluster yet; use httpGet or tcpSocket"
        )


def _dial_error(address: str, error: OSError) -> str:
    why = {111: "connect: connection refused", 61: "connect: connection refused"}
    return f"dial tcp {address}: {why.get(error.errno or 0, str(error))}"


async def _check_tcp(host: str, port: int, timeout: float) -> None:
    address = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        raise ProbeFailedError(f"dial tcp {address}: i/o timeout") from None
    except OSError as error:
        raise ProbeFailedError(_dial_error(address, error)) from None
    writer.close()


async def _check_grpc(host: str, port: int, service: str, timeout: float) -> None:
    address = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout):
            why = await check_health(host, port, service)
    except TimeoutError:
        raise ProbeFailedError(f'timeout: failed to connect service "{address}" within {timeout}s') from None
    except (OSError, EOFError) as error:
        why = f'error: health rpc failed: connection to "{address}": {error}'
    if why is not None:
        raise ProbeFailedError(why)


async def check_http(
    http: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, timeout: float
) -> None:
    """An HTTP check: any status from 200 to 399 is a success.

    Raises:
        ProbeFailedError: It failed.
    """
    host, port = http.get("host") or pod_ip, port_number(http["port"], container)
    scheme, path = (http.get("scheme") or "HTTP").lower(), http.get("path") or "/"
    url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
    headers = {
        "Host": f"{host}:{port}",
        "User-Agent": "kube-probe/1.36",
        "Accept": "*/*",
        "Connection": "close",
        **{header["name"]: header["value"] for header in http.get("httpHeaders") or ()},
    }
    try:
        async with asyncio.timeout(timeout):
            status = await _get_status(host, port, scheme, path, headers)
    except TimeoutError:
        raise ProbeFailedError(
            f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
        ) from None
    except (OSError, EOFError) as error:
        why = _dial_error(f"{host}:{port}", error) if isinstance(error, OSError) else "EOF"
        raise ProbeFailedError(f'Get "{url}": {why}') from None
    except (ValueError, IndexError):
        raise ProbeFailedError(f'Get "{url}": net/http: malformed HTTP response') from None
    if not 200 <= status < 400:
        raise ProbeFailedError(f"HTTP probe failed with statuscode: {status}")


async def _get_status(host: str, port: int, scheme: str, path: str, headers: Mapping[str, str]) -> int:
    context = None
    if scheme == "https":  # the kubelet does not verify, either: it knows the address, not the name
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        target = path if path.startswith("/") else f"/{path}"
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join((*lines, "", "")).encode())
        status_line = await reader.readuntil(b"\n")
        status = int(status_line.split(None, 2)[1])
        # Read what it has to say, or a simple server complains of a broken pipe.
        await reader.read(_BODY_BYTES)
        return status
    finally:
        writer.close()


@dataclass(frozen=True, slots=True)
class Prober:
    """One probe of one running container.

    Attributes:
        probe: `Probe`.
        container: The container's spec.
        pod_ip: Where to knock.
        on_result: Called with True or False when a threshold is reached, and again when it turns.
        on_failure: Called with the text of each failure that counts.
    """

    probe: Mapping[str, Any]
    container: Mapping[str, Any]
    pod_ip: str
    on_result: Callable[[bool], None]
    on_failure: Callable[[str], None]

    async def run(self, *, until_success: bool = False) -> None:
        """Check until cancelled, or (for a start-up probe) until the first success."""
        period = self.probe.get("periodSeconds") or 10
        await asyncio.sleep(self.probe.get("initialDelaySeconds") or 0)
        if await self._warm_up(period) and until_success:
            return
        verdict: bool | None = None
        run_length, last = 0, None
        while True:
            failure = await self._once()
            succeeded = failure is None
            run_length = run_length + 1 if succeeded == last else 1
            last = succeeded
            if failure is not None:
                self.on_failure(failure)
            threshold = self.probe.get("successThreshold" if succeeded else "failureThreshold")
            if run_length >= (threshold or (1 if succeeded else 3)) and verdict != succeeded:
                verdict = succeeded
                self.on_result(succeeded)
                if succeeded and until_success:
                    return
            await asyncio.sleep(period)

    async def _warm_up(self, period: float) -> bool:
        """Look often at a container that has just started; only success counts. True when it succeeded.

        A kubelet would look once and then wait a whole period: on one's own machine that is a long time.
        """
        if (self.probe.get("successThreshold") or 1) > 1:
            return False
        delay, waited = _FIRST_SECONDS, 0.0
        limit = min(period, 1.0)
        while waited < limit:
            if await self._once() is None:
                self.on_result(True)
                return True
            await asyncio.sleep(delay)
            waited += delay
            delay *= _GROWTH
        return False

    async def _once(self) -> str | None:
        try:
            await check(self.probe, self.container, self.pod_ip)
        except ProbeFailedError as error:
            return str(error)
        return None
