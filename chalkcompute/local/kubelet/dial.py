"""Connections of probes, and what goes wrong with them in the words of Go's `net` and `crypto/tls`.

The kubelet puts these words into Events, where people and tools read them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Connection", "NetworkError", "connected", "host_port"]

_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
_CUT_SHORT = "UNEXPECTED_EOF_WHILE_READING"
_ALERT = "_ALERT_"


class NetworkError(Exception):
    """The connection could not be made, or broke; the text says why."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection.

    Attributes:
        reader: What comes.
        writer: Where to write.
        ends: Both addresses, `10.0.0.1:40000->10.0.0.2:80`.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ends: str


@asynccontextmanager
async def connected(host: str, port: int, *, tls: bool = False) -> AsyncIterator[Connection]:
    """Connect for the time of the context; what breaks within is told in Go's words, too.

    Raises:
        NetworkError: It cannot be connected, or the connection breaks.
    """
    connecting, remote = await _dial(host, port)
    ends = f"{host_port(*connecting.getsockname()[:2])}->{remote}"
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection(
            sock=connecting, ssl=_trusting() if tls else None, server_hostname=host if tls else None
        )
        yield Connection(reader, writer, ends)
    except ssl.SSLError as error:
        raise NetworkError(_tls_problem(error)) from None
    except OSError as error:
        if writer is None and error.errno is None:  # asyncio's word for an end amid the handshake
            raise NetworkError("EOF") from None
        operation = "write" if isinstance(error, BrokenPipeError) else "read"
        raise NetworkError(f"{operation} tcp {ends}: {operation}: {_errno_words(error)}") from None
    finally:
        if writer is not None:
            writer.close()
        else:
            connecting.close()


def host_port(host: str, port: int) -> str:
    """`net.JoinHostPort`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _dial(host: str, port: int) -> tuple[socket.socket, str]:
    """A connection to the first address that takes one, and that address; else why the first does not."""
    loop = asyncio.get_running_loop()
    problem: NetworkError | None = None
    for family, address in await _addresses(host, port):
        connecting = socket.socket(family, socket.SOCK_STREAM)
        remote = host_port(str(address[0]), port)
        try:
            connecting.setblocking(False)
            await loop.sock_connect(connecting, address)
        except OSError as error:
            connecting.close()
            problem = problem or NetworkError(f"dial tcp {remote}: connect: {_errno_words(error)}")
        except BaseException:
            connecting.close()
            raise
        else:
            return connecting, remote
    raise problem or NetworkError(f"dial tcp: lookup {host}: no such host")


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """Family and address of each, in the order to try them; names are looked up in a thread."""
    try:
        with contextlib.suppress(socket.gaierror):
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            )
            return [(entry[0], entry[4]) for entry in found]
        looked_up = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        unknown = isinstance(error, UnicodeError) or error.errno in _NO_SUCH_HOST
        why = "no such host" if unknown else "server misbehaving"
        raise NetworkError(f"dial tcp: lookup {host}: {why}") from None
    return [(entry[0], entry[4]) for entry in looked_up]


def _trusting() -> ssl.SSLContext:
    """The kubelet does not verify, either: it knows the address, not the name. Reads no authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _errno_words(error: OSError) -> str:
    """`syscall.Errno`: as the C library has it, without the capital letter."""
    if error.errno is None:  # asyncio found the connection gone by itself
        return "broken pipe" if isinstance(error, BrokenPipeError) else "connection reset by peer"
    words = os.strerror(error.errno)
    return words[:1].lower() + words[1:]


def _tls_problem(error: ssl.SSLError) -> str:
    """A handshake that failed: an alert of the other side, no TLS at all, or what OpenSSL calls it."""
    reason = error.reason or ""
    if reason in _NOT_TLS:
        return "http: server gave HTTP response to HTTPS client"
    if reason == _CUT_SHORT:
        return "EOF"
    words = reason.partition(_ALERT)[2] if _ALERT in reason else reason
    side = "remote error: tls" if _ALERT in reason else "tls"
    return f"{side}: {words.lower().replace('_', ' ') or 'handshake failure'}"
