"""Causes on the way in: the HTTPRoute, the Gateway, the autoscaler that lifts a group from zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalkcompute.manifests.live import LiveGroup, Unasked
from chalkcompute.manifests.placement import Gateway
from chalkcompute.manifests.pods import condition
from chalkcompute.manifests.scaler import keda_trouble
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Cause, Evidence, Manifest, Verdict

__all__ = ["RouteState", "autoscaler_verdict", "route_state", "route_verdict"]

_REFUSED_SECONDS = 30  # a Service, a grant or a listener may only just be coming
_SILENT_SECONDS = 15
_SILENT_TERMINAL_SECONDS = 120  # cloud gateways take their time over the first status

_MEANING = {
    "NotAllowedByListeners": "its listener does not admit routes from this namespace (`allowedRoutes`)",
    "NoMatchingListenerHostname": "the listener's hostname does not cover the group's host",
    "NoMatchingParent": "the Gateway has no listener of that name (`sectionName`)",
    "BackendNotFound": "the Service it points to does not exist",
    "RefNotPermitted": "no ReferenceGrant lets it point into the other namespace",
    "UnsupportedValue": "the gateway does not support a value in it",
    "IncompatibleFilters": "the gateway cannot combine its filters",
}


@dataclass(frozen=True, slots=True)
class RouteState:
    """What the gateway says of the route as it is now.

    Attributes:
        accepted: True when accepted with all references resolved; False when refused; None when not decided.
        reason: The condition's reason when refused, or when it is there and not decided.
        message: Its message.
        since: When that began.
        answered: Whether a controller has written anything for our parent.
    """

    accepted: bool | None
    reason: str = ""
    message: str = ""
    since: datetime | None = None
    answered: bool = True


def route_state(route: Manifest, gateway: Gateway) -> RouteState:
    """The status of the route at our parent, by conditions about its current generation only."""
    generation = route["metadata"].get("generation", 0)
    refused, undecided = None, RouteState(None, answered=False)
    for parent in (route.get("status") or {}).get("parents") or ():
        if not _is_ours(parent.get("parentRef") or {}, route, gateway):
            continue
        found = {c["type"]: c for c in _current(parent.get("conditions") or (), generation)}
        for kind in ("Accepted", "ResolvedRefs"):
            if found.get(kind, {}).get("status") == "False":
                bad = found[kind]
                moment = parse_time(bad.get("lastTransitionTime"))
                refused = RouteState(False, bad.get("reason", ""), bad.get("message", ""), moment)
                break
        else:
            accepted = found.get("Accepted", {})
            if accepted.get("status") == "True":
                return RouteState(True)
            undecided = RouteState(None, accepted.get("reason", ""), accepted.get("message", ""))
    return refused or undecided


def _is_ours(ref: Mapping[str, Any], route: Manifest, gateway: Gateway) -> bool:
    return (
        ref.get("name") == gateway.name
        and ref.get("namespace", route["metadata"].get("namespace")) == gateway.namespace
        and ref.get("sectionName", gateway.section_name) == gateway.section_name
    )


def _current(conditions: Sequence[Mapping[str, Any]], generation: int) -> list[Mapping[str, Any]]:
    return [c for c in conditions if c.get("observedGeneration", generation) >= generation]


def route_verdict(live: LiveGroup, now: datetime) -> Verdict | None:
    """Why requests do not reach the group, or None when they do or nobody asked."""
    gateway = live.record.gateway
    if (missing := _gateway_verdict(live.gateway, gateway)) is not None and missing.terminal:
        return missing
    if isinstance(live.route, Unasked):
        return missing
    if live.route is None:
        return None if live.own_deployment is None else _no_route(live, now)
    state = route_state(live.route, gateway)
    if state.accepted:
        return missing
    if state.accepted is False:
        return _refused(state, live, now)
    return missing or _silent(live.route, state, live, now)


def _gateway_verdict(found: Manifest | Unasked | None, gateway: Gateway) -> Verdict | None:
    where = f"Gateway `{gateway.name}` in namespace `{gateway.namespace}`"
    if isinstance(found, Unasked):
        return None
    if found is None:
        return Verdict(
            cause=Cause.NO_GATEWAY,
            message=f"{where} does not exist",
            next="have it created, or name another with `CHALK_GATEWAY=namespace/name` and deploy again",
            terminal=True,
        )
    for kind in ("Accepted", "Programmed"):
        state = condition(found, kind)
        if state.get("status") == "False":
            text = state.get("message", "")
            return Verdict(
                cause=Cause.NO_GATEWAY,
                message=f"{where} is not {kind.lower()}: {state.get('reason')}"
                + (f", {text}" if text else ""),
                evidence=(Evidence(kind="condition", reason=state.get("reason"), lines=(text,)),),
                next="ask whoever runs the gateway",
                terminal=False,
            )
    return None


def _no_route(live: LiveGroup, now: datetime) -> Verdict | None:
    # The record of a deploy that is done says that none is under way: then the route was there, and is gone.
    if live.record.operation and live.seconds_for(live.record.updated_at, now) < _REFUSED_SECONDS:
        return None
    return Verdict(
        cause=Cause.ROUTE_NOT_ACCEPTED,
        message=f"the HTTPRoute `{live.record.name}` does not exist",
        next="deploy again: that creates it",
        terminal=True,
    )


def _refused(state: RouteState, live: LiveGroup, now: datetime) -> Verdict:
    gateway = live.record.gateway
    meaning = _MEANING.get(state.reason) or state.message.rstrip(".") or "no reason given"
    return Verdict(
        cause=Cause.ROUTE_NOT_ACCEPTED,
        message=f"Gateway `{gateway.namespace}/{gateway.name}` does not accept the route: {state.reason}, "
        + meaning,
        evidence=(Evidence(kind="condition", reason=state.reason, lines=(state.message,)),),
        next="correct the gateway's listener, or choose another with `CHALK_GATEWAY=namespace/name`",
        terminal=live.seconds_for(state.since, now) >= _REFUSED_SECONDS,
    )


def _silent(route: Manifest, state: RouteState, live: LiveGroup, now: datetime) -> Verdict | None:
    gateway = live.record.gateway
    age = live.seconds_for(parse_time(route["metadata"].get("creationTimestamp")), now)
    if age < _SILENT_SECONDS:
        return None
    if state.answered:
        why = f": {state.reason}" + (f", {state.message}" if state.message else "") if state.reason else ""
        return Verdict(
            cause=Cause.ROUTE_NOT_ACCEPTED,
            message=f"Gateway `{gateway.namespace}/{gateway.name}` has not decided on the route yet{why}",
            evidence=(
                Evidence(kind="object", lines=("HTTPRoute `status.parents` is not about its generation",)),
            ),
            next="wait; if it stays so, ask whoever runs the gateway",
            terminal=False,
        )
    return Verdict(
        cause=Cause.ROUTE_NOT_ACCEPTED,
        message=f"no controller has answered for the route at Gateway `{gateway.namespace}/{gateway.name}`",
        evidence=(
            Evidence(kind="object", lines=("HTTPRoute `status.parents` has no entry for this Gateway",)),
        ),
        next="check that the controller of the Gateway's class runs",
        terminal=age >= _SILENT_TERMINAL_SECONDS,
    )


def autoscaler_verdict(live: LiveGroup, now: datetime) -> Verdict | None:
    """KEDA cannot lift the group from zero."""
    trouble = keda_trouble(live, now)
    if trouble is None:
        return None
    said = trouble.said or trouble.text
    return Verdict(
        cause=Cause.AUTOSCALER_NOT_READY,
        message=trouble.text,
        evidence=(Evidence(kind="condition", reason=trouble.reason, lines=(said,)),)
        if trouble.reason
        else (),
        next=trouble.next,
        terminal=False,
    )
