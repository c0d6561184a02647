"""A registry before another: refuses what it is told to, and may have a certificate of its own making."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

_HOP = {
    "transfer-encoding",
    "connection",
    "keep-alive",
    "content-encoding",
    "content-length",
    "date",
    "server",
}


class Front:
    """Passes all on to the registry at `host`.

    Attributes:
        name: `127.0.0.1:<port>`.
        let_through: How many pieces of uploads it takes before it refuses; None takes all.
        asked: Methods and paths, in order.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self.name = ""
        self.let_through: int | None = None
        self.asked: list[str] = []

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        body = await request.read()
        # A monolithic upload brings its bytes with the PUT that ends it.
        if (
            self.let_through is not None
            and body
            and request.path.startswith("/v2/")
            and "/blobs/" in request.path
        ):
            if self.let_through == 0:
                errors = [{"code": "DENIED", "message": "this project is out of quota"}]
                return web.json_response({"errors": errors}, status=403)
            self.let_through -= 1
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        headers["Host"] = self._host
        url = f"http://{self._host}{request.path_qs}"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, url, data=body or None, headers=headers, allow_redirects=False
            ) as answer,
        ):
            passed = [(n, v) for n, v in answer.headers.items() if n.lower() not in _HOP]
            if request.method == "HEAD":
                passed += [(n, v) for n, v in answer.headers.items() if n.lower() == "content-length"]
            return web.Response(body=await answer.read(), status=answer.status, headers=dict(passed))

    async def _serve(self, tls: ssl.SSLContext | None, ready: threading.Event, end: asyncio.Event) -> None:
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.name = f"127.0.0.1:{runner.addresses[0][1]}"
        ready.set()
        await end.wait()
        await runner.cleanup()


@contextmanager
def front(host: str, *, certificate: Path | None = None) -> Iterator[Front]:
    """Serve one in a thread, on loopback.

    Args:
        host: The registry behind it, over plain http.
        certificate: Folder for a self-signed one; None serves plain http.
    """
    found = Front(host)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()
    tls = self_signed(certificate) if certificate is not None else None
    thread = threading.Thread(target=loop.run_until_complete, args=(found._serve(tls, ready, end),))
    thread.start()
    try:
        assert ready.wait(30)
        yield found
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(30)
        loop.close()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate of its own making for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "self-signed.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + made.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
