"""A store, its API, and that API behind TLS on a real socket."""

from __future__ import annotations

import asyncio
import datetime
import http.client
import ipaddress
import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.server import ApiServer
from chalkcompute.local.api.store import Store
from chalkcompute.local.measures import Metrics, Traffic

TOKEN = "token-of-this-test"
T = TypeVar("T")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store.db")
    yield store
    store.close()


@pytest.fixture
def api(store: Store) -> ResourceApi:
    return ResourceApi(store)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class LogFiles:
    """A `LogSource` over files put here by container name; the previous run under `NAME.1`."""

    paths: dict[str, Path] = field(default_factory=dict)

    def open(self, namespace: str, pod: str, pod_uid: str, container: str, previous: bool) -> Path | None:
        return self.paths.get(f"{container}.1" if previous else container)


class Cluster:
    """The server in a thread with a loop of its own, and a plain client for it."""

    def __init__(
        self,
        folder: Path,
        certificate: Path,
        metrics: Metrics | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self._folder, self._certificate = folder, certificate
        self._tls = ssl.create_default_context(cafile=str(certificate))
        self._started: Future[tuple[int, asyncio.AbstractEventLoop, ResourceApi]] = Future()
        self.logs = LogFiles()
        self._measured: dict[str, Any] = {"metrics": metrics, "traffic": traffic}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self.port, self._loop, self.api = self._started.result(60)

    async def _serve(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._folder / "key.pem")
        store = Store(self._folder / "served.db")
        try:
            api = ResourceApi(store)
            server = ApiServer(api, token=TOKEN, ssl_context=context, logs=self.logs, **self._measured)
            port = await server.start()
            self._ended = asyncio.Event()
            self._started.set_result((port, asyncio.get_running_loop(), api))
            self._server = server
            await self._ended.wait()
            await server.stop()
        except BaseException as exc:
            if not self._started.done():
                self._started.set_exception(exc)
            raise
        finally:
            store.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(60)

    def close_server(self) -> None:
        """Stop serving while the thread goes on."""
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(20)

    def inside(self, act: Callable[[], T]) -> T:
        """Run something in the server's loop, as a controller would."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(act())
            except BaseException as exc:
                done.set_exception(exc)

        self._loop.call_soon_threadsafe(run)
        return done.result(60)

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self._tls, timeout=60)

    def send(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        sent = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json", **(headers or {})}
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, target, body=raw, headers=sent)
        return connection.getresponse()

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        connection = self.connect()
        try:
            response = self.send(connection, method, path, body, query=query, headers=headers)
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


def write_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
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
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, write_certificate(tmp_path))
    yield cluster
    cluster.stop()
