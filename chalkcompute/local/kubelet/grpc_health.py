"""`grpc.health.v1.Health/Check` in the few frames of HTTP/2 that it takes (RFC 9113).

Request headers are sent as literals without indexing, so that no compression state is needed; of the
answer only the message is read, `HealthCheckResponse { status: SERVING (1) }`, or why there is none.
Messages are those of `pkg/probe/grpc` and of grpc-go, for tools that read Events.
"""

from __future__ import annotations

import asyncio
import struct
from urllib.parse import unquote

from chalkcompute.local.clock import duration
from chalkcompute.local.kubelet.dial import Connection, NetworkError, connected, host_port
from chalkcompute.local.kubelet.hpack import literal, literal_fields, varint

__all__ = ["check_health", "grpc_status"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED, _PRIORITY = 0x1, 0x4, 0x1, 0x8, 0x20
_STREAM = 1
_FRAME_HEADER_BYTES = 9
_SERVING = 1
_INTERNAL, _UNIMPLEMENTED, _DEADLINE, _UNAVAILABLE = 13, 12, 4, 14
_CODE_NAMES = (
    "OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
    "Internal", "Unavailable", "DataLoss", "Unauthenticated",
)  # fmt: skip
_STATUS_NAMES = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_RESET_NAMES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # fmt: skip
_RESET_CODES = {3: 8, 7: _UNAVAILABLE, 8: 1, 11: 8, 12: 7}  # the others are Internal
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
            connection.writer.write(_request(host_port(host, port), service))
            await _greeting(connection)
            speaks = True
            status = _status(await _read_message(connection))
    except TimeoutError:
        return f"timeout: health rpc did not complete within {duration(seconds)}" if speaks else unconnected
    except (NetworkError, EOFError) as error:
        if not speaks:
            return unconnected
        why = "EOF" if isinstance(error, EOFError) else str(error)
        return _refusal(_CallError(_UNAVAILABLE, f"error reading from server: {why}"), seconds)
    except _CallError as error:
        return _refusal(error, seconds)
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


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def _request(authority: str, service: str) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": "kube-probe/1.36",
    }
    block = b"".join(b"\x00" + literal(name) + literal(value) for name, value in headers.items())
    name = service.encode()
    body = b"\x0a" + varint(len(name)) + name if name else b""
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, b""),
            _frame(_HEADERS, _END_HEADERS, _STREAM, block),
            _frame(_DATA, _END_STREAM, _STREAM, b"\x00" + struct.pack("!I", len(body)) + body),
        )
    )


async def _greeting(connection: Connection) -> None:
    """A server of HTTP/2 begins with its settings.

    Raises:
        EOFError: It is none, or the connection ends.
    """
    header = await connection.reader.readexactly(_FRAME_HEADER_BYTES)
    if header[3] != _SETTINGS or header[4] & _ACK:
        raise EOFError
    await connection.reader.readexactly(int.from_bytes(header[:3], "big"))
    connection.writer.write(_frame(_SETTINGS, _ACK, 0, b""))


async def _read_message(connection: Connection) -> bytes:
    """The answer's message.

    Raises:
        _CallError: There is none.
    """
    reader, writer = connection.reader, connection.writer
    data = bytearray()
    code, message = None, ""
    while True:
        header = await reader.readexactly(_FRAME_HEADER_BYTES)
        length = int.from_bytes(header[:3], "big")
        kind, flags, stream = struct.unpack("!BBI", header[3:])
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY and int.from_bytes(payload[:4], "big") < _STREAM:
            raise _CallError(_UNAVAILABLE, "the connection is draining")
        elif kind == _RST_STREAM and stream == _STREAM:
            raise _reset(int.from_bytes(payload[:4], "big"))
        elif kind == _DATA and stream == _STREAM:
            data += _unpadded(payload, flags)
            if len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], "big"):
                return bytes(data[5:])
        elif kind == _HEADERS and stream == _STREAM:
            payload = _unpadded(payload, flags)
            code, message = grpc_status(payload[5:] if flags & _PRIORITY else payload)
        if kind in (_DATA, _HEADERS) and stream == _STREAM and flags & _END_STREAM:
            raise _CallError(code, message) if code != 0 else _CallError(_INTERNAL, _NO_MESSAGE)


def _reset(number: int) -> _CallError:
    """The server has given the call up."""
    name = _RESET_NAMES[number] if number < len(_RESET_NAMES) else f"unknown error code 0x{number:x}"
    message = f"stream terminated by RST_STREAM with error code: {name}"
    return _CallError(_RESET_CODES.get(number, _INTERNAL), message)


def _unpadded(payload: bytes, flags: int) -> bytes:
    """What a DATA or HEADERS frame holds, without its padding."""
    if not flags & _PADDED or not payload:
        return payload
    return payload[1 : len(payload) - payload[0]]


def grpc_status(block: bytes) -> tuple[int | None, str]:
    """`grpc-status` and `grpc-message` of a header block; None and "" where they are not."""
    code, message = None, ""
    for name, value in literal_fields(block):
        if name == "grpc-status" and code is None and value.isascii() and value.isdigit():
            code = int(value) if len(value) <= 2 and int(value) < len(_CODE_NAMES) else None
        elif name == "grpc-message":
            message = unquote(value)
    return code, message


def _status(message: bytes) -> int:
    """Field 1, a varint; 0 when it is absent."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
