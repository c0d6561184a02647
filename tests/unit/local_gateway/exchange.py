"""What tests of the gateway ask over real sockets, and what answers them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.unit.stream_server import stream_server

__all__ = ["HOST", "Replica", "a_replica", "eventually", "get"]

HOST = b"dev-web.gw.localhost"


def get(path: bytes = b"/", *lines: bytes, method: bytes = b"GET", host: bytes = HOST) -> bytes:
    return b"\r\n".join([b"%s %s HTTP/1.1" % (method, path), b"Host: " + host, *lines, b"", b""])


@dataclass
class Replica:
    """A server that keeps what it was sent, and answers as told."""

    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    heads: list[bytes] = field(default_factory=list)
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None = None
    port: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            if self.serve is not None:
                await self.serve(reader, writer)
            else:
                writer.write(self.answer)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def a_replica(**how: Any) -> AsyncIterator[Replica]:
    replica = Replica(**how)
    async with stream_server(replica.handle) as replica.port:
        yield replica


async def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        await asyncio.sleep(0.01)
    return value
