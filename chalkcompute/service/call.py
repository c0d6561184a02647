"""One HTTP request to a group's URL, patient with a gateway that has no replica to send it to yet.

Only what never reached a replica is tried again: a connection that could not be made, and what the gateway
itself refused (`refusals`; while a group is new, also what GET, HEAD and OPTIONS cannot tell from that). What
a replica answers, 503 included, is returned at once, and a connection that ended after the request was sent
fails at once, whatever the method.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from chalkcompute.errors import UnreachableError
from chalkcompute.service.refusals import Refusal, refusal
from chalkcompute.service.request import Call, join

if TYPE_CHECKING:
    import httpx

__all__ = ["send_call"]

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
# A gateway that takes no connection at all is down, not cold: no use in waiting minutes for it.
_CONNECT_PATIENCE = 15.0
_LOOK_EVERY = 10.0


def send_call(
    web_url: str,
    call: Call,
    *,
    ca_pem: str | None = None,
    addresses: Callable[[], Sequence[str]] = tuple,
    is_hopeless: Callable[[], bool] = lambda: False,
    youth_left: Callable[[], float] = lambda: 0.0,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> httpx.Response:
    """Send it; the response's `url` is the public one.

    Args:
        web_url: The group's URL.
        call: What to send.
        ca_pem: Certificate authorities to trust besides the system's, PEM.
        addresses: The gateway's own addresses, for when the host name does not resolve from here.
        is_hopeless: Whether the group will not get a replica by itself; asked every ten seconds.
        youth_left: Seconds for which the gateway may not know the group yet; asked at most once, and only
            after an answer that would be explained by it.
        transport: httpx transport instead of the network.
        sleep: Wait that many seconds.
        monotonic: Seconds, for time limits.

    Raises:
        UnreachableError: No connection, a TLS failure, or no answer within `timeout`.
        SpecError: The request cannot be made.
    """
    import httpx

    url = join(web_url, call.path)
    context = _context(ca_pem)
    patience = _Patience(call, is_hopeless, youth_left, monotonic)
    known: tuple[str, ...] | None = None
    with contextlib.ExitStack() as stack:

        def connect(through: httpx.BaseTransport | None) -> httpx.Client:
            client = httpx.Client(transport=through, timeout=call.timeout, verify=context)
            return stack.enter_context(client)

        client = connect(transport if transport is not None else _loopback(httpx.URL(url), context))
        while True:
            began = monotonic()
            try:
                response = client.send(call.build(client, web_url))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if known is None and _is_unresolved(error):
                    known = tuple(addresses())
                    if known:
                        client = connect(_at(known, context))
                        continue
                if _is_tls_failure(error) or not patience.after_no_connection(began):
                    raise _unreachable(url, error, known) from error
            except httpx.RequestError as error:
                raise _unreachable(url, error, known) from error
            else:
                if not patience.after(refusal(call.method, response)):
                    return response
            sleep(patience.pause())


class _Patience:
    """How long to go on trying: until when depends on what went wrong, and `cold_start_timeout` ends all."""

    def __init__(
        self,
        call: Call,
        is_hopeless: Callable[[], bool],
        youth_left: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._is_hopeless = is_hopeless
        self._youth_left = youth_left
        self._monotonic = monotonic
        self._end = monotonic() + (call.cold_start_timeout if call.replayable else 0.0)
        self._looked = monotonic()
        self._known_until: float | None = None
        self._down_since: float | None = None
        self._next_pause = _FIRST_PAUSE
        self._room = 0.0

    def after(self, refused: Refusal | None) -> bool:
        """Whether to try again after an answer that was refused for this reason, or was not."""
        self._down_since = None
        if refused is None or self._monotonic() >= self._end:
            return False
        if refused is Refusal.NO_REPLICA:
            return self._lasts(self._end)
        if self._known_until is None:
            self._known_until = self._monotonic() + self._youth_left()
        return self._lasts(self._known_until)

    def after_no_connection(self, began: float) -> bool:
        """Whether to try again after an attempt, begun then, that made no connection."""
        if self._down_since is None:
            self._down_since = began
        return self._lasts(self._down_since + _CONNECT_PATIENCE)

    def pause(self) -> float:
        """Seconds until the next attempt: each pause twice as long as the one before, the last one cut."""
        pause = min(self._next_pause, self._room)
        self._next_pause = min(self._next_pause * 2, _LONGEST_PAUSE)
        return pause

    def _lasts(self, until: float) -> bool:
        now = self._monotonic()
        self._room = min(until, self._end) - now
        if self._room <= 0:
            return False
        if now - self._looked < _LOOK_EVERY:
            return True
        self._looked = now
        return not self._is_hopeless()


def _context(ca_pem: str | None) -> ssl.SSLContext:
    import httpx

    context = httpx.create_ssl_context()
    if ca_pem is not None:
        context.load_verify_locations(cadata=ca_pem)
    return context


def _loopback(url: httpx.URL, context: ssl.SSLContext) -> httpx.BaseTransport | None:
    """For `*.localhost` this machine, whatever a resolver or a proxy says (RFC 6761); else httpx's own."""
    if not (url.host == "localhost" or url.host.endswith(".localhost")):
        return None
    return _at(("127.0.0.1",), context)


def _at(addresses: Sequence[str], context: ssl.SSLContext) -> httpx.BaseTransport:
    """Connects to the first of these addresses that answers, whatever the URL's host resolves to.

    Host header, TLS server name and what the certificate is checked against are those of the URL.
    """
    import httpx

    inner = httpx.HTTPTransport(verify=context)

    class At(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            for address in addresses[:-1]:
                with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):  # nothing was sent yet
                    return inner.handle_request(self._to(address, request))
            return inner.handle_request(self._to(addresses[-1], request))

        def _to(self, address: str, request: httpx.Request) -> httpx.Request:
            return httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": request.url.host},
            )

        def close(self) -> None:
            inner.close()

    return At()


def _is_unresolved(error: BaseException) -> bool:
    return any(isinstance(each, socket.gaierror) for each in _chain(error))


def _is_tls_failure(error: BaseException) -> bool:
    return any(isinstance(each, ssl.SSLError) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _unreachable(url: str, error: Exception, known: Sequence[str] | None) -> UnreachableError:
    why = str(error) or type(error).__name__
    hint = None
    if _is_tls_failure(error):
        hint = "if the gateway's certificate is signed by your own authority, set CHALK_CA_FILE"
    elif known:
        why += f" (its host name does not resolve here, and the Gateway's own {_listed(known)} was tried)"
        hint = "point DNS at the gateway, and see that this machine may connect to it"
    elif known is not None:
        why += " (its host name does not resolve here, and the Gateway has no address in its status)"
        hint = "point a wildcard DNS record of the gateway's domain at the gateway"
    return UnreachableError(f"cannot reach `{url}`: {why}", hint=hint)


def _listed(addresses: Sequence[str]) -> str:
    return ", ".join(f"`{address}`" for address in addresses)
