"""Statuses of GatewayClass, Gateway and HTTPRoute (pure).

Each function returns the whole status that an object should have; `lastTransitionTime` moves only when the
condition's status does. Types and reasons: Gateway API `apis/v1`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chalkcompute.local.gateway.attachment import Outcome
from chalkcompute.local.gateway.objects import CONTROLLER, GATEWAY_API, SUPPORTED_FEATURES, GatewayPorts
from chalkcompute.local.gateway.translate import RouteOutcome
from chalkcompute.local.ports import Manifest

__all__ = ["gateway_class_status", "gateway_status", "route_status"]

_ADDRESS = "127.0.0.1"
_PENDING = Outcome(False, "Pending", "Waiting for the gateway to start")


def gateway_class_status(obj: Manifest, now: str) -> Manifest:
    """Accepted, with the features that this gateway has."""
    accepted = Outcome(True, "Accepted", "Handled by the local cluster's gateway")
    return {
        **(obj.get("status") or {}),
        "conditions": _conditions(obj, obj.get("status") or {}, {"Accepted": accepted}, now),
        "supportedFeatures": [{"name": name} for name in SUPPORTED_FEATURES],
    }


def gateway_status(
    obj: Manifest, attached: Mapping[str, int], ports: GatewayPorts, *, serving: bool, now: str
) -> Manifest:
    """Accepted; Programmed while Envoy serves; one entry per listener."""
    old = obj.get("status") or {}
    programmed = Outcome(True, "Programmed", "Serving on loopback") if serving else _PENDING
    known = {listener["name"]: listener for listener in old.get("listeners") or ()}
    return {
        **old,
        "addresses": [{"type": "IPAddress", "value": _ADDRESS}],
        "conditions": _conditions(
            obj,
            old,
            {"Accepted": Outcome(True, "Accepted", "Gateway is accepted"), "Programmed": programmed},
            now,
        ),
        "listeners": [
            {
                "name": listener["name"],
                "supportedKinds": [{"group": GATEWAY_API, "kind": "HTTPRoute"}],
                "attachedRoutes": attached.get(listener["name"], 0),
                "conditions": _conditions(
                    obj, known.get(listener["name"]) or {}, _listener(listener, ports, programmed), now
                ),
            }
            for listener in obj["spec"]["listeners"]
        ],
    }


def _listener(listener: Manifest, ports: GatewayPorts, programmed: Outcome) -> dict[str, Outcome]:
    ours = {("HTTPS", ports.https), ("HTTP", ports.http)}
    resolved = Outcome(True, "ResolvedRefs", "All references are resolved")
    conflicted = Outcome(False, "NoConflicts", "No conflict with another listener")
    if (listener["protocol"], listener["port"]) in ours:
        accepted = Outcome(True, "Accepted", "Listener is accepted")
    else:
        accepted = Outcome(
            False,
            "PortUnavailable",
            f"this gateway listens on {ports.https} (HTTPS) and {ports.http} (HTTP) only",
        )
        programmed = Outcome(False, "Invalid", accepted.message)
    return {
        "Accepted": accepted,
        "Conflicted": conflicted,
        "Programmed": programmed,
        "ResolvedRefs": resolved,
    }


def route_status(outcome: RouteOutcome, now: str) -> Manifest | None:
    """The status of a route; None when it has never been ours, and so is none of our business."""
    route = outcome.route
    old = (route.get("status") or {}).get("parents") or []
    others = [parent for parent in old if parent.get("controllerName") != CONTROLLER]
    if not outcome.attachments and len(others) == len(old):
        return None
    mine = []
    for attachment in outcome.attachments:
        before: Manifest = next(
            (p for p in old if p.get("controllerName") == CONTROLLER and p["parentRef"] == attachment.parent),
            {},
        )
        wanted = {"Accepted": attachment.outcome, "ResolvedRefs": outcome.resolved}
        mine.append(
            {
                "parentRef": attachment.parent,
                "controllerName": CONTROLLER,
                "conditions": _conditions(route, before, wanted, now),
            }
        )
    return {"parents": others + mine}


def _conditions(
    obj: Manifest, old: Mapping[str, Any], wanted: Mapping[str, Outcome], now: str
) -> list[Manifest]:
    before: Iterable[Manifest] = old.get("conditions") or ()
    known = {condition["type"]: condition for condition in before}
    out = []
    for name, outcome in wanted.items():
        status = "True" if outcome.ok else "False"
        previous = known.get(name) or {}
        unchanged = previous.get("status") == status
        out.append(
            {
                "type": name,
                "status": status,
                "observedGeneration": obj["metadata"].get("generation", 1),
                "lastTransitionTime": previous["lastTransitionTime"] if unchanged else now,
                "reason": outcome.reason,
                "message": outcome.message,
            }
        )
    return out
