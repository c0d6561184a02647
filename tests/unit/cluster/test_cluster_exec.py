"""Programs in containers, over a server that runs them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    ended = execs.run("web-1", "default", ["sh", "-c", script, "sh", "ä & b"], stdout=pieces.append)
    assert ended == Exit(3, "wrong")
    assert b"".join(pieces) == "ä & b".encode()
    ((path, protocols, authorization),) = server.asked
    assert path == "/k8s/api/v1/namespaces/default/pods/web-1/exec"
    assert protocols == "v4.channel.k8s.io"
    assert authorization == "Bearer t0ken"


def test_a_program_that_says_nothing(execs: OfficialExecs) -> None:
    assert execs.run("web-1", "default", ["true"]) == Exit(0, "")
    assert execs.run("web-1", "default", ["echo", "x"]) == Exit(0, ""), "and nobody listens"


def test_much_output_goes_by_in_pieces(execs: OfficialExecs) -> None:
    sizes: list[int] = []
    ended = execs.run(
        "p", "default", ["head", "-c", "9000000", "/dev/zero"], stdout=lambda d: sizes.append(len(d))
    )
    assert ended.code == 0
    assert sum(sizes) == 9_000_000
    assert max(sizes) < 1_000_000


def test_much_input_is_read_in_full(execs: OfficialExecs) -> None:
    said: list[bytes] = []
    data = [bytes(100_000)] * 50
    ended = execs.run("p", "default", ["sh", "-c", "head -c 5000000 | wc -c"], stdin=data, stdout=said.append)
    assert (ended.code, b"".join(said).strip()) == (0, b"5000000")


def test_a_program_that_ends_before_its_input(execs: OfficialExecs) -> None:
    ended = execs.run("p", "default", ["sh", "-c", "echo full >&2; exit 1"], stdin=[bytes(1 << 20)] * 64)
    assert ended == Exit(1, "full")


def test_refusals(server: ExecServer, execs: OfficialExecs) -> None:
    server.refusal = 403, {"kind": "Status", "reason": "Forbidden", "message": "pods/exec is forbidden"}
    with pytest.raises(ForbiddenError, match="pods/exec is forbidden"):
        execs.run("web-1", "default", ["true"])
    server.refusal = 404, {"kind": "Status", "reason": "NotFound", "message": 'pods "web-1" not found'}
    with pytest.raises(ObjectNotFoundError):
        execs.run("web-1", "default", ["true"])


def test_a_program_that_cannot_be_started(server: ExecServer, execs: OfficialExecs) -> None:
    failure = {"status": "Failure", "reason": "InternalError", "code": 500, "message": "no such file: sh"}
    server.status = json.dumps(failure).encode()
    with pytest.raises(ApiError, match="exec in pod `p` in namespace `default`: no such file: sh"):
        execs.run("p", "default", ["true"])


def test_a_connection_that_breaks(server: ExecServer, execs: OfficialExecs) -> None:
    server.cut_after = 100_000
    with pytest.raises(UnreachableError, match="for exec broke"):
        execs.run("p", "default", ["sh", "-c", "cat >/dev/null"], stdin=[bytes(1 << 20)])


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = ExecServer()
    server.url = f"http://127.0.0.1:{port}"
    connection: Connection = server.connection(tmp_path)
    with pytest.raises(UnreachableError, match="Connection refused"):
        OfficialExecs(connection).run("p", "default", ["true"])


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
