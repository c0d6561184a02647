"""Which addresses of a Service take requests now (pure).

As kube-proxy decides (KEP-1669): the ready ones; when there is none, those that still serve while they
terminate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.ports import Manifest

__all__ = ["Addresses", "ready_addresses", "serving_addresses"]

Addresses: TypeAlias = tuple[tuple[str, int], ...]


def serving_addresses(backend: Backend, slices: Iterable[Manifest]) -> Addresses:
    """Address and port of each endpoint of a Service port that takes requests, in a stable order."""
    ready, leaving = _addresses(backend, slices)
    return ready or leaving


def ready_addresses(backend: Backend, slices: Iterable[Manifest]) -> Addresses:
    """Those that are ready and do not terminate: where whoever holds requests may send them."""
    return _addresses(backend, slices)[0]


def _addresses(backend: Backend, slices: Iterable[Manifest]) -> tuple[Addresses, Addresses]:
    """The ready ones, and those that still serve while they terminate."""
    ready: set[tuple[str, int]] = set()
    leaving: set[tuple[str, int]] = set()
    for piece in slices:
        port = _port(piece, backend.port_name)
        if port is None or piece.get("addressType") == "FQDN":
            continue
        for endpoint in piece.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            # Absent means ready (EndpointConditions), and `serving` follows `ready` when absent.
            is_ready = conditions.get("ready") is not False
            serving = conditions.get("serving", is_ready) is not False
            terminating = conditions.get("terminating") is True
            chosen = ready if is_ready and not terminating else leaving if serving and terminating else None
            if chosen is not None:
                chosen.update((address, port) for address in endpoint.get("addresses") or ())
    return tuple(sorted(ready)), tuple(sorted(leaving))


def _port(piece: Manifest, name: str) -> int | None:
    for port in piece.get("ports") or ():
        if (port.get("name") or "") == name:
            number = port.get("port")
            return number if isinstance(number, int) else None
    return None
