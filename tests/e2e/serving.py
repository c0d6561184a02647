"""The program of the replicas: says which one it is, and answers in every way that HTTP/1.1 knows.

Run by `python -c` from its own text, so it needs nothing but the standard library. SIGTERM ends it at once,
whatever it is answering: what the tests see survive was not the program's merit.

`/` answers with a digest of the request's body; `/slow?seconds=S` answers the head at once and the body
later; `/late?seconds=S` answers later; `/events?count=N&seconds=S` sends events S seconds apart, and with
`seconds=next` each but the first when `/next` was asked for; `/mirror` sends each piece of a body back as it
comes; `/large?bytes=N` answers so many zeros; `/socket` is an echoing websocket; `/die` ends the process.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import secrets
import signal
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

REPLICA = secrets.token_hex(4)
WORD = os.environ.get("WORD", "")
PIECE = 64 * 1024
CLOSE, PING, PONG = 8, 9, 10
NEXT = threading.Semaphore(0)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args: object) -> None:
        """Nothing for every request."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        given = {name: values[0] for name, values in urllib.parse.parse_qs(query).items()}
        seconds = given.get("seconds", "0")
        if path == "/die":
            os._exit(1)
        elif path == "/next":
            NEXT.release()
            self.start(("content-length", "0"))
        elif path == "/socket":
            self.socket()
        elif path == "/events":
            self.start(("content-type", "text/event-stream"), ("transfer-encoding", "chunked"))
            for number in range(int(given["count"])):
                if number:
                    NEXT.acquire() if seconds == "next" else time.sleep(float(seconds))
                self.chunk(f"id: {number}\ndata: {WORD} {REPLICA}\n\n".encode())
            self.chunk(b"")
        elif path == "/mirror":
            self.start(("transfer-encoding", "chunked"))
            for piece in self.pieces():
                self.chunk(piece)
            self.chunk(b"")
        elif path == "/large":
            left = int(given["bytes"])
            self.start(("content-length", str(left)))
            while left:
                left -= self.wfile.write(bytes(min(left, PIECE)))
        else:
            self.tell(path, float(seconds))

    do_POST = do_PUT = do_GET  # noqa: N815

    def tell(self, path: str, seconds: float) -> None:
        digest, length = hashlib.sha256(), 0
        for piece in self.pieces():
            digest.update(piece)
            length += len(piece)
        body = json.dumps({"digest": digest.hexdigest(), "length": length}).encode()
        if path == "/slow":
            self.start(("transfer-encoding", "chunked"))
            time.sleep(seconds)
            self.chunk(body)
            self.chunk(b"")
            return
        time.sleep(seconds)
        self.start(("content-length", str(len(body))))
        self.wfile.write(body)

    def start(self, *headers: tuple[str, str], status: int = 200) -> None:
        self.send_response(status)
        named = (("x-replica", REPLICA), ("x-word", WORD), ("x-number", self.headers.get("x-number", "")))
        for name, value in (*headers, *named):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def pieces(self) -> Iterator[bytes]:
        """The request's body, as it comes."""
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("content-length") or 0)
        while left and (piece := self.rfile.read(min(left, PIECE))):
            left -= len(piece)
            yield piece

    # RFC 6455 ---------------------------------------------------------------------------------

    def socket(self) -> None:
        """Say hello, then send back what comes, until the other side closes."""
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        upgrade = (("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", accepted))
        self.start(*upgrade, status=101)
        self.close_connection = True
        self.frame(1, f"{WORD} {REPLICA}".encode())
        while True:
            opcode, content = self.next_frame()
            self.frame(PONG if opcode == PING else opcode, content)
            if opcode == CLOSE:
                return

    def frame(self, opcode: int, content: bytes) -> None:
        size = len(content)
        length = (
            struct.pack("!B", size)
            if size < 126
            else struct.pack("!BH", 126, size)
            if size < 1 << 16
            else struct.pack("!BQ", 127, size)
        )
        self.wfile.write(bytes([0x80 | opcode]) + length + content)
        self.wfile.flush()

    def next_frame(self) -> tuple[int, bytes]:
        first, second = self.rfile.read(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.rfile.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self.rfile.read(8))
        mask = self.rfile.read(4)
        content = self.rfile.read(size)
        whole = (mask * (size // 4 + 1))[:size]
        return first & 0x0F, (int.from_bytes(content) ^ int.from_bytes(whole)).to_bytes(size)


class Server(http.server.ThreadingHTTPServer):
    """One thread for each connection."""

    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to tell of."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    Server(("", 8000), Handler).serve_forever()
