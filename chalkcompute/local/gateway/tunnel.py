"""Bytes both ways between a client and a replica, and a connection's decent end."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["finish", "tunnel"]

_CHUNK = 64 * 1024
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
    down = asyncio.create_task(_pump(replica[0], client[1], None))
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
