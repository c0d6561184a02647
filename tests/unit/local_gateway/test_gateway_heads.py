from __future__ import annotations

import asyncio
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.gateway.heads import BadRequestError, answer, forwarded, host_name, parse_head
from tests.properties import examples

TOKEN = st.text(string.ascii_letters + string.digits + "-_!", min_size=1, max_size=12)
VALUE = st.text([chr(c) for c in range(0x21, 0x7F)], max_size=20)
FRAMING = {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "keep-alive"}


def raw(*lines: str, first: str = "GET /a?b=c HTTP/1.1", host: str | None = "h.example") -> bytes:
    hosts = [f"Host: {host}"] if host is not None else []
    return ("\r\n".join([first, *hosts, *lines]) + "\r\n\r\n").encode("latin-1")


def test_a_head_is_read_as_it_stands() -> None:
    head = parse_head(raw("X-One: 1", "x-one:\t2 ", "Content-Length: 5", first="POST /a?b=c HTTP/1.1"))
    assert (head.method, head.target, head.path) == ("POST", "/a?b=c", "/a")
    assert head.by_name()["x-one"] == ["1", "2"]
    assert (head.host, head.length, head.upgrade) == ("h.example", 5, None)


@pytest.mark.parametrize(
    "bad",
    [
        raw("Content-Length: 5", "Transfer-Encoding: chunked"),
        raw("Content-Length: 5", "Content-Length: 5"),
        raw("Content-Length: 5, 5"),
        raw("Content-Length: +5"),
        raw("Content-Length: 0x5"),
        raw("Content-Length: "),
        raw("Transfer-Encoding: gzip, chunked"),
        raw("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        raw("Transfer-Encoding: identity"),
        raw("Transfer-Encoding:\x0bchunked"),
        raw("X: 1", " folded"),
        raw("X : 1"),
        raw(": 1"),
        raw("no colon"),
        raw("X: a\x00b"),
        raw("X: a\nY: b"),
        raw("X: a\rY: b"),
        raw(host=None),
        raw("Host: other"),
        raw(host="a b"),
        raw(host="a@b"),
        raw(host=""),
        raw(first="GET /"),
        raw(first="GET / HTTP/1.0"),
        raw(first="GET  / HTTP/1.1"),
        raw(first="GET http://x/ HTTP/1.1"),
        raw(first="CONNECT x:443 HTTP/1.1"),
        raw(first="G\tT / HTTP/1.1"),
        raw(first="GET /\x01 HTTP/1.1"),
        raw("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 1"),
        raw("Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"),
        b"GET / HTTP/1.1\nHost: h\n\n",
        b"\r\n\r\n",
    ],
)
def test_what_two_readers_could_read_differently_is_refused(bad: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_head(bad)


def test_what_was_meant_for_one_connection_stays_there() -> None:
    head = parse_head(
        raw("Connection: keep-alive, X-Mine", "Keep-Alive: 5", "X-Mine: 1", "TE: trailers", "X-Other: 2")
    )
    assert (
        forwarded(head)
        == b"GET /a?b=c HTTP/1.1\r\nHost: h.example\r\nX-Other: 2\r\nConnection: close\r\n\r\n"
    )


def test_the_framing_stays_whatever_the_connection_header_names() -> None:
    head = parse_head(raw("Connection: Content-Length, Host", "Content-Length: 3"))
    assert b"Content-Length: 3\r\n" in forwarded(head)
    assert b"Host: h.example\r\n" in forwarded(head)


def test_an_upgrade_is_asked_for_again() -> None:
    head = parse_head(raw("connection: keep-alive, Upgrade", "upgrade: websocket", "Sec-WebSocket-Key: k"))
    sent = forwarded(head)
    assert sent.endswith(b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert b"Sec-WebSocket-Key: k\r\n" in sent
    assert head.length is None


def test_an_upgrade_that_the_connection_does_not_name_is_none() -> None:
    assert parse_head(raw("Upgrade: websocket")).upgrade is None


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=6), st.sampled_from(["GET", "POST", "X-Y"]))
@examples(200)
def test_what_is_sent_on_reads_the_same(headers: list[tuple[str, str]], method: str) -> None:
    headers = [(name, value) for name, value in headers if name.lower() not in FRAMING]
    head = parse_head(raw(*(f"{n}: {v}" for n, v in headers), first=f"{method} /p HTTP/1.1"))
    again = parse_head(forwarded(head))
    assert again.headers == (("Host", "h.example"), *headers, ("Connection", "close"))
    assert (again.method, again.target, again.length) == (method, "/p", 0)


@given(st.binary(max_size=200))
@examples(300)
def test_noise_is_refused_and_nothing_worse(noise: bytes) -> None:
    try:
        head = parse_head(noise + b"\r\n\r\n")
    except BadRequestError:
        return
    assert head.host


def test_a_head_that_comes_byte_by_byte_is_the_same_head() -> None:
    whole = raw("Content-Length: 2", first="POST / HTTP/1.1") + b"ab"

    async def read(split: int) -> tuple[bytes, bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(whole[:split])
        asyncio.get_running_loop().call_soon(reader.feed_data, whole[split:])
        head = await reader.readuntil(b"\r\n\r\n")
        return head, await reader.readexactly(2)

    for split in range(1, len(whole)):
        head, body = asyncio.run(read(split))
        assert parse_head(head).length == 2, split
        assert body == b"ab"


@pytest.mark.parametrize(
    ("header", "name"),
    [("A.example", "a.example"), ("a.example:8443", "a.example"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")],
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


def test_an_answer_says_how_long_it_is_and_ends_the_connection() -> None:
    whole = answer("503 Service Unavailable", "why", (("Retry-After", "1"),))
    head, _, body = whole.partition(b"\r\n\r\n")
    assert body == b"why\n"
    assert {b"Retry-After: 1", b"Content-Length: 4", b"Connection: close"} <= set(head.split(b"\r\n"))
    assert answer("503 Service Unavailable", "why", body=False).endswith(b"\r\n\r\n")
