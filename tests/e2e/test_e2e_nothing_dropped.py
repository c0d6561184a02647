"""Steady traffic while a group changes: what becomes of every request.

On another cluster what is asserted is what the group's own manifests can guarantee there: replicas that go
are withdrawn first and answer on for `shutdown_delay_seconds`. Where its gateway is out of reach from here
these are skipped, and say so.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPException
from typing import Any

import pytest
import websocket

from tests.e2e.harness import Chalk, Kubernetes, eventually
from tests.e2e.keda import require_keda
from tests.e2e.load import PROGRAM, Door, Traffic

pytestmark = pytest.mark.timeout(300)

Doors = Callable[[str], Door]

LONG = 4.0
"""Seconds that a long request takes; `--shutdown-delay` is longer where it matters."""


@pytest.fixture
def serve(chalk: Chalk, real: bool) -> Callable[..., None]:
    """Create a group of the program in `serving.py`, or change it."""

    def create(name: str, *args: str) -> None:
        # Another cluster's gateway may take some seconds to hear that a replica goes.
        delay = f"--shutdown-delay={10 if real else 2}"
        chalk.serve(name, f"--entrypoint={json.dumps(['python', '-c', PROGRAM])}", "--cpu=100m", delay, *args)

    return create


@pytest.fixture
def open_door(door: Doors) -> Doors:
    """The door to a group, once all that is behind it answers."""

    def find(name: str) -> Door:
        found = door(name)
        for _ in range(3):
            eventually(lambda: found.ask("/")[0] == 200, f"{name} answers through the gateway")
        return found

    return find


@contextmanager
def no_request_lost(door: Door) -> Iterator[Traffic]:
    """Traffic before, during and after the block, of which nothing may be lost."""
    with Traffic(door) as traffic:
        yield traffic
        traffic.flow(60)
    assert not traffic.ledger.lost, str(traffic.ledger)


def test_a_rolling_update_loses_nothing(
    serve: Any, open_door: Doors, kubernetes: Kubernetes, namespace: str
) -> None:
    serve("rolling", "--replicas=3", "--env=WORD=one")
    with no_request_lost(open_door("rolling")) as traffic:
        serve("rolling", "--replicas=3", "--env=WORD=two")
        eventually(lambda: len(kubernetes.pods(namespace, "rolling")) == 3, "three replicas have gone")
        gone = time.monotonic()
    assert set(traffic.ledger.words()) == {"one", "two"}
    assert len(traffic.ledger.replicas()) == 6, str(traffic.ledger)
    assert {entry.word for entry in traffic.ledger.answered if entry.began > gone} == {"two"}


def test_a_scale_out_and_a_scale_in_lose_nothing(
    serve: Any, open_door: Doors, kubernetes: Kubernetes, namespace: str
) -> None:
    serve("width", "--replicas=1")
    with no_request_lost(open_door("width")) as traffic:
        serve("width", "--replicas=3")
        eventually(lambda: len(traffic.ledger.replicas()) == 3, "each of three answers")
        serve("width", "--replicas=1")
        eventually(lambda: len(kubernetes.pods(namespace, "width")) == 1, "two replicas have gone")


def test_a_killed_replica_loses_what_it_was_answering_and_no_more(serve: Any, open_door: Doors) -> None:
    serve("killed", "--replicas=3")
    door = open_door("killed")
    with ExitStack() as stack, Traffic(door) as traffic:
        traffic.flow(60)
        before = set(traffic.ledger.replicas())
        under_way: list[tuple[str, Callable[[], bool]]] = []
        # The gateway chooses at random: until each has something to answer, and none has answered it yet.
        while len(under_way) < 9 or {replica for replica, _ in under_way} != before:
            assert len(under_way) < 90, f"not all of {before} are asked"
            under_way.append(stack.enter_context(begun(door, "/slow?seconds=10")))
        sent = time.monotonic()
        with suppress(OSError, HTTPException):  # cut short, on a connection of its own
            door.ask("/die")
        seen = time.monotonic()
        ends = [(replica, finish()) for replica, finish in under_way]
        traffic.flow(60)
    ledger = traffic.ledger
    assert len(before) == 3, str(ledger)
    (dead,) = before - {entry.replica for entry in ledger.answered if entry.began > seen}
    assert {replica for replica, _ in ends} == before, "each had something to answer"
    assert [whole for _, whole in ends] == [replica != dead for replica, _ in ends]
    for entry in ledger.lost:
        assert entry.replica in ("", dead), f"lost by a replica that lives\n{ledger}"
        assert entry.began <= seen, f"lost though the replica had died before\n{ledger}"
        assert entry.ended >= sent, f"lost though the replica lived\n{ledger}"


@contextmanager
def begun(door: Door, path: str) -> Iterator[tuple[str, Callable[[], bool]]]:
    """A request whose answer has begun: by which replica, and what says whether it came whole."""
    with closing(door.client()) as connection:
        connection.request("GET", path, headers={"Host": door.host})
        response = connection.getresponse()

        def finish() -> bool:
            try:
                return len(response.read()) > 0
            except (OSError, HTTPException):
                return False

        yield response.headers["x-replica"], finish


def test_long_requests_finish_within_the_shutdown_delay(serve: Any, open_door: Doors) -> None:
    flags = ("--replicas=2", f"--shutdown-delay={int(LONG) * 5}")
    serve("long", "--env=WORD=one", *flags)
    door = open_door("long")
    answers: list[Any] = []

    def ask(path: str) -> None:
        try:
            status, headers, body = door.ask(path, timeout=60)
            answers.append((path, status, headers["x-word"], len(body) > 0))
        except Exception as error:  # it is what became of it
            answers.append((path, repr(error)))

    paths = [f"/{way}?seconds={LONG}" for way in ("slow", "late") for _ in range(4)]
    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    with no_request_lost(door):
        for thread in threads:
            thread.start()
        serve("long", "--env=WORD=two", *flags)
        for thread in threads:
            thread.join()
    assert sorted(answers) == sorted((path, 200, "one", True) for path in paths)


def test_open_streams_go_on_through_a_rolling_update(serve: Any, open_door: Doors) -> None:
    flags = ("--replicas=1", "--shutdown-delay=20")
    serve("streams", "--env=WORD=one", *flags)
    door = open_door("streams")
    events: list[str] = []

    def listen() -> None:
        with closing(door.client(60)) as connection:
            connection.request("GET", "/events?count=40&seconds=0.2", headers={"Host": door.host})
            events.extend(line.decode() for line in connection.getresponse() if line.startswith(b"data:"))

    listener = threading.Thread(target=listen)
    with closing(websocket.create_connection(f"ws://{door.host}/socket", socket=door.connect())) as socket:
        listener.start()
        hello = socket.recv()
        replica = str(hello).split()[1]
        assert hello == f"one {replica}"
        serve("streams", "--env=WORD=two", *flags)
        for size in (1, 1000, 100_000):
            socket.send_binary(bytes(size))
            assert socket.recv() == bytes(size)
        eventually(lambda: door.ask("/")[1]["x-word"] == "two", "new requests go to the new replica")
        socket.send("the old one still talks")
        assert socket.recv() == "the old one still talks"
        listener.join()
    assert events == [f"data: one {replica}\n"] * 40


ZERO = ("--min-replicas=0", "--max-replicas=3", "--idle-timeout=3s")


@pytest.fixture
def _keda(kubernetes: Kubernetes, real: bool) -> None:
    require_keda(kubernetes, real=real)


@pytest.mark.usefixtures("_keda")
def test_a_scale_to_zero_and_back_loses_nothing(
    serve: Any, door: Doors, kubernetes: Kubernetes, namespace: str
) -> None:
    def asleep() -> bool:
        return not kubernetes.pods(namespace, "sleepy")

    serve("sleepy", "--env=WORD=one", *ZERO)
    found = door("sleepy")
    eventually(lambda: found.ask("/", timeout=90)[0] == 200, "it answers through the gateway")
    replicas: set[str] = set()
    for _ in range(2):
        eventually(asleep, "its last replica has gone")
        with Traffic(found) as traffic:  # sixty a second, from the first moment
            traffic.flow(60)
        assert not traffic.ledger.lost, str(traffic.ledger)
        assert not replicas & set(traffic.ledger.replicas()), "each time others have answered"
        replicas |= set(traffic.ledger.replicas())
    # At about the time when it falls asleep: just before, just then, just after.
    for late in range(8):
        status, _, body = found.ask("/", method="POST", body=b"late", timeout=90)
        assert (status, json.loads(body)["length"]) == (200, 4)
        time.sleep(2.8 + 0.2 * late)


@pytest.mark.usefixtures("_keda")
def test_from_fixed_to_zero_to_a_range_and_back_loses_nothing(serve: Any, open_door: Doors) -> None:
    serve("modes", "--replicas=2")
    with no_request_lost(open_door("modes")) as traffic:
        for mode in (
            ZERO,
            (*ZERO, "--env=WORD=two"),
            ("--min-replicas=1", "--max-replicas=3", "--target-cpu=100", "--env=WORD=two"),
            (*ZERO, "--env=WORD=two"),
            ("--replicas=2", "--env=WORD=two"),
        ):
            serve("modes", *mode)
            traffic.flow(60)
