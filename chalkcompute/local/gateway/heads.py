"""Heads of HTTP/1.1 requests, read strictly and passed on as a proxy has to (pure).

RFC 9112 and RFC 9110. What two readers could take for two different requests is refused, and not repaired:
both lengths at once, a length given twice, a folded line, a bare line feed, an encoding but `chunked`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["HEAD_LIMIT", "BadRequestError", "Head", "answer", "forwarded", "host_name", "parse_head"]

HEAD_LIMIT = 64 * 1024
"""Bytes of a head; Envoy itself takes 60 KiB, and adds some headers."""

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(r"(?:/[\x21-\x7e\x80-\xff]*|\*)")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=\-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_LENGTH = re.compile(r"[0-9]{1,18}")
# RFC 9110, section 7.6.1: for one connection only, whether `Connection` names them or not.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "te", "upgrade"})


class BadRequestError(Exception):
    """A head that is none, or that could be read in two ways; its text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of one request.

    Attributes:
        method: `GET`.
        target: `/path?query`, or `*`.
        headers: Names as written and values, in order.
        host: Value of `Host`.
        upgrade: The protocol that the connection is to become, or None.
        length: Bytes of the body; None when it comes in chunks, or the connection becomes another protocol.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    host: str
    upgrade: str | None
    length: int | None

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def by_name(self) -> dict[str, list[str]]:
        """Values of the headers, by their names in lower case."""
        return _by_name(self.headers)


def parse_head(raw: bytes) -> Head:
    """Read a head: everything up to the empty line and with it.

    Raises:
        BadRequestError: It is not one, or is ambiguous.
    """
    text = raw.decode("latin-1")
    if not text.endswith("\r\n\r\n"):
        raise BadRequestError("the head has no end")
    first, *lines = text[:-4].split("\r\n")
    method, target = _request_line(first)
    headers = tuple(_header(line) for line in lines)
    found = _by_name(headers)
    hosts = found.get("host", [])
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        raise BadRequestError("there must be one Host, and it must be a host name")
    length = _body_length(found)
    upgrade = _upgrade(found)
    if upgrade is not None and length != 0:
        raise BadRequestError("a request that asks for another protocol has no body")
    return Head(method, target, headers, hosts[0], upgrade, None if upgrade else length)


def _request_line(line: str) -> tuple[str, str]:
    words = line.split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1":
        raise BadRequestError("the first line is no request of HTTP/1.1")
    method, target, _ = words
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise BadRequestError("the first line has no method, or no path")
    return method, target


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    value = value.strip(" \t")
    if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise BadRequestError("a header line is malformed")
    return name, value


def _by_name(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value)
    return found


def _body_length(found: dict[str, list[str]]) -> int | None:
    """Bytes of the body, 0 for none; None for chunks."""
    codings, lengths = found.get("transfer-encoding", []), found.get("content-length", [])
    if codings and lengths:
        raise BadRequestError("Content-Length and Transfer-Encoding exclude each other")
    if codings:
        if len(codings) != 1 or codings[0].lower() != "chunked":
            raise BadRequestError("the only Transfer-Encoding is `chunked`, once")
        return None
    if not lengths:
        return 0
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise BadRequestError("Content-Length must be one number")
    return int(lengths[0])


def _options(found: dict[str, list[str]]) -> set[str]:
    """What `Connection` names, in lower case."""
    return {option.strip().lower() for value in found.get("connection", []) for option in value.split(",")}


def _upgrade(found: dict[str, list[str]]) -> str | None:
    protocols = found.get("upgrade", [])
    if "upgrade" not in _options(found) or not protocols:
        return None
    if len(protocols) != 1:
        raise BadRequestError("there must be one Upgrade")
    return protocols[0]


def forwarded(head: Head) -> bytes:
    """The head to send on: without what was meant for this connection, and for one request only."""
    named = _options(head.by_name())
    dropped = _HOP_BY_HOP | (named - {"transfer-encoding", "content-length", "host"})
    lines = [f"{head.method} {head.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in head.headers if name.lower() not in dropped]
    if head.upgrade is not None:
        lines += ["Connection: Upgrade", f"Upgrade: {head.upgrade}"]
    else:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def host_name(host: str) -> str:
    """The name in a `Host` header, without its port, in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def answer(status: str, text: str, headers: tuple[tuple[str, str], ...] = (), *, body: bool = True) -> bytes:
    """A whole answer in plain text, after which the connection ends.

    Args:
        status: `503 Service Unavailable`.
        text: What it says.
        headers: Further headers.
        body: False for the answer to HEAD, which has the length only.
    """
    content = f"{text}\n".encode()
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    lines += ["Content-Type: text/plain; charset=utf-8", f"Content-Length: {len(content)}"]
    lines += ["Cache-Control: no-store", "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (content if body else b"")
