"""Which answers are the gateway's own, so that no replica has seen the request (pure).

A gateway and an application answer with the same status codes, and a request that reached a replica is never
sent again. The rules, in this order:

1. `x-envoy-upstream-service-time`: Envoy adds it to what a replica answered, and to nothing else
   (envoyproxy.io, "Router", HTTP headers). Never tried again, whatever status and body say.
2. `server: envoy` or `istio-envoy` and a 503 with one of Envoy's own texts: `no healthy upstream`, or
   `upstream connect error … reset reason: … connection failure` or `… timeout`. The connection was never made
   (source/common/http/utility.cc, `resetReasonToString`, names the reasons). `connection termination` and
   resets come after the request was sent, and with `retried and the latest` an earlier try of Envoy's own may
   have got through. No replica: tried again, with any method.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

__all__ = ["Refusal", "refusal"]

_FROM_A_REPLICA = "x-envoy-upstream-service-time"
_ENVOYS = frozenset({"envoy", "istio-envoy"})
_NO_REPLICA = re.compile(
    r"no healthy upstream"
    r"|upstream connect error or disconnect/reset before headers\. "
    # Older Envoys say neither `local` nor `remote`; what follows a comma is the transport's own reason.
    r"reset reason: ((local|remote) )?connection (failure|timeout)(, .*)?",
    re.DOTALL,
)
_TEXT = 512


class Refusal(enum.Enum):
    """Why a gateway answered by itself."""

    NO_REPLICA = "it has no replica that takes a connection"


def refusal(response: httpx.Response) -> Refusal | None:
    """Why the gateway answered this by itself; None if a replica did, or may have."""
    if _FROM_A_REPLICA in response.headers:
        return None
    if response.headers.get("server") in _ENVOYS:
        return _by_envoy(response)
    return None


def _by_envoy(response: httpx.Response) -> Refusal | None:
    if response.status_code == 503 and _NO_REPLICA.fullmatch(_text(response)):
        return Refusal.NO_REPLICA
    return None


def _text(response: httpx.Response) -> str:
    return response.content[:_TEXT].decode("utf-8", "replace").strip()
