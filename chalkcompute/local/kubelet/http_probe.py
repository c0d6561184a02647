"""The HTTP check of probes and hooks, as far as the kubelet's client goes: headers, redirects, a short body.

Source: `pkg/probe/http`. Messages are Go's, for tools that read Events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from chalkcompute.local.kubelet.dial import Connection, NetworkError, connected, host_port

__all__ = ["BodyProblemError", "HttpProblemError", "Request", "get_status", "request_of"]

_BODY_BYTES = 10 * 1024
_LINE_BYTES = 64 * 1024  # what a stream of asyncio keeps of one line
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
_PORTS = {"http": 80, "https": 443}
_LATE = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
_LATE_BODY = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
_BROKEN = "net/http: HTTP/1.x transport connection broken"
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class HttpProblemError(Exception):
    """There is no answer to judge; the text says why."""


class BodyProblemError(Exception):
    """The answer began, and its body broke off; the text says how."""


class _MalformedError(Exception):
    """What came is not HTTP."""


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
    """The request of an `httpGet`: its headers stand in for the kubelet's own of the same name.

    Raises:
        ValueError: Its host cannot be one.
    """
    scheme, path = (http.get("scheme") or "HTTP").lower(), http.get("path") or "/"
    url = f"{scheme}://{host_port(host, port)}{path if path.startswith('/') else '/' + path}"
    given = [(header["name"], header.get("value") or "") for header in http.get("httpHeaders") or ()]
    names = {name.lower() for name, _ in given}
    own = [("Host", host_port(host, port)), ("User-Agent", "kube-probe/1.36"), ("Accept", "*/*")]
    kept = [header for header in own if header[0].lower() not in names]
    # An empty User-Agent or Accept of a probe means that none is sent.
    sent = [header for header in given if header[1] or header[0].lower() not in ("user-agent", "accept")]
    _parsed(url)
    return Request(url, (*kept, *sent, ("Connection", "close")))


async def get_status(request: Request, seconds: float) -> int:
    """The status of the answer, after redirects that stay on the host; its body is read within the time.

    Raises:
        HttpProblemError: None came.
        BodyProblemError: One came, and not its body.
    """
    deadline = asyncio.get_running_loop().time() + seconds
    host = urlsplit(request.url).hostname
    for _ in range(_MOST_REDIRECTS):
        status, location = await _get(request, deadline)
        if status not in _REDIRECTS or not location:
            return status
        target, parts = _followed(request.url, location)
        if parts.hostname != host or parts.scheme not in _PORTS:
            return status  # the kubelet does not go to other hosts, and takes the redirect for an answer
        request = Request(target, tuple(_headers_for(parts.netloc, request.headers)))
    raise HttpProblemError(f'Get "{request.url}": stopped after {_MOST_REDIRECTS} redirects')


def _parsed(url: str) -> SplitResult:
    """Its parts.

    Raises:
        ValueError: Its host or port cannot be one; of a port `urlsplit` says so only when asked for it.
    """
    parts = urlsplit(url)
    _ = parts.port
    return parts


def _followed(url: str, location: str) -> tuple[str, SplitResult]:
    """Where a redirect leads, and the parts of that."""
    try:
        target = urljoin(url, location)
        return target, _parsed(target)
    except ValueError as error:
        where = _quoted(location.encode(errors="surrogateescape"))
        raise HttpProblemError(f'Get "{url}": failed to parse Location header {where}: {error}') from None


def _headers_for(host: str, headers: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        yield (name, host) if name.lower() == "host" else (name, value)


async def _get(request: Request, deadline: float) -> tuple[int, str]:
    """Status and `Location` of one exchange."""
    parts = urlsplit(request.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    answered = False
    try:
        async with (
            asyncio.timeout_at(deadline),
            connected(host, port, tls=parts.scheme == "https") as connection,
        ):
            status, headers = await _head(request, connection)
            answered = True
            # The whole of it counts to the time; and who does not read on breaks a simple server's pipe.
            await _read_body(connection.reader, headers)
    except TimeoutError:
        why = _LATE_BODY if answered else _LATE
    except EOFError:
        why = "unexpected EOF"
    except asyncio.LimitOverrunError:
        why = "http: suspiciously long trailer after chunked body"
    except ValueError:
        why = "invalid byte in chunk length"
    except (NetworkError, _MalformedError) as error:
        why = str(error)
    else:
        return status, headers.get("location", "")
    if answered:
        raise BodyProblemError(why)
    raise HttpProblemError(f'Get "{request.url}": {why}')


async def _head(request: Request, connection: Connection) -> tuple[int, dict[str, str]]:
    """Ask, and read up to where the body begins."""
    parts = urlsplit(request.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers)]
    connection.writer.write("\r\n".join((*lines, "", "")).encode())
    reader = connection.reader
    try:
        while True:
            status = _status_of(await reader.readuntil(b"\n"))
            headers: dict[str, str] = {}
            while (line := (await reader.readuntil(b"\n")).strip()) != b"":
                name, colon, value = line.decode("latin-1").partition(":")
                if not colon:
                    raise _MalformedError(f"{_BROKEN}: malformed MIME header: missing colon: {_quoted(line)}")
                headers[name.strip().lower()] = value.strip()
            if status >= 200:  # before it come interim answers
                _check_length(headers)
                return status, headers
    except asyncio.IncompleteReadError as error:
        raise _MalformedError(f"{_BROKEN}: unexpected EOF" if error.partial else "EOF") from None
    except asyncio.LimitOverrunError:
        why = f"net/http: server response headers exceeded {_LINE_BYTES} bytes; aborted"
        raise _MalformedError(f"{_BROKEN}: {why}") from None


def _check_length(headers: Mapping[str, str]) -> None:
    length = headers.get("content-length")
    if length is not None and not _is_chunked(headers) and not (length.isascii() and length.isdigit()):
        raise _MalformedError(f"{_BROKEN}: bad Content-Length {_quoted(length.encode('latin-1'))}")


def _is_chunked(headers: Mapping[str, str]) -> bool:
    return headers.get("transfer-encoding", "").lower().endswith("chunked")


def _status_of(line: bytes) -> int:
    """The status of a status line, which is looked at in the order in which Go looks."""
    line = line.rstrip(b"\r\n")
    version, space, rest = line.partition(b" ")
    number = rest.lstrip(b" ").partition(b" ")[0]
    if not space:
        raise _MalformedError(f"{_BROKEN}: malformed HTTP response {_quoted(line)}")
    if len(number) != 3 or not number.isdigit():
        raise _MalformedError(f"{_BROKEN}: malformed HTTP status code {_quoted(number)}")
    if len(version) != 8 or not version.startswith(b"HTTP/"):
        raise _MalformedError(f"{_BROKEN}: malformed HTTP version {_quoted(version)}")
    return int(number)


def _quoted(data: bytes) -> str:
    """As `%q` of Go shows it."""
    shown = []
    for symbol in data.decode(errors="surrogateescape"):
        code = ord(symbol)
        if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
            shown.append(f"\\x{code - 0xDC00:02x}")
        elif symbol in _ESCAPES or symbol.isprintable():
            shown.append(_ESCAPES.get(symbol, symbol))
        else:
            shown.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}")
    return f'"{"".join(shown)}"'


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> None:
    """Read it to its end, or as much of it as the kubelet reads."""
    if _is_chunked(headers):
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
