from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.gateway.holding import WaitingRoom
from chalkcompute.local.gateway.traffic import GatewayTraffic
from chalkcompute.local.measures import Traffic

START = datetime(2026, 1, 1, tzinfo=UTC)
HELD = Backend("default", "web", 8000, "http", route=("default", "web"), interceptor=("default", "ir"))
OTHER = Backend("default", "other", 8000, "http", route=("default", "web"))
KEY = ("default", "ir")


class World:
    """A traffic with a clock of its own."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.room = WaitingRoom(now=self.now)
        self.traffic = GatewayTraffic(self.room, now=self.now, monotonic=lambda: self.seconds)
        self.follow(HELD, OTHER)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def follow(self, *backends: Backend) -> None:
        self.traffic.follow({backend.cluster: backend for backend in backends})

    def read(self, second: float, **values: tuple[int, int]) -> None:
        """Envoy says so: active and total, by name of the Service."""
        self.seconds = second
        stats = []
        for backend in (HELD, OTHER):
            active, total = values.get(backend.service, (0, 0))
            prefix = f"cluster.{backend.cluster}.upstream_rq"
            stats += [
                {"name": f"{prefix}_active", "value": active},
                {"name": f"{prefix}_total", "value": total},
            ]
        self.traffic.take(json.dumps({"stats": stats}))


def test_it_is_what_the_others_ask_for() -> None:
    traffic: Traffic = World().traffic
    assert traffic.of_route("HTTPRoute", "default", "web") is None


def test_a_route_with_several_backends_is_their_sum() -> None:
    world = World()
    world.read(1, web=(1, 4), other=(2, 6))
    found = world.traffic.of_route("HTTPRoute", "default", "web")
    assert found is not None
    assert (found.in_flight, found.requests, found.requests_per_second, found.window) == (3, 10, 10.0, 1.0)
    assert (found.timestamp, found.active_at) == (START + timedelta(seconds=1),) * 2
    interceptor = world.traffic.of_route("InterceptorRoute", *KEY)
    assert interceptor is not None
    assert (interceptor.in_flight, interceptor.requests) == (1, 4)


def test_a_route_without_requests_has_numbers_and_no_durations() -> None:
    world = World()
    world.read(1)
    found = world.traffic.of_route("HTTPRoute", "default", "web")
    assert found is not None
    assert (found.in_flight, found.requests_per_second, found.active_at) == (0, 0.0, None)
    assert (found.p50_seconds, found.p99_seconds) == (None, None)
    assert world.traffic.of_route("HTTPRoute", "default", "unknown") is None


def test_a_short_request_moves_the_last_moment_of_activity() -> None:
    world = World()
    world.read(1, web=(0, 1))
    world.read(2, web=(0, 1))
    world.read(3, web=(0, 2))
    world.read(4, web=(0, 2))
    found = world.traffic.of_route("InterceptorRoute", *KEY)
    assert found is not None
    assert found.active_at == START + timedelta(seconds=3)


def test_what_the_activator_holds_counts_at_once() -> None:
    world = World()
    world.read(1)
    world.seconds = 1.5
    with world.room.visit(KEY), world.room.seat(KEY):
        found = world.traffic.of_route("InterceptorRoute", *KEY)
        assert found is not None
        assert (found.in_flight, found.held, found.active_at) == (1, 1, world.now())
        world.seconds = 1.7
    world.seconds = 1.9
    found = world.traffic.of_route("InterceptorRoute", *KEY)
    assert found is not None
    assert (found.in_flight, found.held, found.active_at) == (0, 0, START + timedelta(seconds=1.7))


def test_what_passes_the_activator_and_envoy_counts_once() -> None:
    world = World()
    with world.room.visit(KEY):
        world.read(1, web=(1, 1))
        found = world.traffic.of_route("InterceptorRoute", *KEY)
        assert found is not None
        assert (found.in_flight, found.requests) == (1, 1)


def test_nothing_is_under_way_once_envoy_has_ended() -> None:
    world = World()
    world.read(1, web=(5, 9))
    world.traffic.restart()
    found = world.traffic.of_route("HTTPRoute", "default", "web")
    assert found is not None
    assert (found.in_flight, found.requests) == (0, 9)
    world.read(2, web=(0, 1))
    found = world.traffic.of_route("HTTPRoute", "default", "web")
    assert found is not None
    assert found.requests == 10


def test_a_route_that_goes_takes_its_numbers_with_it() -> None:
    world = World()
    world.read(1, web=(1, 1))
    world.follow(OTHER)
    assert world.traffic.of_route("InterceptorRoute", *KEY) is None
    found = world.traffic.of_route("HTTPRoute", "default", "web")
    assert found is not None
    assert found.requests == 0


def test_an_answer_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="Expecting value"):
        World().traffic.take("not JSON")
