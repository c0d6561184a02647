from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.runtime.addresses import AddressPool
from chalkcompute.local.runtime.notify import is_loopback, rewrite
from chalkcompute.local.runtime.probe import Capabilities
from chalkcompute.local.runtime.tiers import TIERS, choose_tier, obstacle
from tests.properties import examples

POD = socket.inet_aton("127.77.1.2")


def test_an_address_is_stable_and_its_own() -> None:
    pool = AddressPool()
    first, second = pool.assign("a"), pool.assign("b")
    assert first.startswith("127.77.")
    assert pool.assign("a") == first != second
    pool.close()


def test_two_daemons_do_not_share_an_address() -> None:
    ours, theirs = AddressPool(), AddressPool()
    assert ours.assign("the same uid") != theirs.assign("the same uid")
    ours.close()
    theirs.close()


def test_a_recorded_address_is_given_again() -> None:
    pool = AddressPool()
    recorded = pool.assign("a", "127.77.200.201")
    assert recorded == "127.77.200.201"
    assert pool.assign("b", "127.77.200.201") != recorded
    pool.release("a")
    assert pool.assign("c", "127.77.200.201") == recorded
    assert pool.assign("d", "10.0.0.1").startswith("127.77.")
    pool.close()


def test_systems_with_one_loopback_address() -> None:
    pool = AddressPool(platform="darwin")
    assert [pool.assign("a"), pool.assign("b", "127.77.0.9")] == ["127.0.0.1", "127.0.0.1"]
    pool.close()


def sockaddr(host: str, port: int) -> bytes:
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + packed + bytes(4)
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def after(
    host: str, port: int, *, binding: bool, bound: set[int], ipv6_only: bool = False
) -> tuple[str, int]:
    """The address that the kernel would see."""
    data = bytearray(sockaddr(host, port))
    change = rewrite(bytes(data), binding=binding, pod=POD, bound=bound, ipv6_only=lambda: ipv6_only)
    if change is not None:
        data[change.offset : change.offset + len(change.data)] = change.data
    family = struct.unpack_from("=H", data)[0]
    packed = bytes(data[4:8] if family == socket.AF_INET else data[8:24])
    return socket.inet_ntop(family, packed), struct.unpack_from("!H", data, 2)[0]


@pytest.mark.parametrize(
    ("host", "port", "wanted"),
    [
        ("0.0.0.0", 8000, ("127.77.1.2", 8000)),
        ("127.0.0.1", 8000, ("127.77.1.2", 8000)),
        ("127.9.9.9", 8000, ("127.77.1.2", 8000)),
        ("127.77.1.2", 8000, ("127.77.1.2", 8000)),
        ("192.0.2.1", 8000, ("192.0.2.1", 8000)),
        ("0.0.0.0", 0, ("0.0.0.0", 0)),
        ("::", 8000, ("::ffff:127.77.1.2", 8000)),
        ("::1", 8000, ("::ffff:127.77.1.2", 8000)),
        ("::ffff:0.0.0.0", 8000, ("::ffff:127.77.1.2", 8000)),
        ("::ffff:127.0.0.1", 8000, ("::ffff:127.77.1.2", 8000)),
        ("2001:db8::1", 8000, ("2001:db8::1", 8000)),
    ],
)
def test_bind(host: str, port: int, wanted: tuple[str, int]) -> None:
    bound: set[int] = set()
    assert after(host, port, binding=True, bound=bound) == wanted
    assert bound == ({port} if wanted[0].endswith("127.77.1.2") else set())


def test_an_ipv6_only_socket_gets_a_port_of_its_own() -> None:
    bound: set[int] = set()
    assert after("::", 8000, binding=True, bound=bound, ipv6_only=True) == ("::1", 0)
    assert bound == set()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::ffff:127.0.0.1"])
def test_connect_to_itself(host: str) -> None:
    assert after(host, 8000, binding=False, bound={8000})[0].endswith("127.77.1.2")
    assert after(host, 5432, binding=False, bound={8000}) == (host, 5432)


def test_connect_to_others_is_left_alone() -> None:
    assert after("192.0.2.1", 8000, binding=False, bound={8000}) == ("192.0.2.1", 8000)


@examples(100)
@given(st.binary(max_size=28), st.booleans())
def test_any_bytes_are_read_without_harm(data: bytes, binding: bool) -> None:
    change = rewrite(data, binding=binding, pod=POD, bound=set(), ipv6_only=lambda: False)
    if change is not None:
        assert change.offset + len(change.data) <= len(data)


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("0.0.0.0", False), ("127.0.0.1", True), ("::", False), ("::1", True), ("::ffff:127.0.0.1", True)],
)
def test_loopback(host: str, wanted: bool) -> None:
    assert is_loopback(sockaddr(host, 1)) is wanted


@pytest.mark.parametrize(
    ("root", "user", "notification", "tier"),
    [
        (None, None, None, "ns-root"),
        ("not root", None, None, "ns-user"),
        ("not root", "EPERM", None, "notify"),
        (None, None, "ENOSYS", "plain"),
    ],
)
def test_the_best_tier_is_chosen(
    root: str | None, user: str | None, notification: str | None, tier: str
) -> None:
    assert choose_tier(Capabilities(root, user, notification)).name == tier


@pytest.mark.parametrize(
    ("tier", "found", "why"),
    [
        ("ns-root", Capabilities("not root", None, None), "not root"),
        ("ns-user", Capabilities(None, "EPERM", None), "EPERM"),
        ("notify", Capabilities("not root", "EPERM", None), None),
        ("notify", Capabilities(None, None, "ENOSYS"), "ENOSYS"),
        ("ns-root", Capabilities(None, None, "ENOSYS"), "ENOSYS"),
        ("plain", Capabilities("not root", "EPERM", "ENOSYS"), None),
    ],
)
def test_a_tier_that_was_asked_for_is_allowed_or_not(tier: str, found: Capabilities, why: str | None) -> None:
    said = obstacle(TIERS[tier], found)
    assert said is None if why is None else why in (said or "")
