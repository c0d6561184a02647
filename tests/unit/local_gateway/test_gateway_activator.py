"""The activator over real sockets, with a fake replica."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest

from chalkcompute.local.gateway.activator import Activator
from chalkcompute.local.gateway.holding import Bounds
from chalkcompute.local.ports import Change, Manifest
from tests.unit.local_gateway.exchange import Replica, a_replica, eventually, get
from tests.unit.local_gateway.objects_of_a_cluster import (
    a_service,
    a_slice,
    an_endpoint,
    an_interceptor_route,
)

WEB = ("default", "web")
Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class World:
    activator: Activator
    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def show(self, *objects: Manifest, type_: str = "ADDED") -> None:
        for obj in objects:
            self.activator.update(Change(type_, obj["kind"], obj))

    def ready(self, *replicas: Replica, **conditions: bool) -> None:
        """These are the endpoints of `web` now."""
        for number in range(3):
            some = replicas[number : number + 1]
            piece = a_slice(*(an_endpoint("127.0.0.1", **conditions) for _ in some),
                            port=some[0].port if some else 1)  # fmt: skip
            piece["metadata"]["name"] = f"web-{number}"
            self.show(piece)

    async def send(self, request: bytes) -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(request)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        reader, writer = await self.send(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def held(self, number: int) -> None:
        """Until that many requests wait."""
        await eventually(lambda: self.activator.room.held(WEB) == number, f"{number} held")

    async def empty(self) -> None:
        await eventually(lambda: not self.activator.room.inside(WEB), "nothing inside")


@asynccontextmanager
async def running(bounds: Bounds | None = None, **spec: Any) -> AsyncIterator[World]:
    activator = Activator(bounds)
    world = World(activator, await activator.start())
    world.show(a_service(), an_interceptor_route(**spec))
    try:
        yield world
    finally:
        await activator.stop()
        for writer in world.writers:  # `close` alone waits until all is written, which may be never
            writer.transport.abort()


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


def test_a_request_waits_for_a_replica_and_is_answered() -> None:
    async def scenario() -> None:
        async with running() as world, a_replica() as replica:
            waiting = asyncio.create_task(world.ask(get(b"/x?y", b"X-A: 1")))
            await world.held(1)
            world.ready(replica, ready=False)
            await asyncio.sleep(0.02)
            assert world.activator.room.held(WEB) == 1
            world.ready(replica, ready=True)
            assert (await waiting).endswith(b"\r\n\r\nok")
            assert replica.heads == [get(b"/x?y", b"X-A: 1", b"Connection: close")]
            await world.empty()
            assert world.activator.room.entered(WEB) == 1

    play(scenario)


def test_a_ready_replica_is_asked_at_once() -> None:
    async def scenario() -> None:
        async with running(Bounds(per_route=0)) as world, a_replica() as replica:
            world.ready(replica)
            assert b"200 OK" in await world.ask(get())

    play(scenario)


def test_a_terminating_replica_is_not_asked() -> None:
    async def scenario() -> None:
        async with running(timeouts={"readiness": "50ms"}) as world, a_replica() as replica:
            world.ready(replica, ready=False, serving=True, terminating=True)
            assert b"x-chalk-activator: timeout" in await world.ask(get())
            assert not replica.heads

    play(scenario)


def test_what_waits_is_spread_over_the_replicas() -> None:
    async def scenario() -> None:
        async with running() as world, a_replica() as one, a_replica() as two, a_replica() as three:
            waiting = [asyncio.create_task(world.ask(get())) for _ in range(9)]
            await world.held(9)
            world.ready(one, two, three)  # in one step of the loop: nobody is woken between them
            assert all(b"200 OK" in answer for answer in await asyncio.gather(*waiting))
            assert [len(replica.heads) for replica in (one, two, three)] == [3, 3, 3]

    play(scenario)


def test_a_replica_that_takes_no_connection_is_passed_over() -> None:
    async def scenario() -> None:
        async with running() as world, a_replica() as replica:
            dead = Replica(port=1)
            world.ready(dead)
            waiting = asyncio.create_task(world.ask(get()))
            await world.held(1)
            world.ready(dead, replica)
            assert b"200 OK" in await waiting

    play(scenario)


def test_a_request_whose_time_is_over_is_told_so() -> None:
    async def scenario() -> None:
        async with running(timeouts={"readiness": "50ms"}) as world:
            answer = await world.ask(get())
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nx-chalk-activator: timeout\r\nRetry-After: 10\r\n" in head
            assert b"`web` in namespace `default` was ready within 0.05 s" in body
            await world.empty()

    play(scenario)


def test_an_answer_to_head_has_no_body() -> None:
    async def scenario() -> None:
        async with running(timeouts={"readiness": "50ms"}) as world:
            assert (await world.ask(get(method=b"HEAD"))).endswith(b"\r\n\r\n")

    play(scenario)


def test_no_more_wait_than_there_is_room_for() -> None:
    async def scenario() -> None:
        async with running(Bounds(per_route=2, requests=3)) as world, a_replica() as replica:
            world.show(an_interceptor_route("b", rules=[{"hosts": ["b"]}]))
            waiting = [asyncio.create_task(world.ask(get())) for _ in range(2)]
            await world.held(2)
            assert b"x-chalk-activator: too-many" in await world.ask(get())
            waiting.append(asyncio.create_task(world.ask(get(host=b"b"))))
            await eventually(lambda: world.activator.room.held(("default", "b")), "b is held")
            refused = await world.ask(get(host=b"b"))
            assert b"x-chalk-activator: too-many" in refused
            assert b"3 requests already wait" in refused
            world.ready(replica)
            assert all(b"200 OK" in answer for answer in await asyncio.gather(*waiting))

    play(scenario)


def test_no_more_bytes_wait_than_there_is_room_for() -> None:
    async def scenario() -> None:
        bounds = Bounds(request_bytes=1000, bytes=1500)
        async with running(bounds) as world, a_replica() as replica:
            upload = get(b"/", b"Content-Length: 5000", method=b"POST")
            waiting = asyncio.create_task(world.ask(upload + bytes(5000)))
            await world.held(1)
            refused = await world.ask(upload + bytes(5000))
            assert b"x-chalk-activator: too-large" in refused
            assert b"1500 bytes" in refused
            small = asyncio.create_task(world.ask(get()))
            await world.held(2)
            world.ready(replica)
            assert b"200 OK" in await waiting
            assert b"200 OK" in await small

    play(scenario)


@pytest.mark.parametrize(
    "small",
    [
        pytest.param(get(b"/", b"Upgrade: websocket", b"Connection: upgrade"), id="upgrade"),
        pytest.param(
            get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"2\r\nhi\r\n0\r\n\r\n", id="chunked"
        ),
    ],
)
def test_a_request_that_does_not_say_its_length_takes_the_room_of_what_has_come(small: bytes) -> None:
    async def scenario() -> None:
        async with running(Bounds(bytes=20 * len(small))) as world, a_replica() as replica:
            waiting = [asyncio.create_task(world.ask(small)) for _ in range(20)]
            await world.held(20)
            world.ready(replica)
            assert all(b"200 OK" in answer for answer in await asyncio.gather(*waiting))

    play(scenario)


def test_a_body_that_grows_past_the_room_is_refused_and_gives_its_room_back() -> None:
    async def scenario() -> None:
        async with running(Bounds(bytes=1500)) as world, a_replica() as replica:
            upload = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
            reader, writer = await world.send(upload)
            await world.held(1)
            writer.write(b"5dc\r\n" + bytes(1500))
            assert b"x-chalk-activator: too-large" in await reader.read()
            await world.empty()
            waiting = [asyncio.create_task(world.ask(upload + b"0\r\n\r\n")) for _ in range(10)]
            await world.held(10)
            world.ready(replica)
            assert all(b"200 OK" in answer for answer in await asyncio.gather(*waiting))

    play(scenario)


def test_a_client_that_goes_frees_its_seat() -> None:
    async def scenario() -> None:
        async with running() as world:
            _, writer = await world.send(get())
            await world.held(1)
            writer.close()
            await world.empty()
            _, writer = await world.send(get(b"/", b"Content-Length: 10", method=b"POST") + b"123")
            await world.held(1)
            writer.transport.abort()
            await world.empty()

    play(scenario)


def test_a_client_that_goes_while_it_is_answered_takes_its_connection_with_it() -> None:
    ended = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        assert await reader.read() == b""
        ended.set()

    async def scenario() -> None:
        async with running() as world, a_replica(serve=endless) as replica:
            world.ready(replica)
            reader, writer = await world.send(get())
            assert (await reader.readuntil(b"data: 1\n\n")).startswith(b"HTTP/1.1 200")
            assert world.activator.room.inside(WEB) == 1
            writer.close()
            await ended.wait()
            await world.empty()

    play(scenario)


def test_a_large_upload_is_slowed_down_and_arrives() -> None:
    size = 8 * 1024 * 1024

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.readexactly(size)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d" % sum(body[:: size // 16]))

    async def scenario() -> None:
        async with running() as world, a_replica(serve=swallow) as replica:
            request = get(b"/", b"Content-Length: %d" % size, method=b"PUT")
            reader, writer = await world.send(request)
            writer.write(b"\x01" * size)
            await world.held(1)
            await asyncio.sleep(0.1)
            assert writer.transport.get_write_buffer_size() > size // 2
            world.ready(replica)
            assert (await reader.read()).endswith(b"\r\n\r\n16")
            writer.close()

    play(scenario)


def test_chunks_and_what_comes_between_pass_as_they_are() -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body))
        await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")

    async def scenario() -> None:
        async with running() as world, a_replica(serve=slow) as replica:
            world.ready(replica)
            request = get(b"/", b"Transfer-Encoding: chunked", b"Expect: 100-continue", method=b"POST")
            reader, writer = await world.send(request)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"3\r\nabc\r\n")
            await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            assert b"3\r\nabc\r\n0\r\n\r\n\r\n0\r\n\r\n" in await reader.read()
            writer.close()

    play(scenario)


def test_what_comes_after_the_body_does_not_reach_the_replica() -> None:
    seen = bytearray()

    async def all_of_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readexactly(3))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                seen.extend(await reader.read(100))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async def scenario() -> None:
        async with running() as world, a_replica(serve=all_of_it) as replica:
            world.ready(replica)
            request = get(b"/", b"Content-Length: 3", method=b"POST") + b"abc" + get(b"/smuggled")
            assert await world.ask(request) == b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
            assert bytes(seen) == b"abc"

    play(scenario)


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n\r\n"),
        (
            b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nKeep-Alive: timeout=5\r\nA: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n\r\n",
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        ),
        (b"HTTP/1.0 200 OK\n\n", b"HTTP/1.0 200 OK\nConnection: close\r\n\n"),
        (b"no HTTP\r\n\r\n", b"no HTTP\r\n\r\n"),
    ],
    ids=["nothing said", "kept alive", "early hints", "bare line feeds", "no HTTP"],
)
def test_a_client_hears_that_the_connection_ends_though_the_replica_keeps_it(
    said: bytes, heard: bytes
) -> None:
    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said + b"body\r\nConnection: keep-alive\r\n")
        await reader.read()  # until the other side ends it

    async def scenario() -> None:
        async with running() as world, a_replica(serve=keep) as replica:
            world.ready(replica)
            reader, writer = await world.send(get())
            wanted = heard + b"body\r\nConnection: keep-alive\r\n"
            assert await reader.readexactly(len(wanted)) == wanted
            writer.close()
            await world.empty()

    play(scenario)


@pytest.mark.parametrize("said", [b"HTTP/1.1 200 OK\r\nX: cut", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000])
def test_an_answer_without_a_proper_head_passes_for_the_gateway_to_judge(said: bytes) -> None:
    async def scenario() -> None:
        async with running() as world, a_replica(answer=said) as replica:
            world.ready(replica)
            answer = await world.ask(get())
            assert answer.replace(b"Connection: close\r\n", b"") == said

    play(scenario)


def test_a_websocket_passes_both_ways() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data.upper())

    async def scenario() -> None:
        async with running() as world, a_replica(serve=echo) as replica:
            reader, writer = await world.send(get(b"/", b"Connection: Upgrade", b"Upgrade: websocket"))
            await world.held(1)
            world.ready(replica)
            assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
            assert replica.heads[0].endswith(b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            for word in (b"one", b"two"):
                writer.write(word)
                assert await reader.readexactly(3) == word.upper()
            assert world.activator.room.inside(WEB) == 1
            writer.close()
            await world.empty()

    play(scenario)


def test_a_replica_that_ends_without_an_answer_ends_the_connection() -> None:
    async def crash(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async def scenario() -> None:
        async with running() as world, a_replica(serve=crash) as replica:
            world.ready(replica)
            assert await world.ask(get()) == b""
            assert len(replica.heads) == 1

    play(scenario)


def test_an_early_answer_reaches_a_client_that_still_sends() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await reader.readexactly(500_000)

    async def scenario() -> None:
        async with running() as world, a_replica(serve=refuse) as replica:
            world.ready(replica)
            request = get(b"/", b"Content-Length: 1000000", method=b"POST")
            reader, writer = await world.send(request + bytes(500_000))
            assert await reader.readuntil(b"\r\n\r\n") == (
                b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            writer.close()

    play(scenario)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(host=b"elsewhere"), b"404 Not Found"),
        (get(b"/", b"Content-Length: 1", b"Transfer-Encoding: chunked"), b"400 Bad Request"),
        (get(b"/", b"X: " + b"x" * 70_000), b"431 Request Header Fields Too Large"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
    ],
    ids=["no route", "two lengths", "large head", "TLS"],
)
def test_what_is_not_for_us_is_refused(request_: bytes, status: bytes) -> None:
    async def scenario() -> None:
        async with running() as world:
            answer = await world.ask(request_)
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert b"x-chalk-activator" not in answer

    play(scenario)


def test_a_route_that_goes_takes_its_requests_with_it() -> None:
    async def scenario() -> None:
        async with running() as world:
            waiting = asyncio.create_task(world.ask(get()))
            await world.held(1)
            world.show(an_interceptor_route(), type_="DELETED")
            assert b"namespace `default` was ready (the InterceptorRoute was deleted)" in await waiting

    play(scenario)


def test_requests_for_a_replica_that_speaks_http_2_are_sent_again() -> None:
    async def scenario() -> None:
        async with running() as world, a_replica() as replica:
            world.show(a_service(appProtocol="kubernetes.io/h2c"))
            waiting = asyncio.create_task(world.ask(get()))
            await world.held(1)
            world.ready(replica)
            assert b"x-chalk-activator: again\r\nRetry-After: 1\r\n" in await waiting
            assert not replica.heads

    play(scenario)


def test_a_stop_answers_what_is_held() -> None:
    async def scenario() -> None:
        async with running() as world:
            waiting = asyncio.create_task(world.ask(get()))
            await world.held(1)
            await world.activator.stop()
            assert b"x-chalk-activator: stopping" in await waiting

    play(scenario)


def test_the_first_that_waits_wakes_and_so_does_every_second() -> None:
    async def scenario() -> None:
        async with running() as world:
            wakes = world.activator.room.wakes()
            first = asyncio.ensure_future(anext(wakes))
            await asyncio.sleep(0)
            waiting = [asyncio.create_task(world.ask(get())) for _ in range(3)]
            assert await first == WEB
            assert await anext(wakes) == WEB
            assert await anext(wakes) == WEB
            late = world.activator.room.wakes()
            assert await anext(late) == WEB
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            await late.aclose()  # type: ignore[attr-defined]
            await wakes.aclose()  # type: ignore[attr-defined]

    play(scenario)
