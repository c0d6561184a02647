"""Host names of listeners and routes, and what they have in common (Gateway API, `Hostname`)."""

from __future__ import annotations

__all__ = ["intersection"]


def intersection(listener: str | None, routes: list[str]) -> tuple[str, ...]:
    """The hosts that a listener of this hostname serves for a route of these; "*" is every host.

    None or an empty list means no restriction on that side.
    """
    if not routes:
        return (listener.lower() if listener else "*",)
    common = (_common(listener.lower() if listener else None, route.lower()) for route in routes)
    return tuple(dict.fromkeys(host for host in common if host is not None))


def _common(listener: str | None, route: str) -> str | None:
    """The narrower of the two where one covers the other, else None."""
    if listener is None or _covers(listener, route):
        return route
    return listener if _covers(route, listener) else None


def _covers(wide: str, narrow: str) -> bool:
    """Whether `wide` covers `narrow`; `*.a` covers `x.a`, `x.y.a` and `*.y.a`, but not `a`."""
    if wide == narrow:
        return True
    return wide.startswith("*.") and narrow.removeprefix("*").endswith(wide[1:]) and narrow != wide[2:]
