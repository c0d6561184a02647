"""What is not one short request and one short answer, through a group's gateway.

On another cluster these are about its gateway as much as about the group; where it is out of reach from here
they are skipped, and say so.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import websocket

from tests.e2e.harness import Chalk, eventually
from tests.e2e.load import PROGRAM, Door

SILENCE = 20
"""Seconds: more than the 15 that Envoy gives an answer when nothing else is said."""

LARGE = 50 << 20


@pytest.fixture
def open_door(chalk: Chalk, door: Callable[[str], Door]) -> Door:
    """The door to a group of one replica that runs the program in `serving.py`."""
    program = f"--entrypoint={json.dumps(['python', '-c', PROGRAM])}"
    chalk.serve("streams", "--env=WORD=hello", "--memory=256Mi", program)
    found = door("streams")
    eventually(lambda: found.ask("/")[0] == 200, "it answers through the gateway")
    return found


def test_websockets_pass_both_ways(open_door: Door) -> None:
    url = f"ws://{open_door.host}/socket"
    with open_door.connect() as connection:
        socket = websocket.create_connection(url, socket=connection)
        assert str(socket.recv()).startswith("hello "), "the server speaks first"
        socket.send("grüße")
        assert socket.recv() == "grüße"
        for size in (0, 125, 126, 65_536, 1 << 20):
            content = hashlib.shake_128(str(size).encode()).digest(size)
            socket.send_binary(content)
            assert socket.recv_data() == (websocket.ABNF.OPCODE_BINARY, content)
        socket.ping("are you there")
        assert socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"are you there")
        socket.send_close(1001, b"going")
        assert socket.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe9going")


def test_events_and_pieces_arrive_one_by_one(open_door: Door) -> None:
    with closing(open_door.client()) as connection:
        connection.request("GET", "/events?count=4&seconds=next", headers={"Host": open_door.host})
        response = connection.getresponse()
        assert response.headers["content-type"] == "text/event-stream"
        for number in range(4):
            # None but the first is sent before it is asked for: what is held back would never come.
            assert response.readline() == b"id: %d\n" % number
            assert response.readline().startswith(b"data: hello ")
            assert response.readline() == b"\n"
            if number < 3:
                assert open_door.ask("/next")[0] == 200
        assert response.read() == b""

    with closing(open_door.client()) as connection:
        connection.putrequest("POST", "/mirror", skip_host=True)
        for name, value in (("Host", open_door.host), ("Transfer-Encoding", "chunked")):
            connection.putheader(name, value)
        connection.endheaders()
        with connection.sock.makefile("rb") as stream:
            connection.send(b"5\r\nfirst\r\n")
            head = b"".join(iter(stream.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 200"), head
            assert stream.readline() + stream.readline() == b"5\r\nfirst\r\n", "before the request has ended"
            connection.send(b"6\r\nsecond\r\n")
            assert stream.readline() + stream.readline() == b"6\r\nsecond\r\n"
            connection.send(b"0\r\n\r\n")
            assert stream.readline() == b"0\r\n"


def test_large_bodies_pass_whole(open_door: Door) -> None:
    content = hashlib.shake_128(b"large").digest(LARGE)
    expected = {"digest": hashlib.sha256(content).hexdigest(), "length": LARGE}
    assert json.loads(open_door.ask("/", method="POST", body=content, timeout=100)[2]) == expected

    def pieces() -> Iterator[bytes]:
        for start in range(0, LARGE, 1 << 20):
            yield content[start : start + (1 << 20)]

    with closing(open_door.client(100)) as connection:
        connection.request("PUT", "/", body=pieces(), headers={"Host": open_door.host}, encode_chunked=True)
        assert json.loads(connection.getresponse().read()) == expected
    status, headers, body = open_door.ask(f"/large?bytes={LARGE}", timeout=100)
    assert (status, headers["content-length"], len(body)) == (200, str(LARGE), LARGE)
    assert not body.strip(b"\0")


def test_long_silence_is_not_the_end(open_door: Door) -> None:
    """Before the answer, within it, between two events, and on a websocket: all at once."""
    ended: dict[str, Any] = {}

    def ask(path: str) -> None:
        try:
            ended[path] = open_door.ask(path, timeout=SILENCE + 40)[0::2]
        except Exception as error:  # it is what became of it
            ended[path] = repr(error)

    paths = [f"/late?seconds={SILENCE}", f"/slow?seconds={SILENCE}", f"/events?count=2&seconds={SILENCE}"]
    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    url = f"ws://{open_door.host}/socket"
    with closing(websocket.create_connection(url, socket=open_door.connect())) as socket:
        for thread in threads:
            thread.start()
        assert str(socket.recv()).startswith("hello ")
        for thread in threads:
            thread.join()
        socket.send("still there")
        assert socket.recv() == "still there"
    whole = json.dumps({"digest": hashlib.sha256().hexdigest(), "length": 0}).encode()
    assert [ended[path] for path in paths[:2]] == [(200, whole)] * 2
    status, events = ended[paths[2]]
    assert status == 200
    assert re.findall(rb"id: (\d)", events) == [b"0", b"1"]


def test_http_2_to_the_gateway(open_door: Door, tmp_path: Path) -> None:
    """By curl: several requests on one connection, one of them with a body."""
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in run(curl, "--version"):
        pytest.skip("there is no curl with HTTP/2 on this machine")
    if open_door.context is None:
        pytest.skip("the gateway's listener has no TLS, by which HTTP/2 is agreed on")
    authority, body = tmp_path / "ca.pem", tmp_path / "body"
    authorities = open_door.context.get_ca_certs(binary_form=True)
    authority.write_text("".join(ssl.DER_cert_to_PEM_cert(each) for each in authorities))
    body.write_bytes(bytes(300_000))
    name, url = open_door.host.partition(":")[0], f"https://{open_door.host}"
    common = ["--silent", "--http2", "--noproxy", "*", "--cacert", str(authority)]
    common += ["--resolve", f"{name}:{open_door.port}:{open_door.address}", "--output", str(tmp_path / "out")]
    common += ["--write-out", "%{http_version} %{response_code} %{num_connects}\n"]
    requests = ([f"{url}/"], ["--data-binary", f"@{body}", f"{url}/"], [f"{url}/slow?seconds=0.1"])
    said = run(curl, *(word for request in requests for word in ("--next", *common, *request)))
    assert said.splitlines() == ["2 200 1", "2 200 0", "2 200 0"]


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
