"""Rules that a schema cannot say: the CEL expressions of CustomResourceDefinitions.

Here the Gateway API's; those of KEDA's HTTP add-on are in `rules_keda`.
"""

from __future__ import annotations

import re
from typing import Any

from chalkcompute.local.apimachinery.validation.problems import Problems
from chalkcompute.local.apimachinery.validation.rules_keda import check_interceptor_route

__all__ = ["check_rules"]

_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+")
_IN_PATH = ("//", "/./", "/../", "%2f", "%2F", "#")
_AT_END = ("/..", "/.")
_MATCHES_MAX = 128
_FILTERS = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "ExtensionRef": "extensionRef",
    "CORS": "cors",
}
_ONCE = ("CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite")
_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_PLAIN_PROTOCOLS = ("HTTP", "TCP", "UDP")


def check_rules(kind: str, obj: dict[str, Any], problems: Problems) -> None:
    """The rules of one kind; its schema already holds."""
    spec = obj.get("spec") or {}
    if kind == "HTTPRoute":
        _check_route(spec, problems)
    elif kind == "Gateway":
        _check_gateway(spec, problems)
    elif kind == "InterceptorRoute":
        check_interceptor_route(spec, problems)


def _check_route(spec: dict[str, Any], problems: Problems) -> None:
    _check_parents(spec.get("parentRefs") or [], problems)
    rules = spec.get("rules") or []
    if sum(len(rule.get("matches") or []) for rule in rules) > _MATCHES_MAX:
        problems.invalid(
            "spec.rules",
            "array",
            "While 16 rules and 64 matches per rule are allowed, the total number of matches "
            "across all rules in a "
            "route must be less than 128",
        )
    for index, rule in enumerate(rules):
        _check_rule(rule, f"spec.rules[{index}]", problems)


def _check_parents(parents: list[dict[str, Any]], problems: Problems) -> None:
    seen: dict[tuple[Any, ...], list[str]] = {}
    for parent in parents:
        key = tuple(parent.get(name) for name in ("group", "kind", "namespace", "name"))
        seen.setdefault(key, []).append(parent.get("sectionName") or "")
    for sections in seen.values():
        if len(sections) > 1 and "" in sections and any(sections):
            why = (
                "sectionName must be specified when parentRefs includes 2 or more references to the "
                "same parent"
            )
            problems.invalid("spec.parentRefs", "array", why)
        elif len(sections) != len(set(sections)):
            why = (
                "sectionName must be unique when parentRefs includes 2 or more references to the same parent"
            )
            problems.invalid("spec.parentRefs", "array", why)


def _check_rule(rule: dict[str, Any], field: str, problems: Problems) -> None:
    filters, backends = rule.get("filters") or [], rule.get("backendRefs") or []
    if backends and any(item.get("requestRedirect") is not None for item in filters):
        problems.invalid(field, "object", "RequestRedirect filter must not be used together with backendRefs")
    _check_filters(filters, f"{field}.filters", problems)
    for index, backend in enumerate(backends):
        below = f"{field}.backendRefs[{index}]"
        if not backend.get("group") and backend.get("kind") == "Service" and backend.get("port") is None:
            problems.invalid(below, "object", "Must have port for Service reference")
        _check_filters(backend.get("filters") or [], f"{below}.filters", problems)
    for index, match in enumerate(rule.get("matches") or []):
        if match.get("path") is not None:
            _check_path(match["path"], f"{field}.matches[{index}].path", problems)
    timeouts = rule.get("timeouts") or {}
    request, backend_request = _millis(timeouts.get("request")), _millis(timeouts.get("backendRequest"))
    if request and backend_request and backend_request > request:
        why = "backendRequest timeout cannot be longer than request timeout"
        problems.invalid(f"{field}.timeouts", "object", why)


def _check_filters(filters: list[dict[str, Any]], field: str, problems: Problems) -> None:
    types = [item.get("type") for item in filters]
    if "RequestRedirect" in types and "URLRewrite" in types:
        why = (
            "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both"
        )
        problems.invalid(field, "array", why)
    for name in _ONCE:
        if types.count(name) > 1:
            problems.invalid(field, "array", f"{name} filter cannot be repeated")
    for index, item in enumerate(filters):
        for name, member in _FILTERS.items():
            present, wanted = item.get(member) is not None, item.get("type") == name
            if present and not wanted:
                why = f"filter.{member} must be nil if the filter.type is not {name}"
                problems.invalid(f"{field}[{index}]", "object", why)
            if wanted and not present:
                why = f"filter.{member} must be specified for {name} filter.type"
                problems.invalid(f"{field}[{index}]", "object", why)


def _check_path(path: dict[str, Any], field: str, problems: Problems) -> None:
    kind, value = path.get("type"), path.get("value") or ""
    if kind not in ("Exact", "PathPrefix"):
        return
    types = "when type one of ['Exact', 'PathPrefix']"
    if not value.startswith("/"):
        problems.invalid(field, "object", f"value must be an absolute path and start with '/' {types}")
    for part in _IN_PATH:
        if part in value:
            problems.invalid(field, "object", f"must not contain '{part}' {types}")
    for end in _AT_END:
        if value.endswith(end):
            problems.invalid(field, "object", f"must not end with '{end}' {types}")
    if not _PATH.fullmatch(value):
        why = (
            f"must only contain valid characters (matching ^{_PATH.pattern}$) for types ['Exact', "
            "'PathPrefix']"
        )
        problems.invalid(field, "object", why)


def _check_gateway(spec: dict[str, Any], problems: Problems) -> None:
    listeners = spec.get("listeners") or []
    names = [listener.get("name") for listener in listeners]
    if len(names) != len(set(names)):
        problems.invalid("spec.listeners", "array", "Listener name must be unique within the Gateway")
    keys = [
        tuple(listener.get(name) or "" for name in ("port", "protocol", "hostname")) for listener in listeners
    ]
    if len(keys) != len(set(keys)):
        why = "Combination of port, protocol and hostname must be unique for each listener"
        problems.invalid("spec.listeners", "array", why)
    for index, listener in enumerate(listeners):
        _check_listener(listener, f"spec.listeners[{index}]", problems)


def _check_listener(listener: dict[str, Any], field: str, problems: Problems) -> None:
    protocol, tls = listener.get("protocol"), listener.get("tls")
    if protocol in _PLAIN_PROTOCOLS and tls is not None:
        why = "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']"
        problems.invalid("spec.listeners", "array", why)
    if protocol == "HTTPS" and tls is not None and tls.get("mode") not in (None, "", "Terminate"):
        problems.invalid("spec.listeners", "array", "tls mode must be Terminate for protocol HTTPS")
    if protocol in ("TCP", "UDP") and listener.get("hostname"):
        problems.invalid(
            "spec.listeners", "array", "hostname must not be specified for protocols ['TCP', 'UDP']"
        )
    if (
        tls is not None
        and tls.get("mode") == "Terminate"
        and not tls.get("certificateRefs")
        and not tls.get("options")
    ):
        why = "certificateRefs or options must be specified when mode is Terminate"
        problems.invalid(f"{field}.tls", "object", why)


def _millis(duration: Any) -> int:
    """A Gateway API duration (GEP-2257) in milliseconds; 0 for none."""
    if not isinstance(duration, str):
        return 0
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|h|m|s)", duration))
