"""The HTTP check of probes and hooks, as far as the kubelet's client goes: headers, redirects, a short body.

Source: `pkg/probe/http`. Messages are Go's, for tools that read Events.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

__all__ = ["HttpProblemError", "Request", "dial_error", "get_status", "request_of"]

_BODY_BYTES = 10 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_REFUSED = (111, 61)  # ECONNREFUSED of Linux and of macOS
_PORTS = {"http": 80, "https": 443}


class HttpProblemError(Exception):
    """There is no answer to judge; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        url: Address, with the port.
        headers: All of them, `Host` among them, in order.
    """

    url: str
    headers: tuple[tuple[str, str], ...]


def request_of(http: Mapping[str, Any], host: str, port: int) -> Request:
    """The request of an `httpGet`: its headers stand in for the kubelet's own of the same name."""
    scheme, path = (http.get("scheme") or "HTTP").lower(), http.get("path") or "/"
    url = f"{scheme}://{host}:{port}{path if path.startswith('/') else '/' + path}"
    given = [(header["name"], header.get("value") or "") for header in http.get("httpHeaders") or ()]
    names = {name.lower() for name, _ in given}
    own = [("Host", f"{host}:{port}"), ("User-Agent", "kube-probe/1.36"), ("Accept", "*/*")]
    kept = [header for header in own if header[0].lower() not in names]
    # An empty User-Agent or Accept of a probe means that none is sent.
    sent = [header for header in given if header[1] or header[0].lower() not in ("user-agent", "accept")]
    return Request(url, (*kept, *sent, ("Connection", "close")))


async def get_status(request: Request) -> int:
    """The status of the answer, after redirects that stay on the host.

    Raises:
        HttpProblemError: None came.
    """
    host = urlsplit(request.url).hostname
    for _ in range(_MOST_REDIRECTS):
        status, location = await _get(request)
        if status not in _REDIRECTS or not location:
            return status
        target = urljoin(request.url, location)
        if urlsplit(target).hostname != host or urlsplit(target).scheme not in _PORTS:
            return status  # the kubelet does not go to other hosts, and takes the redirect for an answer
        request = Request(target, tuple(_headers_for(target, request.headers)))
    raise HttpProblemError(f'Get "{request.url}": stopped after {_MOST_REDIRECTS} redirects')


def _headers_for(url: str, headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        yield (name, urlsplit(url).netloc) if name.lower() == "host" else (name, value)


async def _get(request: Request) -> tuple[int, str]:
    """Status and `Location` of one exchange."""
    parts = urlsplit(request.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        return await _exchange(request, host, port, tls=parts.scheme == "https")
    except OSError as error:
        raise HttpProblemError(f'Get "{request.url}": {dial_error(f"{host}:{port}", error)}') from None
    except EOFError:
        raise HttpProblemError(f'Get "{request.url}": EOF') from None
    except (ValueError, IndexError):
        raise HttpProblemError(f'Get "{request.url}": net/http: malformed HTTP response') from None


def dial_error(address: str, error: OSError) -> str:
    """A failed connection in Go's words."""
    why = "connect: connection refused" if error.errno in _REFUSED else str(error)
    return f"dial tcp {address}: {why}"


async def _exchange(request: Request, host: str, port: int, *, tls: bool) -> tuple[int, str]:
    context = None
    if tls:  # the kubelet does not verify, either: it knows the address, not the name
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        parts = urlsplit(request.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers)]
        writer.write("\r\n".join((*lines, "", "")).encode())
        status, headers = await _read_head(reader)
        # The whole of it counts to the probe's time; and who does not read on breaks a simple server's pipe.
        await _read_body(reader, headers)
        return status, headers.get("location", "")
    finally:
        writer.close()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    while True:
        status = int((await reader.readuntil(b"\n")).split(None, 2)[1])
        headers: dict[str, str] = {}
        while (line := (await reader.readuntil(b"\n")).strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if status >= 200:  # before it come interim answers
            return status, headers


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> None:
    """Read it to its end, or as much of it as the kubelet reads."""
    if headers.get("transfer-encoding", "").lower().endswith("chunked"):
        left = _BODY_BYTES
        while left > 0:
            size = int((await reader.readuntil(b"\n")).split(b";")[0], 16)
            if size == 0:
                return
            left -= len(await reader.readexactly(min(size, left)))
            if left > 0:
                await reader.readuntil(b"\n")
        return
    length = headers.get("content-length")
    left = min(_BODY_BYTES, int(length)) if length is not None else _BODY_BYTES
    while left > 0:
        chunk = await reader.read(left)
        if not chunk:
            if length is not None:
                raise EOFError
            return
        left -= len(chunk)
