"""Which answers are the gateway's own, so that no replica has seen the request (pure).

A gateway and an application answer with the same status codes, and a request that reached a replica is never
sent again. The rules, in this order:

1. 503 with `x-chalk-activator` and `Retry-After`: the local cluster's activator, which had held the request
   for a first replica and gives it back (docs/guides/local-cluster.md). It is a server behind Envoy, so that
   rule 2 would take it for a replica; none has seen the request. Tried again, with any method, not before the
   time that it says.
2. `x-envoy-upstream-service-time`: Envoy adds it to what a replica answered, and to nothing else
   (envoyproxy.io, "Router", HTTP headers). Never tried again, whatever status and body say.
3. `server: envoy` or `istio-envoy` and a 503 with one of Envoy's own texts: `no healthy upstream`, or
   `upstream connect error … reset reason: … connection failure` or `… timeout`. The connection was never made
   (source/common/http/utility.cc, `resetReasonToString`, names the reasons); `connection termination` and
   resets come after the request was sent. `retried and the latest` is said by a gateway that tries again by
   itself, as the embedded one and Istio's do when no connection was made: what it may send a second time by
   a rule of its own, it may send a third time. No replica: tried again, with any method.
4. Only while the gateway may still be catching up with a new group (`Accepted` and `Available` speak of the
   control plane; `outlook.YOUTH` says how long), what it says before it knows the route or a replica of it:
   a. Envoy's 404: no content, no header but its own; with any method. Where Envoy is told to hide the header
      of rule 2, as Envoy Gateway does by default, an application's 404 that is as bare looks just alike.
   b. One of `_OWN_PAGES`, with any method: whichever proxy wrote it, the request got no further.
   c. Any other 404, 502 or 503 of a gateway that is not Envoy, with GET, HEAD and OPTIONS. It may be the
      application's own, but asking again changes nothing there (RFC 9110, section 9.2.1).

The interceptor of KEDA's HTTP add-on, which holds requests on other clusters, ends a wait with a bare 504 or
502 (its interceptor/handler/static.go), as applications and their proxies do too: it cannot be told apart for
sure, and is not tried again.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

__all__ = ["Refusal", "refusal", "retry_after"]

_ACTIVATOR = "x-chalk-activator"
_FROM_A_REPLICA = "x-envoy-upstream-service-time"
_ENVOYS = frozenset({"envoy", "istio-envoy"})
_NO_REPLICA = re.compile(
    r"no healthy upstream"
    r"|upstream connect error or disconnect/reset before headers\. "
    # Older Envoys say neither `local` nor `remote`; what follows a comma is the transport's own reason.
    r"(retried and the latest )?reset reason: ((local|remote) )?connection (failure|timeout)(, .*)?",
    re.DOTALL,
)
_OWN_PAGES = (
    # Traefik: a service without servers (pkg/server/service/loadbalancer, `errNoAvailableServer`)
    (503, re.compile(r"no available server")),
    # NGINX Gateway Fabric: a Service without endpoints (nginx/nginx-gateway-fabric#2696)
    (503, re.compile(r"<html>.*<center>nginx.*", re.DOTALL)),
    # HAProxy: no server that takes a connection (its configuration manual, the list of status codes)
    (503, re.compile(r"<html>.*No server is available to handle this request\..*", re.DOTALL)),
    # Google's load balancers, which are Envoys that do not say so: no endpoint, no route
    (503, re.compile(r"no healthy upstream")),
    (404, re.compile(r"fault filter abort")),
    # Kong: no route
    (404, re.compile(r'\{\s*"message":\s*"no Route matched with those values".*', re.DOTALL)),
)
_BARE = frozenset({"alt-svc", "connection", "content-length", "date", "server"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TEXT = 512
_SECONDS = re.compile(r"[0-9]{1,6}")


class Refusal(enum.Enum):
    """Why a gateway answered by itself."""

    NO_REPLICA = "no replica took the connection"
    NOT_HELD = "no replica was ready in time, or too many requests waited for one"
    PERHAPS_NOT_KNOWN = "if the group is new to it, it knows no route or no replica yet"


def refusal(method: str, response: httpx.Response) -> Refusal | None:
    """Why the gateway answered this by itself; None if a replica did, or may have."""
    if _ACTIVATOR in response.headers and retry_after(response) is not None:
        return Refusal.NOT_HELD
    if _FROM_A_REPLICA in response.headers:
        return None
    status = response.status_code
    if response.headers.get("server") in _ENVOYS:
        return _by_envoy(method, response)
    if any(status == each and page.fullmatch(_text(response)) for each, page in _OWN_PAGES):
        return Refusal.PERHAPS_NOT_KNOWN
    if status in (404, 502, 503) and method.upper() in _SAFE:
        return Refusal.PERHAPS_NOT_KNOWN
    return None


def retry_after(response: httpx.Response) -> float | None:
    """Seconds after which a 503 says that the request may be sent again; None if it does not say."""
    text = response.headers.get("retry-after", "") if response.status_code == 503 else ""
    return float(text) if _SECONDS.fullmatch(text) else None


def _by_envoy(method: str, response: httpx.Response) -> Refusal | None:
    if response.status_code == 503:
        cold = _NO_REPLICA.fullmatch(_text(response)) or (
            method.upper() == "HEAD" and _is_head_of_cold(response)
        )
        return Refusal.NO_REPLICA if cold else None
    if response.status_code == 404 and not response.content and _BARE.issuperset(response.headers):
        return Refusal.PERHAPS_NOT_KNOWN
    return None


def _is_head_of_cold(response: httpx.Response) -> bool:
    """Without the text there is its length, which Envoy says all the same."""
    return bool(response.headers.get("content-length") == str(len("no healthy upstream")))


def _text(response: httpx.Response) -> str:
    return response.content[:_TEXT].decode("utf-8", "replace").strip()
