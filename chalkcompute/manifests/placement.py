"""Where a group goes: what rendering needs to know beside the spec. Frozen plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chalkcompute.manifests import labels
from chalkcompute.manifests.gpu_nodes import Toleration
from chalkcompute.spec.names import host_label
from chalkcompute.types import Manifest

__all__ = ["Gateway", "Owner", "Placement", "Profile"]

_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Gateway:
    """The Gateway, and the listener on it, that a group's route attaches to.

    Attributes:
        name: Name of the Gateway.
        namespace: Its namespace.
        section_name: Name of the listener.
        domain: What follows the first label of every host: `gw.chalk.ai` for a listener `*.gw.chalk.ai`.
        scheme: `https` or `http`.
        port: Port of the listener as clients see it.
        request_timeout: Whether its GatewayClass supports `HTTPRouteRequestTimeout`, so that the gateway's
            own limit for a whole response (15 s in Envoy) can be lifted.
    """

    name: str
    namespace: str
    section_name: str
    domain: str
    scheme: str = "https"
    port: int = 443
    request_timeout: bool = False

    def web_url(self, host: str) -> str:
        """URL of a host on this listener, without the port where it is the scheme's own."""
        port = "" if _DEFAULT_PORTS.get(self.scheme) == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


@dataclass(frozen=True, slots=True)
class Profile:
    """What differs between clusters.

    Attributes:
        gpu_node_selector_key: Node label that carries the GPU type.
        gpu_resource_name: Extended resource of a GPU.
        gpu_taints: What the replicas with GPUs tolerate; () is any taint whose key is `gpu_resource_name`,
            with effect NoSchedule.
        keda_namespace: Namespace of KEDA's HTTP add-on.
        keda_interceptor_service: Service of its interceptor, through which requests to a group that may
            scale to zero go.
        keda_interceptor_port: Port of that Service.
        keda_scaler_address: `host:port` of its external scaler.
    """

    gpu_node_selector_key: str = "cloud.google.com/gke-accelerator"
    gpu_resource_name: str = "nvidia.com/gpu"
    gpu_taints: tuple[Toleration, ...] = ()
    keda_namespace: str = "keda"
    keda_interceptor_service: str = "keda-add-ons-http-interceptor-proxy"
    keda_interceptor_port: int = 8080
    keda_scaler_address: str = "keda-add-ons-http-external-scaler.keda:9090"

    @property
    def gpu_tolerations(self) -> tuple[Toleration, ...]:
        """What the replicas with GPUs tolerate, defaults and all."""
        return self.gpu_taints or (Toleration(self.gpu_resource_name),)


@dataclass(frozen=True, slots=True)
class Owner:
    """The record ConfigMap, whose deletion makes the cluster collect everything it owns."""

    name: str
    uid: str

    def reference(self) -> Manifest:
        """The `ownerReferences` item.

        Neither `controller` nor `blockOwnerDeletion`: the latter needs a permission on finalizers under
        OwnerReferencesPermissionEnforcement.
        """
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": self.name, "uid": self.uid}


_PORTS_KEPT = 8
PORT_NAME = "http"
"""Name of the port of a container, and of a Service's first port."""


@dataclass(frozen=True, slots=True)
class PortHistory:
    """How the port of a group has changed, so that replicas of both revisions are in reach while it does.

    Attributes:
        first: The port before the first change; None if it never changed.
        previous: Ports of earlier revisions that a route, or a gateway, may still go by; newest first.
    """

    first: int | None = None
    previous: tuple[int, ...] = ()

    def name(self, port: int) -> str:
        """What a port is called in the Services; one keeps its name, or endpoints would be lost."""
        return PORT_NAME if self.first in (None, port) else f"{PORT_NAME}-{port}"

    def then(self, port: int, following: int, *, settled: bool = True) -> PortHistory:
        """The history of a revision on `following` after one on `port`.

        Args:
            port: Port of the revision before.
            following: Port of this one.
            settled: Whether that revision was applied to its end, and long enough ago for every gateway to
                have followed: then nobody goes by the ports before it.
        """
        left = (port,) if settled else (port, *self.previous)
        previous = tuple(dict.fromkeys(each for each in left if each != following))
        first = self.first if self.first is not None or port == following else port
        return PortHistory(first, previous[:_PORTS_KEPT])


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one revision of one group goes.

    Attributes:
        namespace: Kubernetes namespace.
        environment: Environment id, first part of the host.
        group_id: UUID of this incarnation of the group.
        revision: Revision number, from 1.
        gateway: Where its route attaches.
        owner: Its record, or None when rendering offline.
        profile: What differs between clusters.
        ports: How the group's port has changed.
    """

    namespace: str
    environment: str
    group_id: str
    revision: int
    gateway: Gateway
    owner: Owner | None = None
    profile: Profile = field(default_factory=Profile)
    ports: PortHistory = field(default_factory=PortHistory)

    def host(self, name: str) -> str:
        """`<environment>-<name>.<domain>`.

        Raises:
            SpecError: The first label is longer than a DNS label may be.
        """
        return f"{host_label(self.environment, name)}.{self.gateway.domain}"

    def web_url(self, name: str) -> str:
        """The address of the group.

        Raises:
            SpecError: As `host`.
        """
        return self.gateway.web_url(self.host(name))

    def metadata(self, name: str, *, group: str, tags: Mapping[str, str]) -> Manifest:
        """Metadata of an object of the group, owner and all."""
        out: Manifest = {
            "name": name,
            "namespace": self.namespace,
            "labels": labels.group_labels(
                name=group, group_id=self.group_id, environment=self.environment, tags=tags
            ),
            "annotations": {labels.REVISION_ANNOTATION: str(self.revision)},
        }
        if self.owner is not None:
            out["ownerReferences"] = [self.owner.reference()]
        return out
