"""Which environment and which gateway."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from chalkcompute.cluster.protocol import Capabilities
from chalkcompute.errors import (
    CapabilityError,
    ConfigError,
    ForbiddenError,
    NotFoundError,
    ObjectNotFoundError,
)
from chalkcompute.manifests.placement import Gateway
from chalkcompute.service.discovery import discover
from chalkcompute.service.scope import Scope
from chalkcompute.service.selectors import selector_matches
from chalkcompute.types import Manifest

ROUTES = ("gateway.networking.k8s.io", "v1", "httproutes")


class Stub:
    """Namespaces, gateways and a class, nothing else; `forbidden` kinds may not be read."""

    server = "https://stub"

    def __init__(
        self,
        *gateways: Manifest,
        annotations: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        features: list[Any] | None = None,
        forbidden: tuple[str, ...] = (),
        gateway_api: bool = True,
    ) -> None:
        self.gateways = gateways
        self.metadata = {"name": "team", "annotations": dict(annotations or {}), "labels": dict(labels or {})}
        self.features = features or []
        self.forbidden = forbidden
        self.resources = frozenset({ROUTES} if gateway_api else set())

    def capabilities(self) -> Capabilities:
        return Capabilities(self.resources)

    def get(
        self, kind: str, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Manifest:
        self._check(kind)
        if kind == "Namespace" and name.startswith("team"):
            return {"kind": kind, "metadata": {**self.metadata, "name": name}}
        if kind == "GatewayClass":
            return {"kind": kind, "metadata": {"name": name}, "status": {"supportedFeatures": self.features}}
        for obj in self.gateways:
            if kind == "Gateway" and (obj["metadata"]["namespace"], obj["metadata"]["name"]) == (
                namespace,
                name,
            ):
                return obj
        raise ObjectNotFoundError(f"{kind} {name} not found", status=404, reason="NotFound")

    def list(self, kind: str, namespace: str | None = None) -> list[Manifest]:
        self._check(kind)
        return [*self.gateways]

    def _check(self, kind: str) -> None:
        if kind in self.forbidden:
            raise ForbiddenError(f"{kind} is forbidden", status=403, reason="Forbidden")


def listener(
    name: str = "https",
    hostname: str | None = "*.gw.test",
    *,
    protocol: str = "HTTPS",
    port: int = 443,
    allowed: Any = "All",
    selector: Any = None,
    kinds: Any = None,
) -> dict[str, Any]:
    namespaces = {"from": allowed, **({"selector": selector} if selector else {})}
    rules = {"namespaces": namespaces, **({"kinds": kinds} if kinds else {})}
    return {
        "name": name,
        "protocol": protocol,
        "port": port,
        **({"hostname": hostname} if hostname else {}),
        **({"allowedRoutes": rules} if allowed is not None else {}),
    }


def gateway(*listeners: dict[str, Any], name: str = "gw", namespace: str = "infra") -> Manifest:
    return {
        "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"gatewayClassName": "gc", "listeners": list(listeners or (listener(),))},
    }


def found(stub: Stub, **scope: Any) -> Gateway:
    return discover(stub, Scope(**{"namespace": "team", **scope})).gateway  # type: ignore[arg-type]


def test_the_one_gateway_with_a_wildcard_listener() -> None:
    stub = Stub(gateway(listener("web", port=8443), listener("plain", protocol="HTTP", port=80)))
    assert found(stub) == Gateway("gw", "infra", "web", "gw.test", "https", 8443)


def test_http_where_there_is_no_https() -> None:
    stub = Stub(gateway(listener("plain", protocol="HTTP", port=8080)))
    assert found(stub) == Gateway("gw", "infra", "plain", "gw.test", "http", 8080)
    (warning,) = discover(stub, Scope(namespace="team")).warnings  # type: ignore[arg-type]
    assert "plain HTTP" in warning
    assert discover(Stub(gateway()), Scope(namespace="team")).warnings == ()  # type: ignore[arg-type]


def test_a_load_balancer_may_change_the_port() -> None:
    stub = Stub(gateway(listener(port=8443)))
    assert found(stub, gateway_port=443).web_url("h") == "https://h"
    assert found(stub).web_url("h") == "https://h:8443"


def test_a_gateway_that_is_being_deleted_is_none() -> None:
    going = gateway(name="going")
    going["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
    assert found(Stub(gateway(), going)).name == "gw"


def test_the_listener_of_just_that_domain_comes_before_a_wider_one() -> None:
    stub = Stub(gateway(listener("wide", "*.test"), listener("exact", "*.gw.test"), listener("any", None)))
    assert found(stub, gateway_domain="gw.test").section_name == "exact"


def test_of_several_the_one_that_a_controller_looks_after() -> None:
    served, silent = gateway(name="served"), gateway(name="silent")
    served["status"] = {"conditions": [{"type": "Programmed", "status": "True"}]}
    silent["status"] = {"conditions": [{"type": "Programmed", "status": "Unknown"}]}
    assert found(Stub(silent, served)).name == "served"
    assert found(Stub(silent)).name == "silent"


@pytest.mark.parametrize("features", [["HTTPRouteRequestTimeout"], [{"name": "HTTPRouteRequestTimeout"}]])
def test_features_are_strings_or_objects(features: list[Any]) -> None:
    assert found(Stub(gateway(), features=features)).request_timeout
    assert not found(Stub(gateway(), features=["Gateway"])).request_timeout
    assert not found(Stub(gateway(), features=features, forbidden=("GatewayClass",))).request_timeout


def test_several_candidates_are_listed() -> None:
    stub = Stub(gateway(), gateway(listener(hostname="*.b.test"), name="two"))
    with pytest.raises(ConfigError) as caught:
        found(stub)
    assert "infra/gw" in caught.value.message
    assert "infra/two" in caught.value.message
    assert "*.b.test"[2:] in caught.value.message
    assert found(stub, gateway=("infra", "two")).domain == "b.test"
    assert found(stub, gateway_domain="b.test").name == "two"


def test_two_listeners_of_one_gateway_are_told_apart_by_section() -> None:
    stub = Stub(gateway(listener("a"), listener("b", "*.b.test")))
    with pytest.raises(ConfigError, match=r"`a`.*`b`") as caught:
        found(stub, gateway=("infra", "gw"))
    assert "CHALK_GATEWAY=infra/gw/a" in (caught.value.hint or "")
    assert found(stub, gateway=("infra", "gw"), gateway_section="b").domain == "b.test"


@pytest.mark.parametrize(
    ("rules", "namespace_labels", "admitted"),
    [
        ({"allowed": None}, {}, False),
        ({"allowed": "Same"}, {}, False),
        ({"allowed": "None"}, {}, False),
        ({"allowed": "Selector", "selector": {"matchLabels": {"a": "b"}}}, {"a": "b"}, True),
        ({"allowed": "Selector", "selector": {"matchLabels": {"a": "b"}}}, {"a": "c"}, False),
        ({"kinds": [{"kind": "GRPCRoute"}]}, {}, False),
        ({"kinds": [{"kind": "HTTPRoute"}]}, {}, True),
        ({"hostname": None}, {}, False),
        ({"hostname": "exact.gw.test"}, {}, False),
        ({"protocol": "TLS"}, {}, False),
    ],
)
def test_who_is_admitted(rules: dict[str, Any], namespace_labels: dict[str, str], admitted: bool) -> None:
    stub = Stub(gateway(listener(**rules)), labels=namespace_labels)
    if admitted:
        assert found(stub).section_name == "https"
    else:
        with pytest.raises(CapabilityError, match="infra/gw"):
            found(stub)
        with pytest.raises(CapabilityError, match="no listener"):
            found(stub, gateway=("infra", "gw"))


def test_same_namespace_is_the_default() -> None:
    assert found(Stub(gateway(listener(allowed=None), namespace="team"))).namespace == "team"


def test_labels_that_may_not_be_read_do_not_exclude() -> None:
    rules = listener(allowed="Selector", selector={"matchLabels": {"a": "b"}})
    assert found(Stub(gateway(rules), forbidden=("Namespace",))).name == "gw"


def test_a_given_domain_fits_a_listener_that_covers_it() -> None:
    assert found(Stub(gateway(listener(hostname=None))), gateway_domain="any.test").domain == "any.test"
    assert found(Stub(gateway(listener(hostname="*.test"))), gateway_domain="gw.test").domain == "gw.test"
    with pytest.raises(CapabilityError, match="other"):
        found(Stub(gateway()), gateway_domain="other.test")


def test_the_namespace_names_its_gateway() -> None:
    two = gateway(listener(hostname="*.b.test"), name="two")
    assert found(Stub(gateway(), two, annotations={"chalk.ai/gateway": "infra/two"})).name == "two"
    for wrong in ("two", "/two", "a/b/c"):
        with pytest.raises(ConfigError, match="namespace/name"):
            found(Stub(gateway(), two, annotations={"chalk.ai/gateway": wrong}))


def test_no_gateway_api_and_no_gateway() -> None:
    with pytest.raises(CapabilityError, match="Gateway API"):
        found(Stub(gateway_api=False))
    old = Stub(gateway())
    old.resources = frozenset({("gateway.networking.k8s.io", "v1beta1", "httproutes")})
    with pytest.raises(CapabilityError, match=r"older than 1\.0"):
        found(old)
    with pytest.raises(CapabilityError, match="no Gateway at all") as caught:
        found(Stub())
    assert caught.value.hint is not None
    assert "CHALK_GATEWAY" in caught.value.hint
    with pytest.raises(CapabilityError, match="no Gateway `infra/gone`"):
        found(Stub(gateway()), gateway=("infra", "gone"))


def test_gateways_that_may_not_be_read() -> None:
    stub = Stub(gateway(), forbidden=("Gateway",))
    with pytest.raises(ForbiddenError) as caught:
        found(stub)
    assert caught.value.hint is not None
    assert "CHALK_GATEWAY" in caught.value.hint
    with pytest.raises(ForbiddenError):
        found(stub, gateway=("infra", "gw"))
    blind = discover(stub, Scope(namespace="team", gateway=("infra", "gw"), gateway_domain="gw.test"))  # type: ignore[arg-type]
    assert blind.gateway == Gateway("gw", "infra", "https", "gw.test")
    assert blind.warnings


def test_environment() -> None:
    def environment(namespace: str = "team", stub: Stub | None = None, **scope: Any) -> str:
        made = Scope(namespace=namespace, **scope)
        return discover(stub or Stub(gateway()), made).environment  # type: ignore[arg-type]

    assert environment() == "team"
    annotated = Stub(gateway(), annotations={"chalk.ai/environment-id": "abc123"})
    assert environment(stub=annotated) == "abc123"
    assert environment(stub=annotated, environment="x1") == "x1"
    with pytest.raises(ConfigError, match="team-prod") as caught:
        environment("team-prod")
    assert caught.value.hint is not None
    assert "CHALK_ENVIRONMENT" in caught.value.hint
    with pytest.raises(ConfigError, match=r"chalk\.ai/environment-id"):
        environment(stub=Stub(gateway(), annotations={"chalk.ai/environment-id": "A-B"}))
    with pytest.raises(ConfigError):
        environment(environment="a-b")
    with pytest.raises(NotFoundError, match="`ghost`"):
        environment("ghost")


@pytest.mark.parametrize(
    ("operator", "values", "having", "lacking"),
    [
        ("In", ["a", "b"], True, False),
        ("NotIn", ["a"], False, True),
        ("Exists", None, True, False),
        ("DoesNotExist", None, False, True),
        ("Later", None, False, False),
    ],
)
def test_selector_expressions(operator: str, values: Any, having: bool, lacking: bool) -> None:
    selector = {"matchExpressions": [{"key": "k", "operator": operator, "values": values}]}
    assert selector_matches(selector, {"k": "a"}) is having
    assert selector_matches(selector, {}) is lacking
    assert selector_matches({}, {})
