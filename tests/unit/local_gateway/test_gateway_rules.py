from __future__ import annotations

from typing import Any

import pytest

from chalkcompute.local.gateway.attachment import Backend
from chalkcompute.local.gateway.rules import entries, seconds, unsupported
from tests.unit.local_gateway.objects_of_a_cluster import a_route

WEB = Backend("default", "web", 8000, "http")
OTHER = Backend("default", "other", 8000, "http")


def only_route(rule: dict[str, Any], *backends: tuple[Backend | None, int]) -> dict[str, Any]:
    (entry,) = entries(rule, backends or ((WEB, 1),))
    return entry.route


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({}, {"prefix": "/"}),
        ({"path": {"type": "PathPrefix", "value": "/"}}, {"prefix": "/"}),
        ({"path": {"type": "PathPrefix", "value": "/foo"}}, {"path_separated_prefix": "/foo"}),
        ({"path": {"type": "PathPrefix", "value": "/foo/"}}, {"path_separated_prefix": "/foo"}),
        ({"path": {"type": "Exact", "value": "/foo"}}, {"path": "/foo"}),
        ({"path": {"type": "RegularExpression", "value": "/v[0-9]+"}}, {"safe_regex": {"regex": "/v[0-9]+"}}),
        (
            {"method": "POST"},
            {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
        ),
        (
            {"headers": [{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "ignored"}]},
            {"prefix": "/", "headers": [{"name": "x-a", "string_match": {"exact": "1"}}]},
        ),
        (
            {"queryParams": [{"type": "RegularExpression", "name": "q", "value": "a.*"}]},
            {
                "prefix": "/",
                "query_parameters": [{"name": "q", "string_match": {"safe_regex": {"regex": "a.*"}}}],
            },
        ),
    ],
)
def test_matches(match: dict[str, Any], expected: dict[str, Any]) -> None:
    assert only_route({"matches": [match]})["match"] == expected


@pytest.mark.parametrize(
    ("timeouts", "timeout", "per_try"),
    [
        ({}, None, None),
        ({"request": "0s"}, "0s", None),
        ({"request": "1m30s"}, "90s", None),
        ({"request": "500ms"}, "0.5s", None),
        ({"backendRequest": "2s"}, "2s", "2s"),
        ({"request": "10s", "backendRequest": "2s"}, "10s", "2s"),
        ({"request": "10s", "backendRequest": "0s"}, "10s", None),
    ],
)
def test_timeouts(timeouts: dict[str, str], timeout: str | None, per_try: str | None) -> None:
    action = only_route({"timeouts": timeouts})["route"]
    assert action.get("timeout") == timeout
    assert action.get("idle_timeout") == (None if timeout is None else "0s")
    assert action["retry_policy"].get("per_try_timeout") == per_try


@pytest.mark.parametrize(("text", "value"), [("0s", 0), ("1h10m", 4200), ("1s500ms", 1.5), ("250ms", 0.25)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


def test_only_what_no_backend_has_seen_is_tried_again() -> None:
    retry_on = only_route({})["route"]["retry_policy"]["retry_on"].split(",")
    assert set(retry_on) == {"connect-failure", "refused-stream", "reset-before-request"}


def test_weights() -> None:
    action = only_route({}, (WEB, 9), (OTHER, 1), (OTHER, 0))["route"]
    clusters = action["weighted_clusters"]["clusters"]
    assert [(c["name"], c["weight"]) for c in clusters] == [
        (WEB.cluster, 9),
        (OTHER.cluster, 1),
    ]
    assert "cluster_not_found_response_code" not in action


@pytest.mark.parametrize("backends", [((None, 1),), ((WEB, 0),), ((None, 1), (None, 2))])
def test_no_usable_backend_is_500(backends: tuple[tuple[Backend | None, int], ...]) -> None:
    assert only_route({}, *backends)["direct_response"] == {"status": 500}


def test_a_rule_without_backends_is_500() -> None:
    (entry,) = entries({}, ())
    assert entry.route["direct_response"] == {"status": 500}


def test_the_share_of_an_unresolved_backend_is_500() -> None:
    action = only_route({}, (WEB, 1), (None, 1))["route"]
    assert action["cluster_not_found_response_code"] == "INTERNAL_SERVER_ERROR"


def test_headers_are_changed() -> None:
    modifier = {
        "set": [{"name": "Host", "value": "inner"}, {"name": "X-A", "value": "100%"}],
        "add": [{"name": "X-B", "value": "2"}],
        "remove": ["X-C"],
    }
    route = only_route(
        {
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"remove": ["Server"]}},
            ]
        }
    )
    added = [
        (h["header"]["key"], h["header"]["value"], h["append_action"])
        for h in route["request_headers_to_add"]
    ]
    assert added == [
        ("X-A", "100%%", "OVERWRITE_IF_EXISTS_OR_ADD"),
        ("X-B", "2", "APPEND_IF_EXISTS_OR_ADD"),
    ]
    assert route["request_headers_to_remove"] == ["X-C"]
    assert route["response_headers_to_remove"] == ["Server"]
    assert route["route"]["host_rewrite_literal"] == "inner"


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ({"scheme": "https"}, {"response_code": "FOUND", "scheme_redirect": "https"}),
        (
            {"hostname": "b.example", "port": 8443, "statusCode": 301},
            {"response_code": "MOVED_PERMANENTLY", "host_redirect": "b.example", "port_redirect": 8443},
        ),
        (
            {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}},
            {"response_code": "FOUND", "path_redirect": "/new"},
        ),
        (
            {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new/"}},
            {"response_code": "FOUND", "prefix_rewrite": "/new"},
        ),
    ],
)
def test_redirects(redirect: dict[str, Any], expected: dict[str, Any]) -> None:
    rule = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/old"}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}],
    }
    assert only_route(rule)["redirect"] == expected


def test_a_redirect_to_https_leads_to_where_this_gateway_serves_it() -> None:
    def redirected(**redirect: Any) -> Any:
        rule = {"filters": [{"type": "RequestRedirect", "requestRedirect": redirect}]}
        (entry,) = entries(rule, [], {"https": 18443, "http": 18080})
        return entry.route["redirect"].get("port_redirect")

    assert redirected(scheme="https") == 18443
    assert redirected(scheme="https", port=8443) == 8443
    assert redirected(scheme="https", hostname="example.com") is None
    assert redirected(hostname="example.com") is None


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"filters": [{"type": "RequestMirror"}]}, "rules[0]: filter RequestMirror is not supported"),
        (
            {"matches": [{"path": {"type": "RegularExpression", "value": "/(?=x)"}}]},
            "rules[0]: `/(?=x)` is not a regular expression in RE2 syntax",
        ),
        (
            {"matches": [{"headers": [{"type": "RegularExpression", "name": "a", "value": "("}]}]},
            "rules[0]: `(` is not a regular expression in RE2 syntax",
        ),
        (
            {"matches": [{"path": {"type": "RegularExpression", "value": "/x{1001}"}}]},
            "rules[0]: `/x{1001}` is not a regular expression in RE2 syntax",
        ),
        (
            {"filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": ["Host"]}}]},
            "rules[0]: the Host header can be set, but neither added to nor removed",
        ),
        (
            {"backendRefs": [{"name": "a", "filters": [{"type": "URLRewrite"}]}]},
            "rules[0]: filters of a backendRef are not supported",
        ),
        ({"matches": [{"path": {"type": "RegularExpression", "value": "/v(?:1|2)/.+?"}}]}, None),
        ({"matches": [{"path": {"type": "PathPrefix", "value": "/a?b"}}]}, "rules[0]: `/a?b` is not a path"),
        ({"matches": [{"path": {"type": "Exact", "value": "a"}}]}, "rules[0]: `a` is not a path"),
        ({"matches": [{"path": {"type": "Exact", "value": "/a%20b"}}]}, None),
    ],
)
def test_what_it_cannot_do_is_said(spec: dict[str, Any], problem: str | None) -> None:
    assert unsupported(a_route(rules=[spec])) == problem


def test_precedence() -> None:
    """Exact, then regular expressions, then longer prefixes; method, headers and query break ties."""
    matches = [
        {"path": {"type": "PathPrefix", "value": "/"}},
        {"path": {"type": "PathPrefix", "value": "/foo"}},
        {"path": {"type": "PathPrefix", "value": "/foo"}, "method": "GET"},
        {"path": {"type": "PathPrefix", "value": "/foo"}, "headers": [{"name": "a", "value": "1"}]},
        {"path": {"type": "Exact", "value": "/foo"}},
        {"path": {"type": "PathPrefix", "value": "/foo/bar"}},
        {"path": {"type": "RegularExpression", "value": "/f.*"}},
    ]
    found = list(entries({"matches": matches}, [(WEB, 1)]))
    ranked = sorted(range(len(matches)), key=lambda index: found[index].order)
    assert ranked == [4, 6, 5, 2, 3, 1, 0]
