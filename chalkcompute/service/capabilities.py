"""What the cluster serves, against what a spec needs of it: looked at before anything is written."""

from __future__ import annotations

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import CapabilityError, ClusterError, ForbiddenError, ObjectNotFoundError
from chalkcompute.manifests.hpa_status import INSTALL_METRICS
from chalkcompute.manifests.placement import Profile
from chalkcompute.spec import ScalingGroupSpec

__all__ = ["check_capabilities"]

_LOCAL_GATEWAY_CLASS = "chalk-local"
"""GatewayClass that every local cluster has, and no other."""

_KEDA_INSTALL = (
    "`helm repo add kedacore https://kedacore.github.io/charts`, "
    "`helm install keda kedacore/keda -n keda --create-namespace`, "
    "`helm install http-add-on kedacore/keda-add-ons-http -n keda`"
)
_NEWER_LOCAL = (
    "`chalk local down` and `chalk local up`, for the local cluster was started by an older version; "
    "on another cluster "
)


def check_capabilities(cluster: Cluster, spec: ScalingGroupSpec, profile: Profile) -> list[str]:
    """Warnings about what the cluster lacks.

    Raises:
        CapabilityError: It lacks something without which the spec cannot be.
    """
    warnings: list[str] = []
    if spec.mode == "keda":
        warnings += _check_keda(cluster, profile)
    goes_by_cpu = spec.mode == "hpa" or (
        spec.mode == "keda" and spec.target_cpu_utilization_percentage is not None
    )
    if goes_by_cpu and not cluster.capabilities().serves("metrics.k8s.io", "pods"):
        stays = (
            f"it keeps the group at {spec.min_replicas}" if spec.mode == "hpa" else "it goes by requests only"
        )
        remedy = f"{_NEWER_LOCAL if _is_local(cluster) else ''}`{INSTALL_METRICS}` installs it"
        warnings.append(
            "this cluster serves no `metrics.k8s.io` (metrics-server is not there, or is down), so that the "
            f"autoscaler cannot see how much CPU the replicas use, and {stays}; {remedy}"
        )
    return warnings


def _check_keda(cluster: Cluster, profile: Profile) -> list[str]:
    capabilities = cluster.capabilities()
    wanted = (
        ("keda.sh", "scaledobjects", "keda.sh/v1alpha1 ScaledObject"),
        ("http.keda.sh", "interceptorroutes", "http.keda.sh/v1beta1 InterceptorRoute"),
    )
    missing = [label for group, plural, label in wanted if not capabilities.serves(group, plural)]
    if missing:
        raise CapabilityError(
            "`min_replicas=0` needs KEDA and its HTTP add-on 0.14 or later to wake the group, and this "
            f"cluster lacks {' and '.join(missing)}",
            hint=_remedy(cluster),
        )
    where = f"`{profile.keda_namespace}/{profile.keda_interceptor_service}`"
    try:
        cluster.get("Service", profile.keda_interceptor_service, profile.keda_namespace)
    except ObjectNotFoundError as error:
        elsewhere = (
            ""
            if _is_local(cluster)
            else ("set CHALK_KEDA_NAMESPACE and CHALK_KEDA_INTERCEPTOR_SERVICE if it lives elsewhere; ")
        )
        raise CapabilityError(
            "`min_replicas=0` needs the interceptor of KEDA's HTTP add-on to wake the group, and there is no "
            f"Service {where}",
            hint=elsewhere + _remedy(cluster),
        ) from error
    except ForbiddenError:
        return [f"Service {where}, KEDA's interceptor, may not be read: assuming that it is there"]
    return []


def _remedy(cluster: Cluster) -> str:
    start = _NEWER_LOCAL if _is_local(cluster) else ""
    return f"{start}install them: {_KEDA_INSTALL}; or set `min_replicas` to 1 or more"


def _is_local(cluster: Cluster) -> bool:
    """Whether this is a local cluster, of whatever version: no other has its GatewayClass."""
    try:
        cluster.get("GatewayClass", _LOCAL_GATEWAY_CLASS)
    except ClusterError:
        return False
    return True
