"""Bytes both ways between a client and a replica, and a connection's decent end."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["finish", "tunnel"]

_CHUNK = 64 * 1024
_ONE_CONNECTION = (b"connection:", b"keep-alive:", b"proxy-connection:")
_LINGER = 2.0


async def tunnel(
    client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    replica: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    length: int | None,
) -> None:
    """Pass bytes on until either side ends.

    Args:
        client: Whom the answer goes to; its connection is left open for `finish`.
        replica: Where the request goes to.
        length: Bytes of the request's body; None where only the peers know. What comes after them is dropped:
            it would be a second request that nobody has looked at.
    """
    up = asyncio.create_task(_pump(client[0], replica[1], length))
    down = asyncio.create_task(_pump_answer(replica[0], client[1]))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, length: int | None) -> None:
    """Until the end of what is read, or until it cannot be written."""
    left = length
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            if left is not None:
                data = data[:left]
                left -= len(data)
            writer.write(data)
            await writer.drain()


async def _pump_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The answer, saying that its connection ends with it, whatever the replica says.

    One that leaves its connection open has the client send its next request here, where nobody reads it.
    """
    with contextlib.suppress(ConnectionError):
        try:
            while await _pump_head(reader, writer):
                pass
        except asyncio.IncompleteReadError as error:
            writer.write(error.partial)
        except asyncio.LimitOverrunError:
            pass  # a line too long: Envoy says so
    await _pump(reader, writer, None)


async def _pump_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Pass one head on; whether it is an interim one, and another follows."""
    first = line = await reader.readuntil(b"\n")
    version, _, rest = first.partition(b" ")
    kept = not version.startswith(b"HTTP/") or rest.startswith(b"1")
    writer.write(line if kept else line + b"Connection: close\r\n")
    while line.strip():
        line = await reader.readuntil(b"\n")
        if kept or not line.lower().startswith(_ONE_CONNECTION):
            writer.write(line)
    await writer.drain()
    return rest.startswith(b"1") and not rest.startswith(b"101")


async def finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close so that what was written arrives: a socket closed over unread data resets the connection."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_LINGER):
            if writer.can_write_eof():
                writer.write_eof()
            await writer.drain()
            while await reader.read(_CHUNK):
                pass
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
