"""Services, their endpoints, and the Gateway API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from chalkcompute.local.api.tables.columns import (
    NONE,
    UNKNOWN,
    UNSET,
    Columns,
    age,
    column,
    condition,
    join_limited,
    name,
    section,
    selector_text,
    wide,
)
from chalkcompute.local.ports import Manifest

__all__ = ["COLUMNS"]

_SHOWN_ENDPOINTS = 3


def _service(obj: Manifest, now: datetime) -> Sequence[str | int]:
    spec = section(obj, "spec")
    return (
        name(obj),
        spec.get("type", ""),
        (spec.get("clusterIPs") or [spec.get("clusterIP")])[0] or NONE,
        _external_address(obj),
        ",".join(_service_port(port) for port in spec.get("ports") or []) or NONE,
        age(obj, now),
        selector_text(spec.get("selector")),
    )


def _external_address(obj: Manifest) -> str:
    spec = section(obj, "spec")
    listed = list(spec.get("externalIPs") or [])
    if spec.get("type") == "ExternalName":
        return str(spec.get("externalName", ""))
    if spec.get("type") == "LoadBalancer":
        ingress = (section(obj, "status").get("loadBalancer") or {}).get("ingress") or []
        return ",".join([*(i.get("ip") or i.get("hostname", "") for i in ingress), *listed]) or "<pending>"
    return ",".join(listed) or NONE


def _service_port(port: dict[str, Any]) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node_port}/{port.get('protocol', 'TCP')}"


def _endpoint_slice(obj: Manifest, now: datetime) -> Sequence[str | int]:
    ports = [str(port.get("port") or "*") for port in obj.get("ports") or []]
    endpoints = [address for e in obj.get("endpoints") or [] for address in e.get("addresses") or []]
    return (
        name(obj),
        obj.get("addressType", ""),
        join_limited(ports, _SHOWN_ENDPOINTS) if ports else UNSET,
        join_limited(endpoints, _SHOWN_ENDPOINTS) if endpoints else UNSET,
        age(obj, now),
    )


def _gateway_class(obj: Manifest, now: datetime) -> Sequence[str | int]:
    spec = section(obj, "spec")
    return (
        name(obj),
        spec.get("controllerName", ""),
        condition(obj, "Accepted").get("status", UNKNOWN),
        age(obj, now),
        spec.get("description", ""),
    )


def _gateway(obj: Manifest, now: datetime) -> Sequence[str | int]:
    addresses = section(obj, "status").get("addresses") or []
    return (
        name(obj),
        section(obj, "spec").get("gatewayClassName", ""),
        ",".join(a.get("value", "") for a in addresses),
        condition(obj, "Programmed").get("status", UNKNOWN),
        age(obj, now),
    )


def _http_route(obj: Manifest, now: datetime) -> Sequence[str | int]:
    hostnames = section(obj, "spec").get("hostnames") or []
    # An array in a custom resource's column is printed as JSON.
    text = "[" + ",".join(f'"{host}"' for host in hostnames) + "]" if hostnames else ""
    return name(obj), text, age(obj, now)


_NAME, _AGE = column("Name"), column("Age")

COLUMNS = {
    "Service": Columns(
        (
            _NAME,
            column("Type"),
            column("Cluster-IP"),
            column("External-IP"),
            column("Port(s)"),
            _AGE,
            wide("Selector"),
        ),
        _service,
    ),
    "EndpointSlice": Columns(
        (_NAME, column("AddressType"), column("Ports"), column("Endpoints"), _AGE), _endpoint_slice
    ),
    "GatewayClass": Columns(
        (_NAME, column("Controller"), column("Accepted"), _AGE, wide("Description")), _gateway_class
    ),
    "Gateway": Columns((_NAME, column("Class"), column("Address"), column("Programmed"), _AGE), _gateway),
    "HTTPRoute": Columns((_NAME, column("Hostnames"), _AGE), _http_route),
}
