"""`grpc.health.v1.Health/Check` in the few frames of HTTP/2 that it takes (RFC 9113, RFC 7541).

Request headers are sent as literals without indexing, so that no compression state is needed; of the
answer only the message is read: `HealthCheckResponse { status: SERVING (1) }`.
"""

from __future__ import annotations

import asyncio
import struct

__all__ = ["check_health"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED = 0x1, 0x4, 0x1, 0x8
_STREAM = 1
_SERVING = 1
_STATUS_NAMES = {0: "UNKNOWN", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


async def check_health(host: str, port: int, service: str) -> str | None:
    """Ask once: None when the service is serving, else the reason in the kubelet's words.

    Raises:
        OSError: The connection failed.
        EOFError: It ended before an answer.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_request(f"{host}:{port}", service))
        message = await _read_message(reader, writer)
    finally:
        writer.close()
    if message is None:
        return (
            "this server does not implement the grpc health protocol (grpc.health.v1.Health) for this service"
        )
    status = _status(message)
    if status == _SERVING:
        return None
    return f'service unhealthy (responded with "{_STATUS_NAMES.get(status, str(status))}")'


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
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers.items())
    name = service.encode()
    body = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, b""),
            _frame(_HEADERS, _END_HEADERS, _STREAM, block),
            _frame(_DATA, _END_STREAM, _STREAM, b"\x00" + struct.pack("!I", len(body)) + body),
        )
    )


def _text(text: str) -> bytes:
    """A string literal of HPACK, without Huffman code; the length has a 7-bit prefix."""
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    return b"\x7f" + _varint(len(data) - 127) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


async def _read_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """The answer's message; None when the stream ends without one."""
    data = bytearray()
    while True:
        header = await reader.readexactly(9)
        length = int.from_bytes(header[:3], "big")
        kind, flags, stream = struct.unpack("!BBI", header[3:])
        payload = await reader.readexactly(length)
        if kind == _SETTINGS and not flags & _ACK:
            writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY or (kind == _RST_STREAM and stream == _STREAM):
            return None
        elif kind == _DATA and stream == _STREAM:
            data += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
            if len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5], "big"):
                return bytes(data[5:])
        if kind in (_DATA, _HEADERS) and stream == _STREAM and flags & _END_STREAM:
            return None


def _status(message: bytes) -> int:
    """Field 1, a varint; 0 when it is absent."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
