"""As much of HPACK (RFC 7541) as a health check needs: fields whose names are spelled out.

A field like `grpc-status` is in no static table, and on a new connection in no dynamic one, so that its name
is always spelled out, plain or in Huffman code; whatever an index stands for is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["literal", "literal_fields", "varint"]

# The printable symbols by the length of their codes (appendix B). The code is canonical: among codes of one
# length, and over the lengths, they go up by one in the order of the symbols.
_SYMBOLS = {
    5: "012aceiost",
    6: " %-./3456789=A_bdfghlmnpru",
    7: ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz",
    8: "&*,;XZ",
    10: '!"()?',
    11: "'+|",
    12: "#>",
    13: "$@[]~",
    14: "^}",
    15: "<`{",
}
_ZERO = 13  # the length of the code of the symbol 0, before the printable ones of that length


def _codes() -> dict[tuple[int, int], str]:
    """Length and code -> symbol."""
    codes: dict[tuple[int, int], str] = {}
    code = last = 0
    for length, symbols in _SYMBOLS.items():
        code <<= length - last
        last = length
        for symbol in ("\0" if length == _ZERO else "") + symbols:
            codes[length, code] = symbol
            code += 1
    return codes


_CODES = _codes()
_LONGEST = max(_SYMBOLS)


def literal(text: str) -> bytes:
    """A string without Huffman code; the length has a 7-bit prefix."""
    data = text.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    return b"\x7f" + varint(len(data) - 127) + data


def varint(number: int) -> bytes:
    """Seven bits in each octet, the lowest first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def literal_fields(block: bytes) -> Iterator[tuple[str, str]]:
    """The fields of a header block that spell out name and value; ends where the block is not whole."""
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
            name: str | None = None
            if index == 0:
                name, at = _string(block, at)
            value, at = _string(block, at)
            if name is not None and value is not None:
                yield name, value
    except IndexError:  # not a whole block
        return


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    """An integer with a prefix of so many bits, and where it ends (section 5.1)."""
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


def _string(block: bytes, at: int) -> tuple[str | None, int]:
    """A string, None if it has symbols that no name or message has, and where it ends."""
    coded = bool(block[at] & 0x80)
    length, at = _integer(block, at, 7)
    if at + length > len(block):
        raise IndexError(length)
    data = block[at : at + length]
    return (_decoded(data) if coded else data.decode("latin-1")), at + length


def _decoded(data: bytes) -> str | None:
    """Of the Huffman code."""
    out: list[str] = []
    code = length = 0
    for position in range(len(data) * 8):
        code = code << 1 | data[position // 8] >> (7 - position % 8) & 1
        length += 1
        if (symbol := _CODES.get((length, code))) is not None:
            out.append(symbol)
            code = length = 0
        elif length > _LONGEST:
            return None
    return "".join(out)  # what is left over fills the last octet
