"""Rules of an HTTPRoute as Envoy routes (pure).

Semantics: Gateway API `HTTPRouteRule`, `HTTPRouteMatch`, `HTTPRouteFilter`, `HTTPRouteTimeouts`; what they
become: Envoy `config.route.v3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.gateway.resources import TYPE
from chalkcompute.local.ports import Manifest

__all__ = ["Entry", "entries", "seconds", "unsupported"]

_PREFIX = "PathPrefix"
_PATH_RANK = {"Exact": 0, "RegularExpression": 1, _PREFIX: 2}
_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_FILTERS = ("RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite")
# The CRD's own rule for Exact and PathPrefix values; Envoy refuses a prefix with `?` or `#`.
_PATH = re.compile(r"/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*")
_UNIT = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
# What Python's expressions have and RE2's have not: look-around, back-references, atomic groups,
# possessive quantifiers. Envoy would refuse the whole configuration for one of them.
_NOT_RE2 = re.compile(r"\(\?(?:[=!>#(]|<[=!]|P=)|\\[1-9Z]|[*+?}]\+")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_RE2_MAX_REPEAT = 1000

_RETRY_POLICY: dict[str, Any] = {
    # Only what no backend has seen: a request that was forwarded may have had its effect.
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 3,
    # A dead replica is the least busy one. Of two, each pick is it three times out of four: pick on.
    "host_selection_retry_max_attempts": 50,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": TYPE + "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One Envoy route with its precedence among those of the same host (smaller first)."""

    order: tuple[int, int, int, int, int]
    route: dict[str, Any]


def unsupported(route: Manifest) -> str | None:
    """What a route asks for that this gateway does not do, or None."""
    for index, rule in enumerate(route["spec"].get("rules") or ()):
        problem = _unsupported_rule(rule)
        if problem is not None:
            return f"rules[{index}]: {problem}"
    return None


def _unsupported_rule(rule: Manifest) -> str | None:
    for match in rule.get("matches") or ():
        conditions = [
            match.get("path") or {},
            *(match.get("headers") or ()),
            *(match.get("queryParams") or ()),
        ]
        path = match.get("path") or {}
        if path.get("type") != "RegularExpression" and not _PATH.fullmatch(path.get("value", "/")):
            return f"`{path['value']}` is not a path"
        for condition in conditions:
            if condition.get("type") == "RegularExpression" and not _is_re2(condition["value"]):
                return f"`{condition['value']}` is not a regular expression in RE2 syntax"
    for rule_filter in rule.get("filters") or ():
        if rule_filter["type"] not in _FILTERS:
            return f"filter {rule_filter['type']} is not supported"
        problem = _unsupported_headers(rule_filter)
        if problem is not None:
            return problem
    if any(ref.get("filters") for ref in rule.get("backendRefs") or ()):
        return "filters of a backendRef are not supported"
    for field in ("retry", "sessionPersistence"):
        if rule.get(field):
            return f"{field} is not supported"
    return None


def _unsupported_headers(rule_filter: Manifest) -> str | None:
    modifier = rule_filter.get("requestHeaderModifier") or rule_filter.get("responseHeaderModifier") or {}
    added = [header["name"].lower() for header in modifier.get("add") or ()]
    if "host" in (*added, *(name.lower() for name in modifier.get("remove") or ())):
        return "the Host header can be set, but neither added to nor removed"
    return None


def _is_re2(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, OverflowError):
        return False
    bounds = (int(n) for found in _REPEAT.finditer(pattern) for n in found.groups() if n)
    return not _NOT_RE2.search(pattern) and all(n <= _RE2_MAX_REPEAT for n in bounds)


def seconds(duration: str) -> float:
    """A Gateway API duration (GEP-2257), `1h10m`, `500ms`, as seconds."""
    return sum(float(n) * _UNIT[unit] for n, unit in re.findall(r"(\d+)(ms|h|m|s)", duration))


def entries(
    rule: Manifest,
    backends: Sequence[tuple[Backend | None, int]],
    ports: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[Entry]:
    """The Envoy routes of one rule: one per match.

    Args:
        rule: A rule that `unsupported` has no objection to.
        backends: Its backends with their weights, in order; None for one that cannot be resolved.
        ports: Where this gateway serves `https` and `http`, for a redirect to the other of the two.
    """
    matches: Sequence[Manifest] = rule.get("matches") or ({},)
    for match in matches:
        path = match.get("path") or {}
        kind, value = path.get("type", _PREFIX), path.get("value", "/")
        headers, query = match.get("headers") or (), match.get("queryParams") or ()
        order = (
            _PATH_RANK[kind],
            -len(value.rstrip("/") if kind == _PREFIX else value),
            0 if match.get("method") else 1,
            -len(headers),
            -len(query),
        )
        yield Entry(
            order, {"match": _match(match, kind, value), **_action(rule, kind, value, backends, ports)}
        )


def _match(match: Manifest, kind: str, value: str) -> dict[str, Any]:
    headers = [_header_match(header) for header in _first_of_each(match.get("headers") or ())]
    if match.get("method"):
        headers.append({"name": ":method", "string_match": {"exact": match["method"]}})
    out = _path_match(kind, value)
    if headers:
        out["headers"] = headers
    query = _first_of_each(match.get("queryParams") or ())
    if query:
        out["query_parameters"] = [{"name": q["name"], "string_match": _string_match(q)} for q in query]
    return out


def _path_match(kind: str, value: str) -> dict[str, Any]:
    if kind == "Exact":
        return {"path": value}
    if kind == "RegularExpression":
        return {"safe_regex": {"regex": value}}
    prefix = value.rstrip("/")  # `/foo/` means the same as `/foo`
    return {"path_separated_prefix": prefix} if prefix else {"prefix": "/"}


def _first_of_each(conditions: Sequence[Manifest]) -> list[Manifest]:
    """Of several conditions on one name only the first counts (Gateway API)."""
    first: dict[str, Manifest] = {}
    for condition in conditions:
        first.setdefault(condition["name"].lower(), condition)
    return list(first.values())


def _header_match(header: Manifest) -> dict[str, Any]:
    return {"name": header["name"].lower(), "string_match": _string_match(header)}


def _string_match(condition: Manifest) -> dict[str, Any]:
    if condition.get("type") == "RegularExpression":
        return {"safe_regex": {"regex": condition["value"]}}
    return {"exact": condition["value"]}


def _action(
    rule: Manifest,
    kind: str,
    value: str,
    backends: Sequence[tuple[Backend | None, int]],
    ports: Mapping[str, int],
) -> dict[str, Any]:
    filters: dict[str, Manifest] = {}
    for rule_filter in rule.get("filters") or ():
        filters.setdefault(rule_filter["type"], rule_filter)
    out: dict[str, Any] = {}
    request = (filters.get("RequestHeaderModifier") or {}).get("requestHeaderModifier") or {}
    response = (filters.get("ResponseHeaderModifier") or {}).get("responseHeaderModifier") or {}
    out.update(_header_changes("request", request))
    out.update(_header_changes("response", response))
    redirect = filters.get("RequestRedirect")
    if redirect is not None:
        return {**out, "redirect": _redirect(redirect.get("requestRedirect") or {}, value, ports)}
    action = _forward(backends)
    if action is None:
        return {**out, "direct_response": {"status": 500}}
    action["retry_policy"] = dict(_RETRY_POLICY)
    action.update(_timeouts(rule.get("timeouts") or {}, action["retry_policy"]))
    host = next((h["value"] for h in request.get("set") or () if h["name"].lower() == "host"), None)
    if host is not None:
        action["host_rewrite_literal"] = host
    rewrite = filters.get("URLRewrite")
    if rewrite is not None:
        action.update(_rewrite(rewrite.get("urlRewrite") or {}, kind, value))
    return {**out, "route": action}


def _forward(backends: Sequence[tuple[Backend | None, int]]) -> dict[str, Any] | None:
    """Where requests go; None when there is nowhere (Gateway API: 500)."""
    weighted = [(backend, weight) for backend, weight in backends if weight > 0]
    if not any(backend for backend, _ in weighted):
        return None
    if len(weighted) == 1:
        return {"cluster": weighted[0][0].cluster} if weighted[0][0] else None
    out: dict[str, Any] = {
        "weighted_clusters": {
            "clusters": [{"name": b.cluster if b else "unresolved", "weight": w} for b, w in weighted]
        }
    }
    if not all(backend for backend, _ in weighted):
        out["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
    return out


def _timeouts(timeouts: Manifest, retry_policy: dict[str, Any]) -> dict[str, Any]:
    """Unset stays unset: Envoy's own 15 s then hold, as on the gateways that are built on it."""
    request, backend = timeouts.get("request"), timeouts.get("backendRequest")
    if backend is not None and seconds(backend) > 0:
        retry_policy["per_try_timeout"] = _duration(seconds(backend))
    whole = request if request is not None else backend
    if whole is None:
        return {}
    # The stream idle timeout (5 min) must not cut short what the route's own timeout allows.
    return {"timeout": _duration(seconds(whole)), "idle_timeout": "0s"}


def _duration(value: float) -> str:
    """A protobuf Duration in JSON."""
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"


def _header_changes(direction: str, modifier: Manifest) -> dict[str, Any]:
    changed = [
        (header, action)
        for field, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
        for header in modifier.get(field) or ()
        if not (direction == "request" and header["name"].lower() == "host")  # see host_rewrite_literal
    ]
    out: dict[str, Any] = {}
    if changed:
        out[f"{direction}_headers_to_add"] = [
            {
                # A percent sign would begin a substitution.
                "header": {"key": header["name"], "value": header["value"].replace("%", "%%")},
                "append_action": action,
            }
            for header, action in changed
        ]
    if modifier.get("remove"):
        out[f"{direction}_headers_to_remove"] = list(modifier["remove"])
    return out


def _redirect(redirect: Manifest, matched: str, ports: Mapping[str, int]) -> dict[str, Any]:
    out: dict[str, Any] = {"response_code": _REDIRECT_CODES[redirect.get("statusCode", 302)]}
    if redirect.get("scheme"):
        out["scheme_redirect"] = redirect["scheme"]
    if redirect.get("hostname"):
        out["host_redirect"] = redirect["hostname"]
    if redirect.get("port"):
        out["port_redirect"] = redirect["port"]
    elif redirect.get("scheme") in ports and not redirect.get("hostname"):
        # Gateway API means the scheme's well-known port, where a gateway of this machine does not listen.
        out["port_redirect"] = ports[redirect["scheme"]]
    path: Mapping[str, Any] = redirect.get("path") or {}
    if path.get("type") == "ReplaceFullPath":
        out["path_redirect"] = path["replaceFullPath"]
    elif path.get("type") == "ReplacePrefixMatch":
        out.update(_replace_prefix(matched, path["replacePrefixMatch"]))
    return out


def _rewrite(rewrite: Manifest, kind: str, matched: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if rewrite.get("hostname"):
        out["host_rewrite_literal"] = rewrite["hostname"]
    path: Mapping[str, Any] = rewrite.get("path") or {}
    if path.get("type") == "ReplaceFullPath":
        out["regex_rewrite"] = _regex_rewrite("^/.*$", path["replaceFullPath"])
    elif path.get("type") == "ReplacePrefixMatch" and kind == _PREFIX:
        out.update(_replace_prefix(matched, path["replacePrefixMatch"]))
    return out


def _replace_prefix(matched: str, replacement: str) -> dict[str, Any]:
    """`/foo` by `/bar`: `/foo/x` becomes `/bar/x`; by `/`: `/x`, and not `//x`."""
    prefix, new = matched.rstrip("/"), replacement.rstrip("/")
    if not new:
        return {"regex_rewrite": _regex_rewrite(f"^{re.escape(prefix)}/*", "/")}
    return {"prefix_rewrite": new if prefix else new + "/"}


def _regex_rewrite(pattern: str, substitution: str) -> dict[str, Any]:
    return {"pattern": {"regex": pattern}, "substitution": substitution.replace("\\", "\\\\")}
