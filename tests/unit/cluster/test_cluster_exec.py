"""Programs in containers, over a server that runs them."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.cluster import exec as exec_module
from chalkcompute.cluster.exec import Exit, OfficialExecs, _exit_code
from chalkcompute.cluster.kubeconfig import Connection
from chalkcompute.errors import ApiError, ForbiddenError, ObjectNotFoundError, UnreachableError
from tests.properties import examples
from tests.unit.service.exec_server import ExecServer, exec_server


@pytest.fixture
def server() -> Iterator[ExecServer]:
    with exec_server() as running:
        yield running


@pytest.fixture
def execs(server: ExecServer, tmp_path: Path) -> OfficialExecs:
    return OfficialExecs(server.connection(tmp_path))


def test_output_and_exit_code(server: ExecServer, execs: OfficialExecs) -> None:
    pieces: list[bytes] = []
    script = 'printf "%s" "$1"; echo wrong >&2; exit 3'
    ended = execs.run(
        "web-1", "default", ["sh", "-c", script, "sh", "ä & b"], container="app", stdout=pieces.append
    )
    assert ended == Exit(3, "wrong")
    assert b"".join(pieces) == "ä & b".encode()
    ((path, protocols, authorization),) = server.asked
    assert path == "/k8s/api/v1/namespaces/default/pods/web-1/exec"
    assert server.containers == ["app"], "an API server refuses to choose one of several"
    assert protocols == "v4.channel.k8s.io"
    assert authorization == "Bearer t0ken"


def test_a_program_that_says_nothing(execs: OfficialExecs) -> None:
    assert execs.run("web-1", "default", ["true"], container="c") == Exit(0, "")
    assert execs.run("web-1", "default", ["echo", "x"], container="c") == Exit(0, ""), "and nobody listens"


def test_much_output_goes_by_in_pieces(execs: OfficialExecs) -> None:
    sizes: list[int] = []
    ended = execs.run(
        "p",
        "default",
        ["head", "-c", "9000000", "/dev/zero"],
        container="c",
        stdout=lambda d: sizes.append(len(d)),
    )
    assert ended.code == 0
    assert sum(sizes) == 9_000_000
    assert max(sizes) < 1_000_000


def test_much_input_is_read_in_full(execs: OfficialExecs) -> None:
    said: list[bytes] = []
    data = [bytes(100_000)] * 50
    ended = execs.run(
        "p", "default", ["sh", "-c", "head -c 5000000 | wc -c"], container="c", stdin=data, stdout=said.append
    )
    assert (ended.code, b"".join(said).strip()) == (0, b"5000000")


def test_a_program_that_ends_before_its_input(execs: OfficialExecs) -> None:
    ended = execs.run(
        "p", "default", ["sh", "-c", "echo full >&2; exit 1"], container="c", stdin=[bytes(1 << 20)] * 64
    )
    assert ended == Exit(1, "full")


def test_refusals(server: ExecServer, execs: OfficialExecs) -> None:
    server.refusal = 403, {"kind": "Status", "reason": "Forbidden", "message": "pods/exec is forbidden"}
    with pytest.raises(ForbiddenError, match="pods/exec is forbidden"):
        execs.run("web-1", "default", ["true"], container="c")
    server.refusal = 404, {"kind": "Status", "reason": "NotFound", "message": 'pods "web-1" not found'}
    with pytest.raises(ObjectNotFoundError):
        execs.run("web-1", "default", ["true"], container="c")


def test_a_program_that_cannot_be_started(server: ExecServer, execs: OfficialExecs) -> None:
    failure = {"status": "Failure", "reason": "InternalError", "code": 500, "message": "no such file: sh"}
    server.status = json.dumps(failure).encode()
    with pytest.raises(ApiError, match="exec in pod `p` in namespace `default`: no such file: sh"):
        execs.run("p", "default", ["true"], container="c")


def test_a_connection_that_breaks(server: ExecServer, execs: OfficialExecs) -> None:
    server.cut_after = 100_000
    with pytest.raises(UnreachableError, match="for exec broke"):
        execs.run("p", "default", ["sh", "-c", "cat >/dev/null"], container="c", stdin=[bytes(1 << 20)])


def test_a_program_that_works_in_silence(execs: OfficialExecs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_module, "_IDLE_SECONDS", 0.3)
    said: list[bytes] = []
    command = ["sh", "-c", "sleep 1; echo done"]
    ended = execs.run("p", "default", command, container="c", stdout=said.append)
    assert (ended, said) == (Exit(0, ""), [b"done\n"])


class Silent:
    """A socket at whose other end nobody is any more, or the network with it."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.pings = 0
        self.sock = self

    def recv_data_frame(self, _: bool) -> object:
        raise self.error

    def ping(self) -> None:
        self.pings += 1

    def settimeout(self, _: float) -> None: ...

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "said", "pings"),
    [
        (websocket.WebSocketTimeoutException("timed out"), "broke: timed out", 1),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "broke: No route to host", 0),
    ],
    ids=["silent", "unreachable"],
)
def test_nobody_there_any_more(
    execs: OfficialExecs, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, pings: int
) -> None:
    silent = Silent(error)
    monkeypatch.setattr(execs, "_open", lambda path, about: silent)
    with pytest.raises(UnreachableError, match=said):
        execs.run("p", "default", ["true"], container="c")
    assert silent.pings == pings


def test_what_reads_the_output_fails_with_its_own_error(execs: OfficialExecs) -> None:
    def full(_: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        execs.run("p", "default", ["echo", "x"], container="c", stdout=full)


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = ExecServer()
    server.url = f"http://127.0.0.1:{port}"
    connection: Connection = server.connection(tmp_path)
    with pytest.raises(UnreachableError, match="Connection refused"):
        OfficialExecs(connection).run("p", "default", ["true"], container="c")


@examples(200)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none()
            | st.integers()
            | st.sampled_from(["Success", "Failure", "NonZeroExitCode", "ExitCode", "7"]),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["status", "reason", "details", "causes", "message", "code"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_whatever_a_server_says_of_the_end_is_understood_or_an_error_of_ours(status: bytes) -> None:
    try:
        assert isinstance(_exit_code(status, "exec"), int)
    except ApiError as error:
        assert str(error).startswith("exec: ")  # noqa: PT017 -- both outcomes are fine
