"""Requests to one registry: which scheme, which certificates, redirects, tokens, and what is tried again."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from chalkcompute.errors import RegistryError
from chalkcompute.registry.credentials import CredentialSource
from chalkcompute.registry.failures import answer_failure, error_code, is_certificate, transport_failure
from chalkcompute.registry.tokens import Authorizer, is_loopback

__all__ = [
    "PASSING",
    "PAUSES",
    "Answer",
    "Connection",
    "Content",
    "is_too_long",
    "pause",
    "pieces",
    "retry_after",
]

_HUB = "registry-1.docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io")
_CONNECT_TIMEOUT = 5.0
_READ_TIMEOUT = 60.0
# A registry that keeps its blobs in an object store puts their parts together before it answers.
_STORE_TIMEOUT = 300.0
_REDIRECTS = 5
_ERROR_BODY = 64 * 1024
# Pauses before the second, third and fourth try of a request that may be repeated, seconds.
PAUSES = (0.2, 1.0, 3.0)
_LONGEST_WAIT = 30.0
PASSING = frozenset({500, 502, 503, 504})

Content = Callable[[], Iterable[bytes]]


def pause(seconds: float) -> None:
    """Sleep; here by name, so that tests need not wait."""
    time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, read whole.

    Attributes:
        status: HTTP status code.
        headers: Its headers.
        body: Its body, at most as long as was allowed.
        url: Where it came from, after redirects.
    """

    status: int
    headers: httpx.Headers
    body: bytes
    url: httpx.URL

    @property
    def code(self) -> str:
        """Error code of the distribution specification, "" where there is none."""
        return error_code(self.body)


class Connection:
    """Sends requests to one registry; threads may share it.

    Args:
        host: Registry as in a reference: `docker.io`, `localhost:5000`.
        credentials: Where its credentials are; None is anonymous.
        ca_file: PEM file of certificate authorities to trust besides the usual ones; None reads the
            environment variable `CHALK_REGISTRY_CA_FILE`.
        transport: httpx transport instead of the network.
    """

    def __init__(
        self,
        host: str,
        *,
        credentials: CredentialSource | None,
        ca_file: Path | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self.host = "docker.io" if host in _HUB_NAMES else host
        address = _HUB if host in _HUB_NAMES else host
        try:
            base = httpx.URL(f"https://{address}")
        except httpx.InvalidURL:
            raise RegistryError(f"`{host}` is not a registry host") from None
        local = is_loopback(base.host)
        self._base = base.copy_with(scheme="http") if local else base
        # Until a first answer, a registry on this machine may turn out to speak TLS.
        self._unsure = local
        self._client = httpx.Client(
            transport=transport,
            verify=True if transport is not None else _tls_context(self.host, ca_file),
            trust_env=not local,
            timeout=httpx.Timeout(_READ_TIMEOUT, connect=_CONNECT_TIMEOUT),
            headers={"User-Agent": "chalkcompute", "Accept-Encoding": "identity"},
        )
        self._authorizer = Authorizer(self.host, credentials, self._client)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def url(self, path: str, query: Sequence[tuple[str, str]] = ()) -> httpx.URL:
        """The address of a path of the registry."""
        base = self._base.copy_with(path=path)
        return base.copy_merge_params(list(query)) if query else base

    def request(
        self,
        method: str,
        path: str | httpx.URL,
        what: str,
        *,
        scopes: Sequence[str],
        expect: Sequence[int],
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        limit: int = _ERROR_BODY,
        repeat: bool = True,
    ) -> Answer:
        """Send a request and read its answer whole.

        Args:
            method: HTTP method.
            path: Path at the registry, or a whole URL that it gave.
            what: What is asked for, for messages.
            scopes: What a token must allow.
            expect: Status codes that are no error.
            query: Query parameters.
            headers: More headers.
            content: Gives the body anew for each try; `headers` must have its length.
            limit: Bytes of a body to read; more is an error.
            repeat: Whether it is tried again after a broken connection or a passing failure (5xx).

        Raises:
            RegistryError: No answer, or one that `expect` does not list.
        """

        def once() -> Answer:
            with self.stream(
                method, path, what, scopes=scopes, query=query, headers=headers, content=content
            ) as response:
                return self.read(response, limit if response.status_code in expect else None, what)

        last = len(PAUSES)
        for attempt in range(last + 1):
            wait: float | None = None
            try:
                answer = once()
                if answer.status in expect:
                    return answer
                wait = retry_after(answer.headers)
                failure = self.failure(answer, what, scopes)
            except httpx.HTTPError as error:
                again = repeat and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if attempt == last or not again:
                    raise transport_failure(self.host, what, error) from error
            except RegistryError as error:
                # The token server refused.
                if attempt == last or not _may_pass(error, repeat):
                    raise
            else:
                if attempt == last or is_too_long(wait) or not _may_pass(failure, repeat):
                    raise failure
            pause(PAUSES[attempt] if wait is None else wait)
        raise AssertionError("the last try returns or raises")

    def failure(self, answer: Answer, what: str, scopes: Sequence[str]) -> RegistryError:
        """The error for an answer."""
        return answer_failure(
            self.host,
            what,
            answer.status,
            code=answer.code,
            with_credential=self._authorizer.used_credential(scopes),
            wait=retry_after(answer.headers),
        )

    def read(self, response: httpx.Response, limit: int | None = None, what: str = "") -> Answer:
        """Read an answer whole.

        Args:
            response: The answer.
            limit: Bytes of its body, more is an error; None reads as much as an error code needs.
            what: What it is, for the message.

        Raises:
            RegistryError: It is larger.
        """
        body = bytearray()
        for piece in pieces(response):
            body += piece
            if limit is not None and len(body) > limit:
                raise RegistryError(f"{what} from `{self.host}` has more than {limit} bytes; it is not read")
            if limit is None and len(body) > _ERROR_BODY:
                break
        return Answer(response.status_code, response.headers, bytes(body), response.request.url)

    @contextmanager
    def stream(
        self,
        method: str,
        path: str | httpx.URL,
        what: str,
        *,
        scopes: Sequence[str],
        query: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
    ) -> Iterator[httpx.Response]:
        """An answer whose body is not read yet, after redirects and with a token where one is asked for.

        Raises:
            httpx.HTTPError: No answer; what to do about that is up to the caller.
            RegistryError: No token.
        """

        def send(authorization: str | None) -> httpx.Response:
            url = self.url(path, query) if isinstance(path, str) else path
            return self._follow(method, url, dict(headers or {}), content, authorization)

        response = self._settled(lambda: send(self._authorizer.header(scopes)))
        try:
            if response.status_code == 401 and self.is_ours(response.request.url):
                answer = self._authorizer.answer(response.headers.get_list("www-authenticate"), scopes, what)
                if answer is not None:
                    response.close()
                    response = send(answer)
            yield response
        finally:
            response.close()

    def _settled(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """The first answer of a registry on this machine says whether it speaks plain http."""
        if not self._unsure:
            return send()
        failed: httpx.HTTPError | None = None
        try:
            response = send()
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            failed = error
        # Servers of TLS answer plain http with a 400, with garbage, or not at all.
        if (failed is not None or response.status_code == 400) and self._speaks_tls():
            if failed is None:
                response.close()
            self._base = self._base.copy_with(scheme="https")
            self._unsure = False
            return send()
        if failed is not None:
            raise failed
        self._unsure = False
        return response

    def _speaks_tls(self) -> bool:
        try:
            self._client.get(self._base.copy_with(scheme="https", path="/v2/"))
        except httpx.HTTPError as error:
            return is_certificate(error)
        return True

    def _follow(
        self,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        content: Content | None,
        authorization: str | None,
    ) -> httpx.Response:
        """Send, and follow redirects; the token goes to the registry alone."""
        for _ in range(_REDIRECTS + 1):
            sent = dict(headers)
            if authorization is not None and self.is_ours(url):
                sent["Authorization"] = authorization
            body = None if content is None else content()
            slow = content is not None
            timeout = httpx.Timeout(_STORE_TIMEOUT if slow else _READ_TIMEOUT, connect=_CONNECT_TIMEOUT)
            request = self._client.build_request(method, url, headers=sent, content=body, timeout=timeout)
            response = self._client.send(request, stream=True, follow_redirects=False)
            location = response.headers.get("location")
            if not location or response.status_code not in (301, 302, 303, 307, 308):
                return response
            response.close()
            url = self.join(url, location)
        raise RegistryError(f"`{self.host}` redirects more than {_REDIRECTS} times")

    def join(self, url: httpx.URL, location: str) -> httpx.URL:
        """The address that a `Location` header means.

        Raises:
            RegistryError: It is none.
        """
        try:
            joined = url.join(location)
        except httpx.InvalidURL:
            raise RegistryError(f"`{self.host}` sends on to something that is no address") from None
        # Registries behind a proxy that ends TLS often do not know that they are reached over https.
        if joined.scheme == "http" and (joined.host, joined.port) == (self._base.host, self._base.port):
            joined = joined.copy_with(scheme=self._base.scheme)
        if joined.scheme not in ("http", "https"):
            raise RegistryError(f"`{self.host}` sends on to something that is no address")
        return joined

    def is_ours(self, url: httpx.URL) -> bool:
        """Whether an address is the registry's, so that it may see the token."""
        ours = self._base
        return (url.scheme, url.host, url.port) == (ours.scheme, ours.host, ours.port)


def pieces(response: httpx.Response) -> Iterator[bytes]:
    """The body as it came: a layer that its server calls gzip, too, must not be unpacked on the way."""
    if response.is_stream_consumed:
        # A mock transport's answer has been read already.
        yield response.content
    else:
        # In no larger pieces than they come: what is gathered is lost when the connection breaks.
        yield from response.iter_raw()


def _may_pass(failure: RegistryError, repeat: bool) -> bool:
    """Whether another try is allowed: always after a 429, which did nothing."""
    return failure.status == 429 or (repeat and failure.status in PASSING)


def _tls_context(host: str, ca_file: Path | None) -> ssl.SSLContext:
    """The usual authorities, or those of `SSL_CERT_FILE`, and those of our own setting."""
    named = os.environ.get("SSL_CERT_FILE", "")
    try:
        context = httpx.create_ssl_context()
        named = str(ca_file) if ca_file is not None else os.environ.get("CHALK_REGISTRY_CA_FILE", "")
        if named:
            context.load_verify_locations(cafile=named)
    except OSError as error:
        raise RegistryError(
            f"the certificate file `{named}` for `{host}` cannot be read: {error.strerror or 'no PEM file'}",
            hint="`CHALK_REGISTRY_CA_FILE` and `SSL_CERT_FILE` must name PEM files of certificates",
        ) from None
    return context


def is_too_long(wait: float | None) -> bool:
    """Whether a registry asks for more seconds than anybody here waits."""
    return wait is not None and wait > _LONGEST_WAIT


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait by a `Retry-After` header, which has a number or a date."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
