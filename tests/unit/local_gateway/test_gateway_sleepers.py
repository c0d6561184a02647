"""Scale from zero and back through a real Envoy, with the real store: what a client and an autoscaler see."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.gateway import Activator, GatewayTraffic, run_gateway
from chalkcompute.local.gateway.authority import make_authority
from chalkcompute.local.gateway.envoy import find_binary
from chalkcompute.local.measures import RouteTraffic
from chalkcompute.local.state import read_json
from tests.unit.local_gateway.exchange import Replica, a_replica, eventually, get
from tests.unit.local_gateway.objects_of_a_cluster import (
    a_service,
    a_sleepy_route,
    a_slice,
    an_endpoint,
    an_interceptor_route,
    created,
    the_interceptor,
)
from tests.unit.reserved_port import reserved_port

WEB = ("default", "web")


@dataclass
class World:
    api: ResourceApi
    activator: Activator
    traffic: GatewayTraffic
    port: int
    state: Path

    def ready(self, *replicas: Replica, **conditions: bool) -> None:
        """These are the endpoints of `web` now."""
        known = {piece["metadata"]["name"]: piece for piece in self.api.list("EndpointSlice", "default")}
        for number in range(2):
            some = replicas[number : number + 1]
            port = some[0].port if some else 1
            piece = a_slice(*(an_endpoint("127.0.0.1", **conditions) for _ in some), port=port)
            name = piece["metadata"]["name"] = f"web-{number}"
            if name in known:
                changed = {**known[name], "endpoints": piece["endpoints"], "ports": piece["ports"]}
                self.api.update(changed, manager="test")
            else:
                self.api.create(piece, manager="test")

    async def send(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        """Head and body of the answer; closes the connection."""
        reader, writer = await self.send(request)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            return head + await reader.readexactly(int(length[0].split(b":")[1])) if length else head
        finally:
            writer.close()

    def route(self, kind: str = "InterceptorRoute") -> RouteTraffic:
        found = self.traffic.of_route(kind, *WEB)
        assert found is not None
        return found


@asynccontextmanager
async def running(api: ResourceApi, tmp_path: Path) -> AsyncIterator[World]:
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}}, manager="test")
    service, _, grant = the_interceptor()
    (tmp_path / "ca").mkdir()
    with reserved_port() as http_port, reserved_port() as https_port:
        activator = Activator()
        traffic = GatewayTraffic(activator.room)
        started = asyncio.Event()
        task = asyncio.create_task(
            run_gateway(
                api,
                state_dir=tmp_path,
                https_port=https_port,
                http_port=http_port,
                envoy_binary=find_binary(),
                authority=make_authority("gw.localhost", datetime.now(UTC)),
                domain="gw.localhost",
                log_path=tmp_path / "envoy.log",
                activator=activator,
                traffic=traffic,
                concurrency=1,
                ready=started.set,
            )
        )
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task  # raises what ended it, such as a port that somebody else was given meanwhile
        world = World(api, activator, traffic, http_port, tmp_path)
        try:
            for obj in (service, grant, a_service(), an_interceptor_route(), a_sleepy_route()):
                api.create(created(obj), manager="test")
            await eventually(lambda: api.list("EndpointSlice", "keda"), "the activator is an endpoint")
            await until(world, b"503 Service Unavailable", timeout="1ms")
            yield world
        finally:
            waiting.cancel()
            task.cancel()
            await asyncio.wait({task})
        assert "rejected" not in (tmp_path / "envoy.log").read_text()


async def until(world: World, status: bytes, timeout: str) -> None:
    """Envoy leads to the activator: with hardly any time to wait for it, it says so."""
    live = world.api.get("InterceptorRoute", "web", "default")
    live["spec"]["timeouts"] = {"readiness": timeout}
    world.api.update(live, manager="test")
    answer = b""
    async with asyncio.timeout(30):
        while b"x-chalk-activator: timeout" not in answer:
            answer = await world.ask(get())
            await asyncio.sleep(0.01)
    assert status in answer
    live = world.api.get("InterceptorRoute", "web", "default")
    live["spec"]["timeouts"] = {"readiness": "60s"}
    world.api.update(live, manager="test")


def play(api: ResourceApi, tmp_path: Path, scenario: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(100), running(api, tmp_path) as world:
            await scenario(world)

    asyncio.run(whole())


def test_requests_to_a_sleeping_group_are_answered_and_the_activator_leaves(
    api: ResourceApi, tmp_path: Path
) -> None:
    async def scenario(world: World) -> None:
        async with a_replica() as replica:
            waiting = [asyncio.create_task(world.ask(get())) for _ in range(5)]
            await eventually(lambda: world.activator.room.held(WEB) == 5, "5 held")
            assert world.route().held == 5
            world.ready(replica)
            answers = await asyncio.gather(*waiting)
            assert all(b"200 OK" in a and b"x-chalk-activator" not in a for a in answers)

            # Out of the path: what comes now does not pass the activator.
            async def direct() -> bool:
                before = world.activator.room.entered(WEB)
                assert b"200 OK" in await world.ask(get())
                return world.activator.room.entered(WEB) == before

            async with asyncio.timeout(30):
                while not await direct():
                    await asyncio.sleep(0.01)
            assert all([await direct() for _ in range(5)])

    play(api, tmp_path, scenario)


def test_no_request_is_lost_while_a_group_goes_to_zero_and_comes_back(
    api: ResourceApi, tmp_path: Path
) -> None:
    async def scenario(world: World) -> None:
        stop, answers = asyncio.Event(), []

        async def client() -> None:
            while not stop.is_set():
                answers.append(await world.ask(get()))

        async def answered(more: int) -> None:
            wanted = len(answers) + more
            await eventually(lambda: len(answers) >= wanted, "all are answered, and go on")

        async with a_replica() as one, a_replica() as two:
            world.ready(one)
            clients = [asyncio.create_task(client()) for _ in range(4)]
            for replica in (two, one, two):
                world.ready(replica, ready=False, serving=True, terminating=True)
                await eventually(lambda: world.activator.room.held(WEB) == 4, "all wait")
                world.ready(replica)
                await answered(8)
            stop.set()
            await asyncio.gather(*clients)
            assert [answer for answer in answers if b" 200 OK" not in answer] == []

    play(api, tmp_path, scenario)


def test_a_websocket_from_zero_stays_open_and_counts_until_it_ends(api: ResourceApi, tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await reader.read(100):
            writer.write(data.upper())

    upgrade = get(b"/", b"Connection: Upgrade", b"Upgrade: websocket")

    async def scenario(world: World) -> None:
        async with a_replica(serve=echo) as replica:
            first = await world.send(upgrade)
            await eventually(lambda: world.activator.room.held(WEB) == 1, "held")
            world.ready(replica)
            assert b"101 Switching" in await first[0].readuntil(b"\r\n\r\n")
            for word in (b"one", b"two"):
                first[1].write(word)
                assert await first[0].readexactly(3) == word.upper()
            await asyncio.sleep(0.2)
            second = await world.send(upgrade)  # straight to the replica
            assert b"101 Switching" in await second[0].readuntil(b"\r\n\r\n")
            await eventually(lambda: world.route().in_flight == 2, "two are open")
            assert world.route("HTTPRoute").in_flight == 2
            for _, writer in (first, second):
                writer.close()
            await eventually(lambda: world.route().in_flight == 0, "none is open")

    play(api, tmp_path, scenario)


def test_a_client_that_gives_up_is_held_no_longer(api: ResourceApi, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        _, writer = await world.send(get())
        await eventually(lambda: world.activator.room.held(WEB) == 1, "held")
        writer.close()
        await eventually(lambda: world.activator.room.held(WEB) == 0, "not held")

    play(api, tmp_path, scenario)


def test_requests_are_counted_and_measured_and_survive_a_new_envoy(api: ResourceApi, tmp_path: Path) -> None:
    async def scenario(world: World) -> None:
        async with a_replica() as replica:
            world.ready(replica)
            asked = world.activator.room.entered(WEB)
            await eventually(lambda: world.traffic.of_route("HTTPRoute", *WEB), "Envoy's counts are read")
            await eventually(lambda: world.route("HTTPRoute").requests == asked, "all have been counted")
            before = asked
            for _ in range(20):
                await world.ask(get())
            await eventually(lambda: world.route("HTTPRoute").requests == before + 20, "20 counted")
            found = world.route("HTTPRoute")
            assert found.requests_per_second > 0
            await eventually(lambda: world.route("HTTPRoute").p99_seconds is not None, "measured")
            assert world.route().active_at is not None
            envoy = int(read_json(tmp_path / "run" / "gateway" / "envoy.json")["pid"])
            os.kill(envoy, signal.SIGKILL)
            answer = b""
            async with asyncio.timeout(30):
                while b"200 OK" not in answer:
                    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                        answer = await world.ask(get())
                    await asyncio.sleep(0.02)
            await eventually(lambda: world.route("HTTPRoute").requests >= before + 21, "counted on")

    play(api, tmp_path, scenario)


def test_the_activators_endpoint_comes_back(api: ResourceApi, tmp_path: Path) -> None:
    def slices() -> list[dict[str, Any]]:
        return api.list("EndpointSlice", "keda")

    async def scenario(world: World) -> None:
        (piece,) = slices()
        api.delete("EndpointSlice", piece["metadata"]["name"], "keda")
        await eventually(slices, "it is back")
        assert slices()[0]["ports"] == piece["ports"]
        changed = {**slices()[0], "endpoints": []}
        api.update(changed, manager="test")
        await eventually(lambda: slices()[0].get("endpoints"), "it is whole again")

    play(api, tmp_path, scenario)


def test_a_stop_answers_what_is_held_through_envoy(api: ResourceApi, tmp_path: Path) -> None:
    held: list[asyncio.Task[bytes]] = []

    async def scenario(world: World) -> None:
        held.append(asyncio.create_task(world.ask(get())))
        await eventually(lambda: world.activator.room.held(WEB) == 1, "held")

    async def whole() -> None:
        async with asyncio.timeout(100):
            async with running(api, tmp_path) as world:
                await scenario(world)
            assert b"x-chalk-activator: stopping" in await held[0]

    asyncio.run(whole())
