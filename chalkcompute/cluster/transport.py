"""One HTTP exchange with the API server over the official client; the only importer of `kubernetes`.

Raw dicts go through `DynamicClient.request` with a discoverer that does nothing: of all the ways
into the client it is the one whose behaviour is the same from release 31 to 37, and it costs no
discovery. The import is delayed to the first request, it takes 0.2 s.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from chalkcompute.cluster.kubeconfig import Connection
from chalkcompute.cluster.reasons import api_error
from chalkcompute.errors import ApiError, ConnectionConfigError, UnreachableError

__all__ = ["OfficialTransport", "Request", "Response", "Transport", "clock_ahead", "connect", "official"]

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_ATTEMPTS = 4
_LONGEST_PAUSE = 10.0
_Received = TypeVar("_Received")
# Characters that YAML has only escaped, or takes for the end of a line.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_WARNING = re.compile(r'^\s*\d{3}\s+\S+\s+"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask.

    Attributes:
        method: HTTP method.
        path: Path below the server's URL, percent-encoded.
        query: Query parameters in order.
        body: JSON value, or None.
        content_type: Media type of the body.
        accept: Media types wanted.
        about: The same in words, for messages: `get deployments hello in namespace default`.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: object | None = None
    content_type: str = "application/json"
    accept: str = "application/json"
    about: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What came back: status, body, and the texts of the `Warning` headers."""

    status: int
    body: bytes
    warnings: tuple[str, ...] = ()

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ApiError: It is none: something else answers at this address.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            start = self.body[:40].decode("utf-8", "replace")
            raise ApiError(
                f"the answer is no JSON (it begins `{' '.join(start.split())}`)",
                status=self.status,
                hint="is this an API server, or a login page or a proxy in front of it?",
            ) from error


class Transport(Protocol):
    """Sends requests; every failure is one of `chalkcompute.errors`."""

    @property
    def server(self) -> str:
        """URL of the API server."""
        ...

    def send(self, request: Request) -> Response:
        """One request, one whole answer."""
        ...

    def lines(self, request: Request, *, read_timeout: float) -> Generator[bytes, None, None]:
        """The lines of an answer as they arrive; ends when nothing comes for `read_timeout` seconds."""
        ...


class OfficialTransport:
    """`Transport` over `kubernetes.dynamic.DynamicClient`.

    GET is tried again when the connection breaks or the server is busy; any method when the server
    turned it away with 429 and `Retry-After`, which it does before acting (as client-go does).

    Attributes:
        ahead: How far the server's clock is ahead of this machine's, at least, by its answers so far: what
            its objects say of times is by that clock. Zero before the first answer.
    """

    def __init__(self, connection: Connection, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._connection = connection
        self._sleep = sleep
        self._client: Any = None
        self.ahead = timedelta()

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._connection.server

    def close(self) -> None:
        """Close the connections that are kept for reuse; the next request opens new ones."""
        if self._client is not None:
            self._client.client.rest_client.pool_manager.clear()

    def send(self, request: Request) -> Response:
        """One request, one whole answer."""
        return self._exchange(request, (_CONNECT_SECONDS, _READ_SECONDS), _whole)

    def lines(self, request: Request, *, read_timeout: float) -> Generator[bytes, None, None]:
        """The lines of an answer as they arrive."""
        import urllib3

        raw = self._exchange(request, (_CONNECT_SECONDS, read_timeout), _untouched)
        rest = b""
        try:
            for chunk in raw.stream(amt=None, decode_content=True):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (line for line in whole if line.strip())
        except (urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ProtocolError):
            # Silence, or a connection cut by a proxy: both just end this reading; whoever watches
            # goes on from the last resourceVersion.
            return
        finally:
            raw.close()
        if rest.strip():
            yield rest

    def _exchange(
        self, request: Request, timeout: tuple[float, float], receive: Callable[[Any], _Received]
    ) -> _Received:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(request, timeout, receive)
            except (_BrokenError, _RefusedError) as error:
                pause = _pause(request, error, attempt)
                if pause is None or attempt == _ATTEMPTS:
                    raise error.public from error.__cause__
                self._sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(
        self, request: Request, timeout: tuple[float, float], receive: Callable[[Any], _Received]
    ) -> _Received:
        if self._client is None:
            self._client = connect(self._connection)
        import urllib3

        api_exception = official("client.exceptions").ApiException
        body, content_type = _encoded(request)
        try:
            sent = datetime.now(UTC)
            raw = self._client.request(
                request.method.lower(),
                request.path,
                body=body,
                query_params=list(request.query),
                header_params={"Accept": request.accept},
                content_type=content_type,
                serialize=False,
                _request_timeout=timeout,
            )
            self.ahead = clock_ahead(raw.headers.get("Date"), sent, datetime.now(UTC), self.ahead)
            return receive(raw)  # in here, too: a connection may break in the middle of the body
        except api_exception as error:
            if not error.status:  # the client's way to report a TLS failure
                raise self._unreachable(str(error.reason)) from error
            public = api_error(error.status, error.body, request=request.about)
            raise _RefusedError(public, _retry_after(error.headers)) from error
        except urllib3.exceptions.ProtocolError as error:
            raise _BrokenError(self._unreachable(str(error))) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(str(error)) from error

    def _unreachable(self, why: str) -> UnreachableError:
        hints = {
            "local": "start the local cluster: `chalk local up`",
            "in-cluster": "is the API server reachable from this pod?",
            "kubeconfig": "is the cluster running (the local one: `chalk local up`), and is a VPN or proxy "
            "needed? `--context` chooses another one",
        }
        return UnreachableError(
            f"cannot reach the API server `{self.server}` (context `{self._connection.context}`): "
            f"{_plain(why)}",
            hint=hints[self._connection.source],
        )


class _BrokenError(Exception):
    """The connection broke after the request had been sent."""

    def __init__(self, public: UnreachableError) -> None:
        super().__init__(str(public))
        self.public = public


class _RefusedError(Exception):
    """An answer of failure, with the seconds of its `Retry-After`, or None."""

    def __init__(self, public: ApiError, retry_after: float | None) -> None:
        super().__init__(str(public))
        self.public = public
        self.retry_after = retry_after


def _encoded(request: Request) -> tuple[object, str]:
    """Body and media type as the client is to be given them.

    It would write an apply patch as ASCII, and a character beyond U+FFFF as two escapes: fine in JSON, an
    error in YAML, which is what the server reads the patch as. With a parameter in the media type, which the
    server ignores (apiserver, `handlers/patch.go`), every release of the client passes bytes on as they are.
    """
    if not request.content_type.endswith("+yaml"):
        return request.body, request.content_type
    text = json.dumps(request.body, ensure_ascii=False, separators=(",", ":"))
    text = _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode(), f"{request.content_type}; charset=utf-8"


def clock_ahead(date: str | None, sent: datetime, received: datetime, before: timedelta) -> timedelta:
    """How far the server's clock is ahead, by the header `Date` of an answer (RFC 9110, section 6.6.1).

    It says the whole second in which the answer was made, some time between `sent` and `received`. Of what
    that leaves open, what was taken to be so before, else what is nearest to no difference at all.
    """
    try:
        second = parsedate_to_datetime(date) if date else None
    except (ValueError, TypeError):
        second = None
    if second is None or second.tzinfo is None:
        return before
    least, most = second - received, second + timedelta(seconds=1) - sent
    for known in (before, timedelta()):
        if least <= known <= most:
            return known
    return min(least, most, key=abs)


def _whole(raw: Any) -> Response:
    headers = raw.headers.getlist("Warning") if hasattr(raw.headers, "getlist") else []
    return Response(raw.status, raw.data, _warnings(headers))


def _untouched(raw: Any) -> Any:
    return raw


def _pause(request: Request, error: _BrokenError | _RefusedError, attempt: int) -> float | None:
    """Seconds until the next try, or None when there must be none."""
    if isinstance(error, _BrokenError):
        return 0.2 * attempt if request.method == "GET" else None
    if error.retry_after is None or error.retry_after > _LONGEST_PAUSE:
        return None
    if error.public.status == 429 or (error.public.status == 503 and request.method == "GET"):
        return error.retry_after
    return None


def _retry_after(headers: Any) -> float | None:
    value = headers.get("Retry-After") if headers is not None else None
    try:
        return max(0.0, float(value)) if value is not None else None
    except ValueError:
        return None


def _warnings(headers: Sequence[str]) -> tuple[str, ...]:
    found = (_WARNING.match(header) for header in headers)
    return tuple(match.group(1).replace('\\"', '"').replace("\\\\", "\\") for match in found if match)


def _plain(why: str) -> str:
    """The last clause of urllib3's message; what comes before it is object addresses."""
    text = " ".join(why.split())
    for marker in ("Failed to establish a new connection: ", "Failed to resolve "):
        if marker in text:
            text = text[text.index(marker) :]
    return re.sub(r"<[^<>]*object at 0x[0-9a-f]+>:? ?", "", text).rstrip(".")


def connect(connection: Connection) -> Any:
    """A `DynamicClient`; global state of the official client is not touched."""
    config, client, dynamic = official("config"), official("client"), official("dynamic")
    # The client logs every response body at DEBUG: values of Secrets would reach a log file.
    logging.getLogger("kubernetes.client.rest").setLevel(logging.INFO)
    configuration = type.__call__(client.Configuration)
    try:
        if connection.source == "in-cluster":
            config.load_incluster_config(client_configuration=configuration)
        else:
            with _plugin_heard(connection):
                config.load_kube_config(
                    config_file=os.pathsep.join(str(path) for path in connection.files),
                    context=connection.context_name,
                    client_configuration=configuration,
                )
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise ConnectionConfigError(
            f"the kubeconfig context `{connection.context}` cannot be used: {_plain(str(error))}",
            hint="`kubectl config view` shows it; `--context` chooses another one",
        ) from error
    # Retries are decided above, with Retry-After; the client's own would also log to stderr.
    configuration.retries = False
    if connection.proxy_url is None and _is_loopback(configuration.host):
        configuration.proxy = None  # as Go does, whatever HTTPS_PROXY says
    return dynamic.DynamicClient(client.ApiClient(configuration), discoverer=_no_discovery)


@contextlib.contextmanager
def _plugin_heard(connection: Connection) -> Iterator[None]:
    """A credential plugin that fails is only logged by the client, which then goes on without a credential.

    Raises:
        ConnectionConfigError: An error was logged.
    """
    said: list[str] = []
    ours = threading.get_ident()

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # The client logs to the root logger itself; other threads are none of this.
            if record.name == "root" and record.thread == ours:
                said.append(record.getMessage())

    handler = Keep(logging.ERROR)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
    if said:
        raise ConnectionConfigError(
            f"the credential plugin of the kubeconfig context `{connection.context}` fails: {said[0]}",
            hint="install it, or sign in with it; `kubectl config view` shows the user's `exec`",
        )


def official(module: str) -> Any:
    """A module of the official client, untyped: some of its releases have annotations, most have none."""
    return importlib.import_module(f"kubernetes.{module}")


def _no_discovery(client: object, cache_file: object) -> None:
    """Stands in for the client's discovery, which would cost two requests and a cache in /tmp."""


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
