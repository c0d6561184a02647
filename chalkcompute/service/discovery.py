"""Which environment and which gateway: settings first, then the namespace, then the cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    CapabilityError,
    ConfigError,
    ConflictError,
    ForbiddenError,
    ObjectNotFoundError,
)
from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Gateway
from chalkcompute.service import records
from chalkcompute.service.listeners import SET_GATEWAY, Listener, choose, described, listeners, wanted
from chalkcompute.service.namespaces import read_namespace
from chalkcompute.service.scope import Scope
from chalkcompute.spec.names import validate_environment_id
from chalkcompute.types import Manifest

__all__ = ["Place", "discover"]

_GATEWAY_GROUP = "gateway.networking.k8s.io"
_REQUEST_TIMEOUT = "HTTPRouteRequestTimeout"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a group will live.

    Attributes:
        environment: Environment id.
        gateway: The Gateway and the listener its route attaches to.
        warnings: What could not be checked.
    """

    environment: str
    gateway: Gateway
    warnings: tuple[str, ...] = ()


def discover(cluster: Cluster, scope: Scope, group: str | None = None) -> Place:
    """The place that this scope means; at most four requests.

    Args:
        cluster: The cluster.
        scope: What the settings say.
        group: Name of the group that goes there. Where it is now is asked only if several gateways would do:
            one more Gateway in the cluster moves no group.

    Raises:
        NotFoundError: The namespace does not exist.
        ConflictError: The namespace is being deleted.
        ConfigError: No usable environment id, or several gateways would do.
        CapabilityError: No Gateway API, or no gateway that would do.
        ForbiddenError: The credential may not look, and the settings do not say it either.
    """
    namespace = read_namespace(cluster, scope.namespace)
    if (namespace or {}).get("metadata", {}).get("deletionTimestamp"):
        raise ConflictError(
            f"namespace `{scope.namespace}` on `{cluster.server}` is being deleted",
            hint="wait until it is gone and create it again, or choose another one with `--namespace`",
        )
    environment = _environment_of(scope, namespace)
    capabilities = cluster.capabilities()
    if not capabilities.serves(_GATEWAY_GROUP, "httproutes", "v1"):
        if capabilities.serves(_GATEWAY_GROUP, "httproutes"):
            raise CapabilityError(
                "this cluster's Gateway API is older than 1.0: it serves no `gateway.networking.k8s.io/v1`",
                hint="have the Gateway API of the cluster brought up to date",
            )
        raise CapabilityError(
            "this cluster lacks the Gateway API (`httproutes.gateway.networking.k8s.io`), "
            "which gives a scaling group its URL",
            hint="install a Gateway API implementation (https://gateway-api.sigs.k8s.io/implementations/)",
        )

    def recorded() -> Gateway | None:
        found = records.by_name(cluster, scope.namespace, group) if group is not None else None
        return found.gateway if found is not None else None

    named = scope.gateway or _annotated_gateway(namespace)
    if named is not None:
        return _named_gateway(cluster, scope, environment, named, namespace, recorded)
    return _searched_gateway(cluster, scope, environment, namespace, recorded)


def _environment_of(scope: Scope, namespace: Manifest | None) -> str:
    """The environment id: setting, annotation, the namespace's own name.

    Raises:
        ConfigError: None of them is a valid id.
    """
    if scope.environment is not None:
        return validate_environment_id(scope.environment)
    annotated = _annotation(namespace, labels.ENVIRONMENT_ANNOTATION)
    if annotated is not None:
        return _checked_environment(
            annotated, f"annotation `{labels.ENVIRONMENT_ANNOTATION}` of namespace `{scope.namespace}`"
        )
    try:
        return validate_environment_id(scope.namespace)
    except ConfigError as error:
        raise ConfigError(
            f"namespace `{scope.namespace}` is no environment id (1 to 20 of a-z and 0-9), and none is set",
            hint="set CHALK_ENVIRONMENT or `--environment`, or annotate the namespace with "
            f"`{labels.ENVIRONMENT_ANNOTATION}`",
        ) from error


def _checked_environment(value: str, what: str) -> str:
    try:
        return validate_environment_id(value)
    except ConfigError as error:
        raise ConfigError(f"{what}: {error.message}", hint=error.hint) from error


def _named_gateway(
    cluster: Cluster,
    scope: Scope,
    environment: str,
    named: tuple[str, str],
    namespace: Manifest | None,
    recorded: Callable[[], Gateway | None],
) -> Place:
    where, name = named
    try:
        gateway = cluster.get("Gateway", name, where)
    except ObjectNotFoundError as error:
        raise CapabilityError(f"there is no Gateway `{where}/{name}`", hint=SET_GATEWAY) from error
    except ForbiddenError as error:
        if scope.gateway_domain is None:
            error.hint = "set CHALK_GATEWAY_DOMAIN as well, and it need not be read"
            raise
        section = scope.gateway_section or "https"
        blind = Gateway(
            name=name,
            namespace=where,
            section_name=section,
            domain=scope.gateway_domain,
            port=scope.gateway_port or 443,
        )
        warning = f"Gateway `{where}/{name}` may not be read: assuming its listener is `{section}`, HTTPS"
        return Place(environment, blind, (warning,))
    chosen = choose(scope, listeners(scope, [gateway], namespace), recorded)
    if chosen is None:
        raise CapabilityError(
            f"Gateway `{where}/{name}` has no listener for namespace `{scope.namespace}` with "
            f"{wanted(scope)}; it has {described(gateway)}",
            hint="add such a listener, or let its `allowedRoutes` admit the namespace",
        )
    return _place(cluster, scope, environment, chosen)


def _searched_gateway(
    cluster: Cluster,
    scope: Scope,
    environment: str,
    namespace: Manifest | None,
    recorded: Callable[[], Gateway | None],
) -> Place:
    try:
        gateways = cluster.list("Gateway")
    except ForbiddenError as error:
        error.hint = f"name it instead: {SET_GATEWAY} (and CHALK_GATEWAY_DOMAIN if it may not be read)"
        raise
    chosen = choose(scope, listeners(scope, gateways, namespace), recorded)
    if chosen is None:
        names = ", ".join(f"`{g['metadata']['namespace']}/{g['metadata']['name']}`" for g in gateways)
        raise CapabilityError(
            f"no Gateway found that serves namespace `{scope.namespace}` with {wanted(scope)}"
            + (f" (looked at {names})" if names else " (there is no Gateway at all)"),
            hint=f"create one with an HTTPS listener of hostname `*.your-domain`, or {SET_GATEWAY}",
        )
    return _place(cluster, scope, environment, chosen)


def _place(cluster: Cluster, scope: Scope, environment: str, chosen: Listener) -> Place:
    meta = chosen.gateway["metadata"]
    gateway = Gateway(
        name=meta["name"],
        namespace=meta["namespace"],
        section_name=chosen.section,
        domain=chosen.domain,
        scheme=chosen.scheme,
        port=scope.gateway_port or chosen.port,
        request_timeout=_supports_request_timeout(cluster, chosen.gateway),
    )
    if chosen.scheme == "https":
        return Place(environment, gateway)
    label = f"`{gateway.namespace}/{gateway.name}`"
    warning = f"Gateway {label} has no HTTPS listener that would do: the URL is plain HTTP"
    return Place(environment, gateway, (warning,))


def _supports_request_timeout(cluster: Cluster, gateway: Manifest) -> bool:
    try:
        gateway_class = cluster.get("GatewayClass", gateway["spec"]["gatewayClassName"])
    except (ForbiddenError, ObjectNotFoundError):
        return False
    features = gateway_class.get("status", {}).get("supportedFeatures") or ()
    # Gateway API 1.0 listed plain strings; since 1.2 they are `{name: …}`.
    return any((f.get("name") if isinstance(f, dict) else f) == _REQUEST_TIMEOUT for f in features)


def _annotated_gateway(namespace: Manifest | None) -> tuple[str, str] | None:
    text = _annotation(namespace, labels.GATEWAY_ANNOTATION)
    if text is None or namespace is None:
        return None
    where, slash, name = text.partition("/")
    if not slash or not where or not name or "/" in name:
        raise ConfigError(
            f"annotation `{labels.GATEWAY_ANNOTATION}` of namespace `{namespace['metadata']['name']}` is "
            f"`{text}`, not of the form `namespace/name`"
        )
    return where, name


def _annotation(namespace: Manifest | None, key: str) -> str | None:
    annotations = (namespace or {}).get("metadata", {}).get("annotations") or {}
    value = annotations.get(key)
    return value if isinstance(value, str) and value else None
