"""`grpc.health.v1.Health/Check` in the few frames of HTTP/2 that it takes (RFC 9113, RFC 7541).

Request headers are sent as literals without indexing, so that no compression state is needed; of the
answer only the message is read, `HealthCheckResponse { status: SERVING (1) }`, or why there is none.
"""

from __future__ import annotations

import asyncio
import struct

__all__ = ["check_health", "grpc_status"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK, _PADDED, _PRIORITY = 0x1, 0x4, 0x1, 0x8, 0x20
_STREAM = 1
_SERVING = 1
_UNIMPLEMENTED = 12
_CODE_NAMES = {
    0: "OK", 1: "Canceled", 2: "Unknown", 3: "InvalidArgument", 4: "DeadlineExceeded", 5: "NotFound",
    7: "PermissionDenied", 8: "ResourceExhausted", 13: "Internal", 14: "Unavailable", 16: "Unauthenticated",
}  # fmt: skip
_PLAIN, _HUFFMAN = b"\x00", b"\x80"
_STATUS_HEADER = (_PLAIN + b"grpc-status", _HUFFMAN + bytes.fromhex("9acac8b21234da8f"))
# The numbers 0 to 16 in the code of RFC 7541, appendix B.
_HUFFMAN_NUMBERS = (
    "07", "0f", "17", "67", "6b", "6f", "73", "77", "7b", "7f",
    "083f", "087f", "08bf", "0b3f", "0b5f", "0b7f", "0b9f",
)  # fmt: skip
_CODES = {_PLAIN + str(number).encode(): number for number in range(17)} | {
    _HUFFMAN + bytes.fromhex(digits): number for number, digits in enumerate(_HUFFMAN_NUMBERS)
}
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
    if not isinstance(message, bytes):
        return _refusal(message)
    status = _status(message)
    if status == _SERVING:
        return None
    return f'service unhealthy (responded with "{_STATUS_NAMES.get(status, str(status))}")'


def _refusal(code: int | None) -> str:
    """Why there is no message, in the kubelet's words."""
    if code is None or code == _UNIMPLEMENTED:
        return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)"
    return f"error: health rpc failed: rpc error: code = {_CODE_NAMES.get(code, str(code))}"


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


async def _read_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | int | None:
    """The answer's message; without one the status code of the call, or None for no gRPC at all."""
    data = bytearray()
    code: int | None = None
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
        elif kind == _HEADERS and stream == _STREAM:
            code = grpc_status(_fragment(payload, flags))
        if kind in (_DATA, _HEADERS) and stream == _STREAM and flags & _END_STREAM:
            return code


def _fragment(payload: bytes, flags: int) -> bytes:
    """The header block of a HEADERS frame, without padding and priority."""
    padding = 0
    if flags & _PADDED:
        padding, payload = payload[0], payload[1:]
    if flags & _PRIORITY:
        payload = payload[5:]
    return payload[: len(payload) - padding]


def grpc_status(block: bytes) -> int | None:
    """The value of `grpc-status` in a header block (RFC 7541); None where it is not.

    Names and values are compared as they may be written, plain or in Huffman code: this header is in no
    static table, and on a new connection in no dynamic one, so that its name is always spelled out.
    """
    at = 0
    try:
        while at < len(block):
            first = block[at]
            if first & 0x80:  # an indexed field
                _, at = _integer(block, at, 7)
                continue
            if first & 0xE0 == 0x20:  # the table's size changes
                _, at = _integer(block, at, 5)
                continue
            index, at = _integer(block, at, 6 if first & 0x40 else 4)
            name = b""
            if index == 0:
                name, at = _string(block, at)
            value, at = _string(block, at)
            if name in _STATUS_HEADER:
                return _CODES.get(value)
    except IndexError:  # not a whole block
        pass
    return None


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits, and where it ends (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    number, at = block[at] & most, at + 1
    if number < most:
        return number, at
    shift = 0
    while True:
        octet, at = block[at], at + 1
        number += (octet & 0x7F) << shift
        shift += 7
        if not octet & 0x80:
            return number, at


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """A string as it is written: its Huffman flag as a first byte, then its bytes."""
    flag = block[at] & 0x80
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise IndexError(length)
    return bytes((flag,)) + block[at : at + length], at + length


def _status(message: bytes) -> int:
    """Field 1, a varint; 0 when it is absent."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
