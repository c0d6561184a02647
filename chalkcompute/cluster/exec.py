"""Running a program in a container: its input, output and exit code over one WebSocket.

Protocol `v4.channel.k8s.io`, which every API server speaks (k8s.io/apimachinery `pkg/util/remotecommand`):
the first byte of a frame says what it belongs to. Its input has no end of its own, so a program must be told
how much it gets (`head -c`); `v5`, which has one, came with Kubernetes 1.30 and is not asked for.
"""

from __future__ import annotations

import contextlib
import json
import select
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from chalkcompute.cluster.kubeconfig import Connection
from chalkcompute.cluster.reasons import api_error
from chalkcompute.cluster.transport import connect, official
from chalkcompute.errors import ApiError, UnreachableError

__all__ = ["Execs", "Exit", "OfficialExecs"]

_PROTOCOL = "v4.channel.k8s.io"
_STDIN, _STDOUT, _STDERR, _ERROR = range(4)
_PIECE = 32 << 10  # what kubectl sends at a time; some proxies refuse much larger frames
_IDLE_SECONDS = 120.0
_STDERR_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Exit:
    """How a program ended: its exit code, and the end of what it said on standard error."""

    code: int
    stderr: str


class Execs(Protocol):
    """Runs programs in containers; every failure but the program's own is one of `chalkcompute.errors`."""

    def run(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str,
        stdin: Iterable[bytes] | None = None,
        stdout: Callable[[bytes], object] | None = None,
    ) -> Exit:
        """Run a program in a container of a Pod, and wait for its end.

        Args:
            pod: The Pod.
            namespace: Its namespace.
            command: Program and arguments.
            container: The container: a mesh may have put others beside ours.
            stdin: Its input, or None for none. It never ends: the program must know how much to read.
            stdout: Is handed its output as it comes; None drops it.

        Raises:
            ObjectNotFoundError: There is no such Pod.
            ForbiddenError: The credential may not (`get` on `pods/exec`, since 1.35 `create`).
            UnreachableError: The connection cannot be made, breaks, or nobody answers at its other end. The
                program may be silent for as long as it likes.
        """
        ...


class OfficialExecs:
    """`Execs` with the credentials, certificates and proxies of the official client.

    Args:
        connection: Which cluster, and as whom.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._configuration: Any = None

    def run(
        self,
        pod: str,
        namespace: str,
        command: Sequence[str],
        *,
        container: str,
        stdin: Iterable[bytes] | None = None,
        stdout: Callable[[bytes], object] | None = None,
    ) -> Exit:
        """Run a program, and wait for its end."""
        import websocket

        about = f"exec in pod `{pod}` in namespace `{namespace}`"
        query = [("container", container), *(("command", word) for word in command)]
        query += [(name, "true") for name in ("stdout", "stderr", *(["stdin"] if stdin is not None else []))]
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/exec"
        try:
            socket = self._open(f"{path}?{urlencode(query)}", about)
            with contextlib.closing(_Streams(socket, stdout)) as streams:
                streams.send(stdin or ())
                return streams.exit(about)
        except (websocket.WebSocketException, ssl.SSLError, ConnectionError, TimeoutError) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error

    def _open(self, path: str, about: str) -> Any:
        import websocket

        if self._configuration is None:
            self._configuration = connect(self._connection).client.configuration
        configuration = self._configuration
        # Read anew each time: the client renews what expires.
        headers = {
            setting["key"].lower(): setting["value"]
            for setting in configuration.auth_settings().values()
            if setting["in"] == "header" and setting["value"]
        }
        headers["sec-websocket-protocol"] = _PROTOCOL
        url = urlsplit(configuration.host)
        scheme = {"http": "ws", "https": "wss"}[url.scheme]
        address = f"{scheme}://{url.netloc}{url.path.rstrip('/')}{path}"
        try:
            socket = official("stream.ws_client").create_websocket(configuration, address, headers)
        except websocket.WebSocketBadStatusException as error:
            body = error.resp_body or b""
            raise api_error(error.status_code, body, request=about) from error
        except OSError as error:
            raise self._unreachable(error.strerror or str(error)) from error
        socket.settimeout(_IDLE_SECONDS)
        return socket

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"the connection to the API server `{self._connection.server}` for exec broke: {why.rstrip('.')}",
            hint="a proxy between here and the cluster must let WebSockets through",
        )


class _Streams:
    """The channels of one program."""

    def __init__(self, socket: Any, stdout: Callable[[bytes], object] | None) -> None:
        self._socket = socket
        self._raw = socket.sock
        self._stdout = stdout
        self._stderr = b""
        self._status: bytes | None = None
        self._is_open = True

    def close(self) -> None:
        """End the connection; a program that still runs loses its input."""
        self._socket.close()
        self._raw.close()  # which the line before leaves open after some failures

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send the input, as long as the program runs."""
        import websocket

        for piece in pieces:
            for start in range(0, len(piece), _PIECE):
                while self._is_open and self._has_news():
                    self._receive()
                if self._status is not None or not self._is_open:
                    return
                try:
                    with _as_connection_error():
                        self._socket.send_binary(bytes([_STDIN]) + piece[start : start + _PIECE])
                except (websocket.WebSocketException, ConnectionError, ssl.SSLError):
                    # It may have ended and said so: that is the better message, if it is there.
                    with contextlib.suppress(Exception):
                        while self._is_open and self._status is None:
                            self._receive()
                    if self._status is None:
                        raise
                    return

    def exit(self, about: str) -> Exit:
        """Wait for the end.

        Raises:
            ApiError: The program could not be started.
            ConnectionError: The connection ended before the program did, as far as is known.
        """
        while self._is_open and self._status is None:
            self._receive()
        if self._status is None:
            raise ConnectionError("it was closed before the program ended")
        return Exit(_exit_code(self._status, about), self._stderr.decode("utf-8", "replace").strip())

    def _has_news(self) -> bool:
        raw = self._socket.sock
        if isinstance(raw, ssl.SSLSocket) and raw.pending():
            return True
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(raw, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([raw], [], [], 0)[0])

    def _receive(self) -> None:
        import websocket

        with _as_connection_error():
            try:
                opcode, frame = self._socket.recv_data_frame(True)
            except websocket.WebSocketTimeoutException:
                # A program may work for long and say nothing; whoever is there answers a ping.
                self._socket.ping()
                opcode, frame = self._socket.recv_data_frame(True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            self._is_open = False
        elif opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and frame.data:
            channel, data = frame.data[0], frame.data[1:]
            if channel == _STDOUT and self._stdout is not None and data:
                self._stdout(data)
            elif channel == _STDERR:
                self._stderr = (self._stderr + data)[-_STDERR_KEPT:]
            elif channel == _ERROR:
                self._status = (self._status or b"") + data


@contextlib.contextmanager
def _as_connection_error() -> Iterator[None]:
    """What the network says (`No route to host`), apart from what files say that are read or written."""
    try:
        yield
    except (ssl.SSLError, ConnectionError, TimeoutError):
        raise
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from error


def _exit_code(status: bytes, about: str) -> int:
    """The exit code in a `Status`, as `v4` has it (`NonZeroExitCode`).

    Raises:
        ApiError: It says something else: the program could not be started, the container is gone.
    """
    try:
        said = json.loads(status)
        if said["status"] == "Success":
            return 0
        if said.get("reason") == "NonZeroExitCode":
            causes = said["details"]["causes"]
            return int(next(cause["message"] for cause in causes if cause.get("reason") == "ExitCode"))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise ApiError(f"{about}: the answer cannot be understood", status=500) from None
    code = said.get("code")
    why = said.get("message") or "it failed"
    raise ApiError(f"{about}: {why}", status=code if isinstance(code, int) and code else 500)
