"""The ways to a gateway: by its host name, and by the addresses that its Gateway shows.

A host name may not resolve here or resolve to something dead, a proxy may not let us through, and
`*.localhost` may be the name of another machine's gateway. As long as no connection was made nothing was
sent, so that another way is right for any request. By every way the Host header, the TLS server name, and
what the certificate is checked against are those of the URL.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from chalkcompute.errors import ChalkError, UnreachableError

if TYPE_CHECKING:
    import httpx

__all__ = ["NoWayError", "Reach"]

# Past this a connection is not slow but goes nowhere, and there may be another way.
_CONNECT_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class _Way:
    """One way: what it is called in messages, and the client that goes it."""

    name: str
    client: httpx.Client


class NoWayError(Exception):
    """No connection was made, by none of the ways.

    Attributes:
        failures: Each way, and why it did not work.
        addresses: The gateway's own addresses; None if nobody was to be asked for them.
    """

    def __init__(
        self, failures: Sequence[tuple[str, httpx.TransportError]], addresses: tuple[str, ...] | None
    ) -> None:
        super().__init__()
        self.failures = failures
        self.addresses = addresses

    @property
    def is_final(self) -> bool:
        """Whether waiting cannot mend it: somebody answered whose certificate is not to be trusted."""
        passing = [
            error
            for _, error in self.failures
            if not _is_caused_by(error, (ssl.SSLCertVerificationError, socket.gaierror))
        ]
        return not passing and any(
            _is_caused_by(error, ssl.SSLCertVerificationError) for _, error in self.failures
        )

    def explained(self, url: str) -> UnreachableError:
        """What was tried, and what to do."""
        tried = "; ".join(
            f"{name} does not resolve here"
            if _is_caused_by(error, socket.gaierror)
            else f"{name}: {str(error) or type(error).__name__}"
            for name, error in self.failures
        )
        if self.is_final:
            hint = "if the gateway's certificate is signed by your own authority, set CHALK_CA_FILE"
        elif self.addresses is None:
            hint = "see that this machine may connect to it"
        elif self.addresses:
            hint = "see that this machine may connect to it, or set CHALK_GATEWAY_ADDRESS to where it may"
        else:
            tried += "; the Gateway shows no address in its status"
            hint = (
                "point a wildcard DNS record of the gateway's domain at the gateway, or set "
                "CHALK_GATEWAY_ADDRESS to where it is"
            )
        return UnreachableError(f"cannot reach `{url}`: {tried}", hint=hint)


class Reach:
    """Goes the way that worked last, then the others; the gateway's addresses are asked for once, if ever.

    Args:
        host: The host of the URL.
        context: TLS, with the authorities to trust.
        timeout: Seconds for an answer.
        address: The only address to go to (CHALK_GATEWAY_ADDRESS), or None.
        addresses: The gateway's own addresses, for when its host name leads nowhere.
        transport: httpx transport instead of the network, for its host name.
    """

    def __init__(
        self,
        host: str,
        context: ssl.SSLContext,
        timeout: float,
        *,
        address: str | None = None,
        addresses: Callable[[], Sequence[str]] = tuple,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._context = context
        self._timeout = timeout
        self._stack = contextlib.ExitStack()
        self._ask = addresses if address is None else None
        self._addresses: tuple[str, ...] | None = None
        if address is not None:
            first = self._way(f"CHALK_GATEWAY_ADDRESS `{address}`", _at(address, context))
        elif transport is None and (host == "localhost" or host.endswith(".localhost")):
            # This machine, whatever a resolver or a proxy says: RFC 6761, section 6.3.
            first = self._way("this machine, which `*.localhost` means", _at("127.0.0.1", context))
        else:
            first = self._way("its host name", transport)
        self._ways = [first]

    def __enter__(self) -> Reach:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def send(self, build: Callable[[httpx.Client], httpx.Request]) -> httpx.Response:
        """The answer to a request.

        Raises:
            NoWayError: Nobody took a connection; nothing was sent.
            httpx.RequestError: The connection failed after it was made.
        """
        import httpx

        failures: list[tuple[str, httpx.TransportError]] = []
        for way in self._candidates():
            try:
                response = way.client.send(build(way.client))
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
                named = (
                    f"{way.name}, by way of the proxy" if isinstance(error, httpx.ProxyError) else way.name
                )
                failures.append((named, error))
            else:
                self._ways.sort(key=lambda each: each is not way)
                return response
        raise NoWayError(failures, self._addresses) from failures[0][1]

    def _candidates(self) -> Iterator[_Way]:
        yield from tuple(self._ways)
        if self._ask is None:
            return
        ask, self._ask = self._ask, None
        self._addresses = ()
        with contextlib.suppress(ChalkError):  # the cluster does not tell; that its gateway is away is said
            self._addresses = tuple(ask())
        for address in self._addresses:
            way = self._way(f"the Gateway's own address `{address}`", _at(address, self._context))
            self._ways.append(way)
            yield way

    def _way(self, name: str, transport: httpx.BaseTransport | None) -> _Way:
        """A way; with a transport of its own it heeds no proxy."""
        import httpx

        timeout = httpx.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_TIMEOUT))
        client = httpx.Client(transport=transport, timeout=timeout, verify=self._context)
        return _Way(name, self._stack.enter_context(client))


def _at(address: str, context: ssl.SSLContext) -> httpx.BaseTransport:
    """Connects to this address, whatever the URL's host resolves to."""
    import httpx

    inner = httpx.HTTPTransport(verify=context)

    class At(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            elsewhere = httpx.Request(
                request.method,
                request.url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": request.url.host},
            )
            return inner.handle_request(elsewhere)

        def close(self) -> None:
            inner.close()

    return At()


def _is_caused_by(error: BaseException, kind: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
