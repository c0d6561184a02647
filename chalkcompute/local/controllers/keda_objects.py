"""The namespace and the two Services that KEDA and its HTTP add-on have where they are installed.

They have the names that the Helm charts use. Nothing listens at the Services' addresses: HTTPRoutes name
the first, and the gateway sends such requests to its activator; ScaledObjects name the second, and the
controller in `keda` answers for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from chalkcompute.local.controllers.controller import find
from chalkcompute.local.controllers.objects import Key, is_deleting, key_of
from chalkcompute.local.interceptor import INTERCEPTOR_PORT, INTERCEPTOR_SERVICE, KEDA_NAMESPACE
from chalkcompute.local.ports import Api, Change, Manifest

__all__ = ["MANAGER", "SCALER_SERVICE", "KedaObjects"]

MANAGER = "keda-operator"
"""Field manager of everything that KEDA's operator writes."""

SCALER_SERVICE = "keda-add-ons-http-external-scaler"

_PORTS = {INTERCEPTOR_SERVICE: (INTERCEPTOR_PORT, 8080), SCALER_SERVICE: ("grpc", 9090)}


class KedaObjects:
    """Makes the namespace and the Services, and makes them again when they are deleted or changed.

    Args:
        api: The API server.
    """

    name = "keda-objects"
    kinds = ("Namespace", "Service")

    def __init__(self, api: Api) -> None:
        self._api = api

    def keys(self, change: Change) -> Iterable[Key]:
        """The namespace, whatever changed in it."""
        namespace, name = key_of(change.obj)
        if KEDA_NAMESPACE in (namespace, name if change.kind == "Namespace" else ""):
            return [("", KEDA_NAMESPACE)]
        return []

    def sync(self, key: Key) -> None:
        """Bring everything back."""
        self.ensure()

    def ensure(self) -> None:
        """Make what is not there."""
        live = find(self._api, "Namespace", ("", KEDA_NAMESPACE))
        if live is not None and is_deleting(live):
            return  # gone soon, and made again then
        if live is None:
            metadata = {"name": KEDA_NAMESPACE}
            self._api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, manager=MANAGER)
        for name, (port, number) in _PORTS.items():
            self._ensure_service(_service(name, port, number))

    def _ensure_service(self, wanted: Manifest) -> None:
        live = find(self._api, "Service", key_of(wanted))
        if live is None:
            self._api.create(wanted, manager=MANAGER)
        elif not is_deleting(live):
            spec = {**live["spec"], **wanted["spec"]}
            spec.pop("selector", None)  # with one, the addresses would be others than the gateway's
            self._api.update({**live, "spec": spec}, manager=MANAGER)


def _service(name: str, port: str, number: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": KEDA_NAMESPACE,
            "labels": {"app.kubernetes.io/name": "http-add-on", "app.kubernetes.io/part-of": "chalk-local"},
        },
        "spec": {
            "type": "ClusterIP",
            "ports": [{"name": port, "port": number, "protocol": "TCP", "targetPort": number}],
        },
    }
