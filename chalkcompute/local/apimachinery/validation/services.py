"""Validity of Services."""

from __future__ import annotations

import ipaddress
from typing import Any

from chalkcompute.local.apimachinery.names import dns_label_problem, dns_subdomain_problem, port_name_problem
from chalkcompute.local.apimachinery.validation.metadata import check_labels
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["PORT_PROBLEM", "check_service", "check_service_change", "port_problem"]

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
PORT_PROBLEM = "must be between 1 and 65535, inclusive"


def port_problem(port: Any) -> str | None:
    """Why a port number is none, or None."""
    return None if isinstance(port, int) and 1 <= port <= 65535 else PORT_PROBLEM


def check_service(obj: dict[str, Any], problems: Problems) -> None:
    """Ports, selector, type and address."""
    spec = obj.get("spec") or {}
    kind = spec.get("type")
    ports = spec.get("ports") or []
    if kind not in _TYPES:
        problems.unsupported("spec.type", kind, _TYPES)
    headless = spec.get("clusterIP") == "None"
    if kind == "ExternalName":
        name = (spec.get("externalName") or "").removesuffix(".")
        if name:
            problems.named("spec.externalName", name, dns_subdomain_problem(name))
        else:
            problems.required("spec.externalName")
    elif not ports and not headless:
        problems.required("spec.ports")
    _check_ports(ports, problems)
    check_labels(spec.get("selector") or {}, "spec.selector", problems)
    if spec.get("sessionAffinity") not in ("ClientIP", "None"):
        problems.unsupported("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        problems.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    _check_addresses(spec, problems)


def _check_ports(ports: list[dict[str, Any]], problems: Problems) -> None:
    names: set[str] = set()
    keys: set[tuple[Any, Any]] = set()
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        name = port.get("name") or ""
        if not name and len(ports) > 1:
            problems.required(f"{field}.name")
        elif name:
            problems.named(f"{field}.name", name, dns_label_problem(name))
            if name in names:
                problems.duplicate(f"{field}.name", name)
            names.add(name)
        problems.named(f"{field}.port", port.get("port", 0), port_problem(port.get("port", 0)))
        if port.get("protocol") not in _PROTOCOLS:
            problems.unsupported(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)
        target = port.get("targetPort", 0)
        why = port_name_problem(target) if isinstance(target, str) else port_problem(target)
        problems.named(f"{field}.targetPort", target, why)
        key = (port.get("port"), port.get("protocol"))
        if key in keys:
            problems.duplicate(field, {"port": key[0], "protocol": key[1]})
        keys.add(key)


def _check_addresses(spec: dict[str, Any], problems: Problems) -> None:
    address = spec.get("clusterIP")
    if address and address != "None":
        try:
            ipaddress.ip_address(address)
        except ValueError:
            why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            problems.invalid("spec.clusterIPs[0]", address, why)
    addresses = spec.get("clusterIPs") or []
    if address and addresses and addresses[0] != address:
        problems.invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")


def check_service_change(new: dict[str, Any], old: dict[str, Any], problems: Problems) -> None:
    """A Service's address never changes."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return
    if before.get("clusterIP") and spec.get("clusterIP") != before["clusterIP"]:
        problems.invalid("spec.clusterIPs[0]", [spec.get("clusterIP") or ""], "may not change once set")
