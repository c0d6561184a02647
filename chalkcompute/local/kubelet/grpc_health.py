"""`grpc.health.v1.Health/Check`: one call over HTTP/2.

Of the answer only the message is read, `HealthCheckResponse { status: SERVING (1) }`, or why there is none.
Messages are those of `pkg/probe/grpc` and of grpc-go, for tools that read Events.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

from chalkcompute.local.clock import duration
from chalkcompute.local.kubelet.dial import Connection, NetworkError, connected, host_port

__all__ = ["check_health", "grpc_status"]

_STREAM = 1
_FRAME_HEADER_BYTES = 9
_GOAWAY = 7
_STREAM_MASK = 0x7FFFFFFF
_GOAWAY_MAX_BYTES = 16384  # of any frame, unless another size was agreed on
_PREFIX_BYTES = 5  # of a message: whether it is compressed, and its length
_SERVING = 1
_INTERNAL, _UNIMPLEMENTED, _DEADLINE, _UNAVAILABLE = 13, 12, 4, 14
_CODE_NAMES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
_STATUS_NAMES = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_RESET_CODES: Mapping[int, int] = {
    ErrorCodes.FLOW_CONTROL_ERROR: 8,
    ErrorCodes.REFUSED_STREAM: _UNAVAILABLE,
    ErrorCodes.CANCEL: 1,
    ErrorCodes.ENHANCE_YOUR_CALM: 8,
    ErrorCodes.INADEQUATE_SECURITY: 7,
}  # the others are Internal
_NO_MESSAGE = "cardinality violation: received no response message from non-server-streaming RPC"
_NOT_IMPLEMENTED = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"


class _CallError(Exception):
    """The call ended without a message: its status code (None: no gRPC at all) and why."""

    def __init__(self, code: int | None, message: str) -> None:
        super().__init__(message)
        self.code = code


async def check_health(host: str, port: int, service: str, seconds: float) -> str | None:
    """Ask once: None when the service is serving, else the reason in the kubelet's words."""
    deadline = asyncio.get_running_loop().time() + seconds
    # The kubelet dials until the time is over, whatever is in the way, and only then says so.
    unconnected = (
        f'timeout: failed to connect service "{host_port(host, port)}" within {duration(seconds)}: '
        "context deadline exceeded"
    )
    speaks = False
    try:
        async with asyncio.timeout_at(deadline), connected(host, port) as connection:
            # grpc-go takes headers that RFC 9113 has otherwise, such as trailers with a `:status`.
            call = H2Connection(H2Configuration(validate_inbound_headers=False))
            connection.writer.write(_request(call, host_port(host, port), service))
            async with aclosing(_events(connection, call)) as events:
                async for event in events:  # a server of HTTP/2 begins with its settings
                    if isinstance(event, RemoteSettingsChanged):
                        speaks = True
                        break
                status = _status(await _read_message(events))
    except TimeoutError:
        return f"timeout: health rpc did not complete within {duration(seconds)}" if speaks else unconnected
    except (NetworkError, EOFError, ProtocolError) as error:
        if not speaks:
            return unconnected
        why = "EOF" if isinstance(error, EOFError) else str(error)
        return _refusal(_CallError(_UNAVAILABLE, f"error reading from server: {why}"), seconds)
    except _CallError as error:
        return _refusal(error, seconds) if speaks else unconnected
    if status == _SERVING:
        return None
    return f'service unhealthy (responded with "{_STATUS_NAMES.get(status, str(status))}")'


def _refusal(error: _CallError, seconds: float) -> str:
    """Why there is no message, in the kubelet's words."""
    if error.code is None:
        return _NOT_IMPLEMENTED
    if error.code == _UNIMPLEMENTED:
        return f"{_NOT_IMPLEMENTED}: {error}"
    if error.code == _DEADLINE:
        return f"timeout: health rpc did not complete within {duration(seconds)}"
    return f"error: health rpc probe failed: rpc error: code = {_CODE_NAMES[error.code]} desc = {error}"


def _request(call: H2Connection, authority: str, service: str) -> bytes:
    """All that is sent: field 1 of a HealthCheckRequest, a string."""
    name = service.encode()
    body = b"\x0a" + _varint(len(name)) + name if name else b""
    call.initiate_connection()
    headers = (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "kube-probe/1.36"),
    )
    call.send_headers(_STREAM, headers)
    call.send_data(_STREAM, b"\x00" + struct.pack("!I", len(body)) + body, end_stream=True)
    return call.data_to_send()


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


async def _events(connection: Connection, call: H2Connection) -> AsyncGenerator[Event, None]:
    """What the server does; answers its settings and pings.

    Raises:
        EOFError: The connection ends.
        ProtocolError: What comes is no HTTP/2.
        _CallError: The server does not take the call.
    """
    reader, writer = connection.reader, connection.writer
    while True:
        # Frame by frame: what comes before a broken one is taken, however the network has cut it.
        header = await reader.readexactly(_FRAME_HEADER_BYTES)
        length, kind = int.from_bytes(header[:3], "big"), header[3]
        # After a GOAWAY h2 takes nothing, and grpc-go the answer.
        if kind == _GOAWAY and length <= _GOAWAY_MAX_BYTES:
            payload = await reader.readexactly(length)
            if int.from_bytes(payload[:4], "big") & _STREAM_MASK < _STREAM:
                raise _CallError(_UNAVAILABLE, "the connection is draining")
            continue
        events = call.receive_data(header)  # raises where the length cannot be
        events += call.receive_data(await reader.readexactly(length)) if length else []
        writer.write(call.data_to_send())
        for event in events:
            yield event


async def _read_message(events: AsyncIterator[Event]) -> bytes:
    """The answer's message.

    Raises:
        _CallError: There is none.
    """
    data = bytearray()
    code, message = None, ""
    async for event in events:
        if isinstance(event, StreamReset):
            raise _reset(event.error_code)
        if isinstance(event, DataReceived):
            data += event.data
        if isinstance(event, ResponseReceived | TrailersReceived):
            code, message = grpc_status(event.headers)
        if isinstance(event, StreamEnded):
            break
    if code != 0:  # servers send an empty message before some refusals
        raise _CallError(code, message)
    if len(data) < _PREFIX_BYTES or len(data) < _PREFIX_BYTES + int.from_bytes(data[1:_PREFIX_BYTES], "big"):
        raise _CallError(_INTERNAL, _NO_MESSAGE)
    return bytes(data[_PREFIX_BYTES:])


def _reset(number: int) -> _CallError:
    """The server has given the call up."""
    names = {each.value: each.name for each in ErrorCodes}
    name = names.get(number, f"unknown error code 0x{number:x}")
    return _CallError(
        _RESET_CODES.get(number, _INTERNAL), f"stream terminated by RST_STREAM with error code: {name}"
    )


def grpc_status(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int | None, str]:
    """`grpc-status` and `grpc-message` of headers or trailers; None and "" where they are not."""
    found = dict(headers)
    text, message = found.get(b"grpc-status", b""), unquote(found.get(b"grpc-message", b"").decode("latin-1"))
    code = int(text) if text.isdigit() and len(text) <= 2 else len(_CODE_NAMES)
    return (code if code < len(_CODE_NAMES) else None), message


def _status(message: bytes) -> int:
    """Field 1, a varint; 0 when it is absent."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
