"""Where each kind lives in the Kubernetes API: a static table, so that no discovery is needed.

Paths are those of the Kubernetes API conventions: `/api/v1/...` for the core group,
`/apis/<group>/<version>/...` for the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

__all__ = ["KINDS", "Kind", "kind_named"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the API.

    Attributes:
        name: Kubernetes kind, `Deployment`.
        group: API group, "" for the core one.
        version: API version, `v1`.
        plural: Resource name in paths, `deployments`.
        namespaced: False for cluster-scoped kinds.
    """

    name: str
    group: str
    version: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(
        self, name: str | None = None, namespace: str | None = None, subresource: str | None = None
    ) -> str:
        """The path of one object, or of the collection when `name` is None."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource is not None:
            parts.append(subresource)
        return "/" + "/".join(quote(part, safe="") for part in parts)


_GATEWAY = "gateway.networking.k8s.io"

KINDS: tuple[Kind, ...] = (
    Kind("ConfigMap", "", "v1", "configmaps"),
    Kind("Event", "", "v1", "events"),
    Kind("Namespace", "", "v1", "namespaces", namespaced=False),
    Kind("Node", "", "v1", "nodes", namespaced=False),
    Kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
    Kind("Pod", "", "v1", "pods"),
    Kind("Secret", "", "v1", "secrets"),
    Kind("Service", "", "v1", "services"),
    Kind("Deployment", "apps", "v1", "deployments"),
    Kind("ReplicaSet", "apps", "v1", "replicasets"),
    Kind("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"),
    Kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    Kind("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    Kind("GatewayClass", _GATEWAY, "v1", "gatewayclasses", namespaced=False),
    Kind("Gateway", _GATEWAY, "v1", "gateways"),
    Kind("HTTPRoute", _GATEWAY, "v1", "httproutes"),
    # v1beta1 is served by every Gateway API since 0.6; v1 only by the newest.
    Kind("ReferenceGrant", _GATEWAY, "v1beta1", "referencegrants"),
    Kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects"),
    Kind("InterceptorRoute", "http.keda.sh", "v1beta1", "interceptorroutes"),
    Kind("PodMetrics", "metrics.k8s.io", "v1beta1", "pods"),
    # Metrics of HTTPRoutes; the name of the metric is where others have a subresource.
    Kind("MetricValueList", "custom.metrics.k8s.io", "v1beta2", "httproutes.gateway.networking.k8s.io"),
)

_BY_NAME = {kind.name: kind for kind in KINDS}


def kind_named(name: str) -> Kind:
    """The kind of that name.

    Raises:
        LookupError: A kind that the table lacks; a mistake in this program, not of its user.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise LookupError(f"kind `{name}` is not in chalkcompute.cluster.kinds") from None
