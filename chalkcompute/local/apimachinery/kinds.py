"""The kinds that the embedded cluster serves, and how each appears in discovery."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "KINDS",
    "Kind",
    "by_api_version",
    "by_group_kind",
    "by_kind",
    "by_plural",
    "parse_group_version",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """One served kind.

    Attributes:
        group: API group, "" for the core group.
        version: Version that objects are stored and answered in.
        kind: `Deployment`.
        plural: `deployments`, the resource in a path.
        singular: `deployment`, as kubectl accepts it.
        short_names: kubectl's abbreviations.
        namespaced: Whether it lives in a namespace.
        status: Whether it has a `status` subresource.
        scale: Whether it has a `scale` subresource.
        categories: Groups of kinds kubectl knows, such as `all`.
        also_served: Further versions under which the same objects are served.
        custom: Whether a real cluster serves it from a CustomResourceDefinition, which changes
            how it is validated, defaulted and tracked.
        generation: Whether `metadata.generation` counts changes of what is asked for.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = False
    scale: bool = False
    categories: tuple[str, ...] = ()
    also_served: tuple[str, ...] = ()
    custom: bool = False
    generation: bool = False

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def versions(self) -> tuple[str, ...]:
        """Every served version, the preferred one first."""
        return (self.version, *self.also_served)

    @property
    def resource(self) -> str:
        """`deployments.apps`, as messages name the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified(self) -> str:
        """`Deployment.apps`, as validation messages name the kind."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


_GATEWAY = "gateway.networking.k8s.io"

KINDS: tuple[Kind, ...] = (
    Kind("", "v1", "Namespace", "namespaces", "namespace", ("ns",), namespaced=False, status=True),
    Kind("", "v1", "ConfigMap", "configmaps", "configmap", ("cm",)),
    Kind("", "v1", "Secret", "secrets", "secret"),
    Kind("", "v1", "Service", "services", "service", ("svc",), status=True, categories=("all",)),
    Kind("", "v1", "Pod", "pods", "pod", ("po",), status=True, categories=("all",), generation=True),
    Kind(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "persistentvolumeclaim",
        ("pvc",),
        status=True,
    ),
    Kind("", "v1", "Event", "events", "event", ("ev",)),
    Kind("", "v1", "Node", "nodes", "node", ("no",), namespaced=False, status=True),
    Kind("", "v1", "ServiceAccount", "serviceaccounts", "serviceaccount", ("sa",)),
    Kind(
        "apps",
        "v1",
        "Deployment",
        "deployments",
        "deployment",
        ("deploy",),
        status=True,
        scale=True,
        categories=("all",),
        generation=True,
    ),
    Kind(
        "apps",
        "v1",
        "ReplicaSet",
        "replicasets",
        "replicaset",
        ("rs",),
        status=True,
        scale=True,
        categories=("all",),
        generation=True,
    ),
    Kind(
        "autoscaling",
        "v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscalers",
        "horizontalpodautoscaler",
        ("hpa",),
        status=True,
        categories=("all",),
    ),
    Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", "endpointslice", generation=True),
    Kind("coordination.k8s.io", "v1", "Lease", "leases", "lease"),
    Kind(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        "poddisruptionbudget",
        ("pdb",),
        status=True,
        generation=True,
    ),
    Kind(
        _GATEWAY,
        "v1",
        "GatewayClass",
        "gatewayclasses",
        "gatewayclass",
        ("gc",),
        namespaced=False,
        status=True,
        categories=("gateway-api",),
        also_served=("v1beta1",),
        custom=True,
        generation=True,
    ),
    Kind(
        _GATEWAY,
        "v1",
        "Gateway",
        "gateways",
        "gateway",
        ("gtw",),
        status=True,
        categories=("gateway-api",),
        also_served=("v1beta1",),
        custom=True,
        generation=True,
    ),
    Kind(
        _GATEWAY,
        "v1",
        "HTTPRoute",
        "httproutes",
        "httproute",
        status=True,
        categories=("gateway-api",),
        also_served=("v1beta1",),
        custom=True,
        generation=True,
    ),
    Kind(
        _GATEWAY,
        "v1",
        "ReferenceGrant",
        "referencegrants",
        "referencegrant",
        ("refgrant",),
        categories=("gateway-api",),
        also_served=("v1beta1",),
        custom=True,
        generation=True,
    ),
    Kind(
        "http.keda.sh",
        "v1beta1",
        "InterceptorRoute",
        "interceptorroutes",
        "interceptorroute",
        status=True,
        custom=True,
        generation=True,
    ),
    Kind(
        "keda.sh",
        "v1alpha1",
        "ScaledObject",
        "scaledobjects",
        "scaledobject",
        ("so",),
        status=True,
        custom=True,
        generation=True,
    ),
)

_BY_PLURAL = {(k.group, version, k.plural): k for k in KINDS for version in k.versions}
_BY_KIND = {k.kind: k for k in KINDS}
_BY_GROUP_KIND = {(k.group, k.kind): k for k in KINDS}
_BY_API_VERSION = {
    (f"{k.group}/{version}" if k.group else version, k.kind): k for k in KINDS for version in k.versions
}


def by_plural(group: str, version: str, plural: str) -> Kind | None:
    """The kind behind a path's group, version and resource, or None."""
    return _BY_PLURAL.get((group, version, plural))


def by_kind(kind: str) -> Kind:
    """The kind of that name.

    Raises:
        KeyError: It is not served.
    """
    return _BY_KIND[kind]


def by_api_version(api_version: str, kind: str) -> Kind | None:
    """The kind an object's own `apiVersion` and `kind` name, or None."""
    return _BY_API_VERSION.get((api_version, kind))


def by_group_kind(group: str, kind: str) -> Kind | None:
    """The kind of that name in an API group, under whichever version, or None."""
    return _BY_GROUP_KIND.get((group, kind))


def parse_group_version(api_version: str) -> tuple[str, str]:
    """Group and version of an `apiVersion`; the group is "" where it names none.

    Raises:
        ValueError: It has more than one slash.
    """
    if api_version.count("/") > 1:
        raise ValueError(f"unexpected GroupVersion string: {api_version}")
    group, _, version = api_version.rpartition("/")
    return group, version
