"""The listeners of Gateways that a route of a namespace may attach to, and which of them it is to be (pure).

Gateway API rules behind it: a listener with hostname `*.D` serves every host below D; its
`allowedRoutes.namespaces.from` is `Same` unless said otherwise; `sectionName` picks the listener.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from chalkcompute.errors import ConfigError
from chalkcompute.manifests.placement import Gateway
from chalkcompute.manifests.pods import condition
from chalkcompute.service.scope import Scope
from chalkcompute.service.selectors import selector_matches
from chalkcompute.types import Manifest

__all__ = ["SET_GATEWAY", "Listener", "choose", "described", "listeners", "wanted"]

SET_GATEWAY = "set CHALK_GATEWAY=namespace/name, or annotate the namespace with `chalk.ai/gateway`"


@dataclass(frozen=True, slots=True)
class Listener:
    """One listener that a route of our namespace may attach to."""

    gateway: Manifest
    section: str
    domain: str
    scheme: str
    port: int
    exact: bool

    def is_that_of(self, gateway: Gateway | None) -> bool:
        """Whether a route that is attached there is attached to this listener."""
        meta = self.gateway["metadata"]
        return gateway is not None and (
            gateway.namespace,
            gateway.name,
            gateway.section_name,
            gateway.domain,
        ) == (
            meta["namespace"],
            meta["name"],
            self.section,
            self.domain,
        )

    @property
    def label(self) -> str:
        """How messages name it."""
        meta = self.gateway["metadata"]
        return f"{meta['namespace']}/{meta['name']} (listener `{self.section}`, domain `{self.domain}`)"


def choose(
    scope: Scope, listeners: Iterable[Listener], recorded: Callable[[], Gateway | None]
) -> Listener | None:
    """The one HTTPS listener, else the one HTTP listener, else None.

    Of several, the one where the group is already; else those that a controller looks after.
    """
    found = list(listeners)
    for scheme in ("https", "http"):
        fitting = [listener for listener in found if listener.scheme == scheme]
        # A more specific hostname takes the requests of a wider one (Gateway API, `Listener.hostname`).
        fitting = [listener for listener in fitting if listener.exact] or fitting
        if len(fitting) > 1:
            current = recorded()
            fitting = [listener for listener in fitting if listener.is_that_of(current)] or fitting
        if len(fitting) > 1:
            fitting = [listener for listener in fitting if _is_looked_after(listener.gateway)] or fitting
        if len(fitting) > 1:
            raise _ambiguous(scope, fitting)
        if fitting:
            return fitting[0]
    return None


def _is_looked_after(gateway: Manifest) -> bool:
    """Whether a controller has taken it on: one of a class that nobody serves stays without status."""
    return any(condition(gateway, kind).get("status") == "True" for kind in ("Accepted", "Programmed"))


def _ambiguous(scope: Scope, fitting: list[Listener]) -> ConfigError:
    metas = [listener.gateway["metadata"] for listener in fitting]
    gateways = {(meta["namespace"], meta["name"]) for meta in metas}
    if len(gateways) == 1:
        ((where, name),) = gateways
        return ConfigError(
            f"several listeners of one gateway would do for namespace `{scope.namespace}`: "
            + "; ".join(listener.label for listener in fitting),
            hint=f"choose one: set CHALK_GATEWAY={where}/{name}/{fitting[0].section}",
        )
    return ConfigError(
        f"several gateways would do for namespace `{scope.namespace}`: "
        + "; ".join(listener.label for listener in fitting),
        hint=f"choose one: {SET_GATEWAY}",
    )


def listeners(scope: Scope, gateways: Iterable[Manifest], namespace: Manifest | None) -> Iterable[Listener]:
    """Those with a wildcard hostname that admit routes of the scope's namespace, HTTPS and HTTP."""
    for gateway in gateways:
        if gateway["metadata"].get("deletionTimestamp"):
            continue
        for listener in gateway.get("spec", {}).get("listeners") or ():
            scheme = {"HTTPS": "https", "HTTP": "http"}.get(listener.get("protocol", ""))
            domain = _domain(listener.get("hostname") or "", scope.gateway_domain)
            section = listener["name"]
            if scheme is None or domain is None or scope.gateway_section not in (None, section):
                continue
            if _admits(listener, gateway["metadata"]["namespace"], scope.namespace, namespace):
                exact = listener.get("hostname") == f"*.{domain}"
                yield Listener(gateway, section, domain, scheme, int(listener["port"]), exact)


def _domain(hostname: str, wanted: str | None) -> str | None:
    """The domain that a listener of this hostname gives, or None if it cannot serve `wanted`."""
    if wanted is None:
        return hostname[2:] if hostname.startswith("*.") else None
    if not hostname:
        return wanted
    below = hostname.removeprefix("*.")
    fits = hostname.startswith("*.") and (wanted == below or wanted.endswith("." + below))
    return wanted if fits else None


def _admits(
    listener: Mapping[str, object], gateway_namespace: str, ours: str, namespace: Manifest | None
) -> bool:
    allowed = listener.get("allowedRoutes")
    rules = allowed if isinstance(allowed, dict) else {}
    kinds = rules.get("kinds") or []
    if kinds and not any(kind.get("kind") == "HTTPRoute" for kind in kinds):
        return False
    namespaces = rules.get("namespaces") or {}
    source = namespaces.get("from", "Same")
    if source == "All":
        return True
    if source == "Selector":
        if namespace is None:
            return True  # its labels may not be read; the route's own status will tell
        return selector_matches(namespaces.get("selector") or {}, namespace["metadata"].get("labels") or {})
    return source == "Same" and gateway_namespace == ours


def wanted(scope: Scope) -> str:
    """What a listener needs, for the message that there is none."""
    if scope.gateway_domain is not None:
        return f"a hostname that covers `*.{scope.gateway_domain}`"
    return "a wildcard hostname (`*.domain`)"


def described(gateway: Manifest) -> str:
    """The listeners that a Gateway has, whether they would do or not."""
    found = gateway.get("spec", {}).get("listeners") or ()
    words = [
        f"`{listener['name']}` ({listener.get('protocol')}, hostname "
        f"`{listener.get('hostname') or 'any'}`, routes from "
        f"{((listener.get('allowedRoutes') or {}).get('namespaces') or {}).get('from', 'Same')})"
        for listener in found
    ]
    return ", ".join(words) or "no listener"
