"""Steady traffic to a group's gateway, and what became of every single request.

HTTP/1.1 by hand: what a client library would smooth over (a connection that ends before the answer, an answer
cut short, a request sent again) is what these tests are about.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import itertools
import json
import random
import socket
import ssl
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = (Path(__file__).parent / "serving.py").read_text(encoding="utf-8")
"""What the replicas run: `--entrypoint` of `python -c`."""

KEPT = 6
"""Connections that are used again and again."""

NEW_EVERY = 8
"""One in this many requests comes on a connection of its own."""

_PATIENCE = 90.0
_MOST_IN_FLIGHT = 100


@dataclass(frozen=True)
class Door:
    """How to connect to a group.

    Attributes:
        host: Host of its URL, with the port if that is not the scheme's own.
        address: Where the gateway is.
        port: Its port.
        context: TLS, or None for plain HTTP.
    """

    host: str
    address: str
    port: int
    context: ssl.SSLContext | None

    @property
    def server_name(self) -> str | None:
        return self.host.partition(":")[0] if self.context else None

    def connect(self, timeout: float = 30.0) -> socket.socket:
        """A connection, with TLS where the gateway has it."""
        raw = socket.create_connection((self.address, self.port), timeout=timeout)
        return self.context.wrap_socket(raw, server_hostname=self.server_name) if self.context else raw

    def client(self, timeout: float = 30.0) -> http.client.HTTPConnection:
        """A connection of the standard library's client; the Host header is the caller's to give."""
        connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout)
        connection.sock = self.connect(timeout)
        return connection

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, timeout: float = 30.0
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request on a connection of its own."""
        with contextlib.closing(self.client(timeout)) as connection:
            connection.request(method, path, body=body, headers={"Host": self.host})
            response = connection.getresponse()
            return response.status, response.headers, response.read()


@dataclass
class Entry:
    """One request and its fate.

    Attributes:
        number: Which one it was, from 0.
        method: Its method.
        path: Its path.
        began: When the client turned to it, in seconds of the monotonic clock.
        kept: Whether its connection had carried another one before.
        ended: When its fate was known.
        phase: How far it came: `connect`, `send`, `wait` (for the answer's first byte), `read`, `done`.
        status: Status code of the answer, 0 if there was none.
        replica: The replica that answered, or had begun to.
        word: `$WORD` of that replica.
        problem: Why it counts as lost; "" when it was answered as it should be.
    """

    number: int
    method: str
    path: str
    began: float
    kept: bool = False
    ended: float = 0.0
    phase: str = "connect"
    status: int = 0
    replica: str = ""
    word: str = ""
    problem: str = ""

    def __str__(self) -> str:
        connection = "kept" if self.kept else "new"
        by = f" by {self.replica} ({self.word})" if self.replica else ""
        return (
            f"#{self.number} {self.method} {self.path} on a {connection} connection: "
            f"{self.problem or self.status}{by}, at `{self.phase}`, {self.ended - self.began:.3f} s"
        )


@dataclass
class Ledger:
    """Every request that was sent, in the order in which their fates were known."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def lost(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.problem]

    @property
    def answered(self) -> list[Entry]:
        return [entry for entry in self.entries if not entry.problem]

    def replicas(self) -> Counter[str]:
        return Counter(entry.replica for entry in self.answered)

    def words(self) -> list[str]:
        """`$WORD` of the replica of each answered request."""
        return [entry.word for entry in self.answered]

    def __str__(self) -> str:
        slowest = max((entry.ended - entry.began for entry in self.answered), default=0.0)
        return "\n".join(
            [
                f"{len(self.entries)} requests: {len(self.answered)} answered (the slowest after "
                f"{slowest:.2f} s), {len(self.lost)} lost",
                *(f"  {count:6} by {name}" for name, count in self.replicas().most_common()),
                *(f"  {entry}" for entry in self.lost[:40]),
            ]
        )


class _Lane:
    """One connection of the traffic."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.used = False

    @property
    def usable(self) -> bool:
        return not self.reader.at_eof() and not self.writer.is_closing()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self.writer.wait_closed(), 5)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), {name.lower(): value.strip() for name, _, value in fields}

    async def body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", 0)))
        content = b""
        while size := int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            content += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)
        return content


class Traffic:
    """Requests at a steady rate, from a thread, for as long as the block lasts.

    A GET, a POST with a body, and so on in turn; most on kept connections, some on new ones. One in ten asks
    for an answer that takes `slow` seconds. When the block ends no more are sent, and those under way are
    waited for: the ledger then has each of them exactly once.

    Args:
        door: Where to.
        rate: Requests per second.
        slow: Seconds that a slow one takes.
    """

    def __init__(self, door: Door, *, rate: float = 60.0, slow: float = 0.5) -> None:
        self._door = door
        self._rate = rate
        self._slow = slow
        self._random = random.Random(1)
        self._idle: deque[_Lane] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")
        self.sent = 0
        self.ledger = Ledger()

    def __enter__(self) -> Traffic:
        self._thread.start()
        self.flow(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_PATIENCE + 30)
        assert not self._thread.is_alive(), "some request neither ends nor fails"
        numbers = sorted(entry.number for entry in self.ledger.entries)
        assert numbers == list(range(self.sent)), "every request has one fate"
        sys.stdout.write(f"{self.ledger}\n")  # pytest shows it with -rP, and when a test fails

    def flow(self, more: int) -> None:
        """Let it flow until so many more requests have ended."""
        enough = len(self.ledger.entries) + more
        deadline = time.monotonic() + _PATIENCE
        while len(self.ledger.entries) < enough:
            assert self._thread.is_alive(), "the traffic has stopped by itself"
            assert time.monotonic() < deadline, f"not {more} requests within {_PATIENCE} s\n{self.ledger}"
            time.sleep(0.02)

    async def _run(self) -> None:
        slots = asyncio.Semaphore(_MOST_IN_FLIGHT)
        next_at = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                await slots.acquire()
                if self._stop.is_set():
                    break
                self.sent = number + 1
                group.create_task(self._one(number)).add_done_callback(lambda _: slots.release())
                next_at = max(next_at + 1 / self._rate, time.monotonic() - 0.1)
                await asyncio.sleep(next_at - time.monotonic())
        while self._idle:
            await self._idle.pop().close()

    async def _one(self, number: int) -> None:
        slow = number % 10 == 9
        path = f"/slow?seconds={self._slow}" if slow else "/"
        entry = Entry(number, "POST" if number % 2 else "GET", path, time.monotonic())
        lane: _Lane | None = None
        try:
            async with asyncio.timeout(_PATIENCE):
                lane = await self._lane(entry)
                await self._converse(lane, entry)
        except TimeoutError:
            entry.problem = f"no end within {_PATIENCE:.0f} s"
        except (OSError, EOFError, ValueError) as error:
            entry.problem = repr(error)
        entry.ended = time.monotonic()
        self.ledger.entries.append(entry)
        if lane is None:
            return
        keep = not entry.problem and number % NEW_EVERY and len(self._idle) < KEPT
        if keep and lane.usable:
            self._idle.append(lane)
        else:
            await lane.close()

    async def _lane(self, entry: Entry) -> _Lane:
        """A connection: the one that has been idle for longest, or a new one."""
        while self._idle and entry.number % NEW_EVERY:
            lane = self._idle.popleft()
            if lane.usable:
                entry.kept = lane.used
                return lane
            await lane.close()
        door = self._door
        return _Lane(
            *await asyncio.open_connection(
                door.address, door.port, ssl=door.context, server_hostname=door.server_name
            )
        )

    async def _converse(self, lane: _Lane, entry: Entry) -> None:
        body = self._random.randbytes(self._random.choice((10, 2000, 40_000)))
        lines = [f"{entry.method} {entry.path} HTTP/1.1", f"Host: {self._door.host}"]
        lines.append(f"X-Number: {entry.number}")
        if entry.method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        else:
            body = b""
        entry.phase, lane.used = "send", True
        lane.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await lane.writer.drain()
        entry.phase = "wait"
        entry.status, headers = await lane.head()
        entry.phase = "read"
        entry.replica, entry.word = headers.get("x-replica", ""), headers.get("x-word", "")
        answer = await lane.body(headers)
        entry.phase = "done"
        if entry.status != 200:
            entry.problem = f"answered {entry.status} {answer[:200]!r}"
        elif headers.get("x-number") != str(entry.number):
            entry.problem = f"answered with what belongs to #{headers.get('x-number')}"
        elif json.loads(answer)["digest"] != hashlib.sha256(body).hexdigest():
            entry.problem = "its body did not arrive as it was sent"
        if headers.get("connection", "").lower() == "close":
            lane.writer.close()
