"""One HTTP request to a group's URL, patient with a gateway that has no replica to send it to yet.

Only what never reached a replica is tried again: a connection that could not be made, and what the gateway
itself refused (`refusals`; while a group is new, also what GET, HEAD and OPTIONS cannot tell from that). A
gateway that holds requests to a group without a replica is given the time of a cold start to answer. What
a replica answers, 503 included, is returned at once; a connection that ended after the request was sent
fails at once, whatever the method.
"""

from __future__ import annotations

import functools
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ConfigError, UnreachableError
from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Gateway
from chalkcompute.service.outlook import is_asleep, is_hopeless, youth_left
from chalkcompute.service.reach import NoWayError, Reach
from chalkcompute.service.read import WayIn, find_record, way_in
from chalkcompute.service.refusals import Refusal, refusal, retry_after
from chalkcompute.service.request import Call, join
from chalkcompute.service.scope import Scope, World

if TYPE_CHECKING:
    import httpx

__all__ = ["call_group", "send_call"]

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 5.0
# A gateway that takes no connection at all is down, not cold: no use in waiting minutes for it.
_CONNECT_PATIENCE = 15.0
_LOOK_EVERY = 10.0


def call_group(
    cluster: Cluster,
    scope: Scope,
    name: str,
    call: Call,
    *,
    group_id: str | None,
    address: str | None,
    ca_file: Path | None,
    ways_in: dict[Gateway, WayIn],
    world: World,
) -> httpx.Response:
    """Send it to a group; see `ChalkClient.call`.

    Args:
        cluster: The cluster.
        scope: Where the group is.
        name: Its name.
        call: What to send.
        group_id: Its id, or None for whichever has the name.
        address: The only address to go to, or None.
        ca_file: PEM of the authorities to trust besides the system's; else what the Gateway advertises.
        ways_in: What is known of gateways already; added to.
        world: Clock and sleep.

    Raises:
        NotFoundError: There is no such group, or it has another id.
        ConfigError: `ca_file` cannot be read, or what is to be trusted is no certificate.
        UnreachableError: As of `send_call`.
        SpecError: As of `send_call`.
    """
    record = find_record(cluster, scope.namespace, name, group_id=group_id)

    def gateway() -> WayIn:
        known = ways_in.get(record.gateway)
        if known is None or not known.addresses:  # its load balancer may only just be coming
            known = ways_in[record.gateway] = way_in(cluster, record.gateway)
        return known

    return send_call(
        record.web_url,
        call,
        ca_pem=_read_pem(ca_file) if ca_file is not None else gateway().authority,
        address=address,
        addresses=lambda: gateway().addresses,
        is_asleep=lambda: is_asleep(cluster, record),
        is_hopeless=lambda: is_hopeless(cluster, scope, name, world=world),
        youth_left=lambda: youth_left(cluster, record, world=world),
        sleep=world.sleep,
        monotonic=world.monotonic,
    )


def send_call(
    web_url: str,
    call: Call,
    *,
    ca_pem: str | None = None,
    address: str | None = None,
    addresses: Callable[[], Sequence[str]] = tuple,
    is_asleep: Callable[[], bool] = lambda: False,
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
        address: The only address to go to, or None to go by the host name.
        addresses: The gateway's own addresses, for when its host name leads nowhere.
        is_asleep: Whether the request is held until a first replica is ready; asked before each attempt.
        is_hopeless: Whether the group will not get a replica by itself; asked every ten seconds.
        youth_left: Seconds for which the gateway may not know the group yet; asked at most once, and only
            after an answer that would be explained by it.
        transport: httpx transport instead of the network, for the host name.
        sleep: Wait that many seconds.
        monotonic: Seconds, for time limits.

    Raises:
        UnreachableError: No connection, a TLS failure, or no answer within `timeout`.
        SpecError: The request cannot be made.
    """
    import httpx

    url = join(web_url, call.path)
    patience = _Patience(call, is_hopeless, youth_left, monotonic)
    host, context = httpx.URL(web_url).host, _context(ca_pem)
    with Reach(
        host, context, call.timeout, address=address, addresses=addresses, transport=transport
    ) as reach:
        while True:
            began = monotonic()
            held = patience.left() if is_asleep() else 0.0
            build = functools.partial(call.build, web_url=web_url, held=held)
            try:
                response = reach.send(build)
            except NoWayError as error:
                if error.is_final or not patience.after_no_connection(began):
                    raise error.explained(url) from error
            except httpx.RequestError as error:
                why = str(error) or type(error).__name__
                raise UnreachableError(f"no answer from `{url}`: {why}") from error
            else:
                if not patience.after(refusal(call.method, response), retry_after(response)):
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
        self._cold_end = monotonic() + call.cold_start_timeout
        self._end = self._cold_end if call.replayable else monotonic()
        self._looked = monotonic()
        self._known_until: float | None = None
        self._down_since: float | None = None
        self._next_pause = _FIRST_PAUSE
        self._least_pause = 0.0
        self._room = 0.0

    def left(self) -> float:
        """Seconds that a request may be held: it may be one that can be sent only once."""
        return max(0.0, self._cold_end - self._monotonic())

    def after(self, refused: Refusal | None, retry_after: float | None) -> bool:
        """Whether to try again after an answer that was refused for this reason, or was not.

        `retry_after` are the seconds that a refusal by an activator asks for.
        """
        self._down_since = None
        if refused is None or self._monotonic() >= self._end:
            return False
        if refused is Refusal.NO_REPLICA:
            return self._lasts(self._end)
        if refused is Refusal.NOT_HELD:
            self._least_pause = retry_after or 0.0
            # Sooner than it says it would only say so again.
            return self._lasts(self._end) and self._least_pause <= self._room
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
        pause = max(min(self._next_pause, self._room), self._least_pause)
        self._least_pause = 0.0
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
        try:
            context.load_verify_locations(cadata=ca_pem)
        except ssl.SSLError as error:
            raise ConfigError(
                "what the gateway's certificate is to be checked against is no certificate in PEM form",
                hint=f"see CHALK_CA_FILE, or else the Gateway's annotation `{labels.CA_ANNOTATION}`",
            ) from error
    return context


def _read_pem(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read CHALK_CA_FILE `{path}`: {error}") from error
