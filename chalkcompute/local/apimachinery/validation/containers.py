"""Validity of one container: ports, environment, mounts, resources, probes, hooks."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.names import (
    CONTAINER_RESOURCES,
    config_key_problem,
    dns_label_problem,
    env_name_problem,
    is_huge_page,
    label_key_problem,
    port_name_problem,
)
from chalkcompute.local.apimachinery.pod_resources import is_pod_level
from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.apimachinery.validation.problems import Problems
from chalkcompute.local.apimachinery.validation.services import port_problem

__all__ = ["check_container", "check_resources"]

_PULL = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_MESSAGES = ("FallbackToLogsOnError", "File")
_POD_LEVEL = ("cpu", "hugepages-", "memory")
_ACTIONS = ("exec", "httpGet", "tcpSocket", "grpc")
_NOT_NEGATIVE = "must be greater than or equal to 0"


def check_container(
    container: dict[str, Any], field: str, volumes: set[str], grace: int | None, problems: Problems
) -> None:
    """The container at `field` of a Pod with these volumes and this termination grace period."""
    name = container.get("name") or ""
    if name:
        problems.named(f"{field}.name", name, dns_label_problem(name))
    else:
        problems.required(f"{field}.name")
    image = container.get("image") or ""
    if not image:
        problems.required(f"{field}.image")
    elif image != image.strip():
        problems.invalid(f"{field}.image", image, "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy") not in _PULL:
        problems.unsupported(f"{field}.imagePullPolicy", container.get("imagePullPolicy"), _PULL)
    if container.get("terminationMessagePolicy") not in _MESSAGES:
        problems.unsupported(
            f"{field}.terminationMessagePolicy", container.get("terminationMessagePolicy"), _MESSAGES
        )
    ports = container.get("ports") or []
    _check_ports(ports, f"{field}.ports", problems)
    _check_env(container.get("env") or [], f"{field}.env", problems)
    _check_mounts(container.get("volumeMounts") or [], f"{field}.volumeMounts", volumes, problems)
    check_resources(container.get("resources") or {}, f"{field}.resources", problems)
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(probe) is not None:
            _check_probe(container[probe], f"{field}.{probe}", probe, problems)
    for hook, action in (container.get("lifecycle") or {}).items():
        if isinstance(action, dict):
            _check_hook(action, f"{field}.lifecycle.{hook}", grace, problems)


def _check_ports(ports: list[dict[str, Any]], field: str, problems: Problems) -> None:
    names: set[str] = set()
    for index, port in enumerate(ports):
        below, name = f"{field}[{index}]", port.get("name") or ""
        if name:
            problems.named(f"{below}.name", name, port_name_problem(name))
            if name in names:
                problems.duplicate(f"{below}.name", name)
            names.add(name)
        number = port.get("containerPort", 0)
        if number == 0:
            problems.required(f"{below}.containerPort")
        else:
            problems.named(f"{below}.containerPort", number, port_problem(number))
        if port.get("hostPort"):
            problems.named(f"{below}.hostPort", port["hostPort"], port_problem(port["hostPort"]))
        if port.get("protocol") not in _PROTOCOLS:
            problems.unsupported(f"{below}.protocol", port.get("protocol"), _PROTOCOLS)


def _check_env(variables: list[dict[str, Any]], field: str, problems: Problems) -> None:
    for index, variable in enumerate(variables):
        below, name = f"{field}[{index}]", variable.get("name") or ""
        if name:
            problems.named(f"{below}.name", name, env_name_problem(name))
        else:
            problems.required(f"{below}.name")
        source = variable.get("valueFrom")
        if source is None:
            continue
        if variable.get("value"):
            problems.invalid(f"{below}.valueFrom", "", "may not be specified when `value` is not empty")
        if len(source) != 1:
            why = (
                "may not have more than one field specified at a time" if source else "must specify one of: "
            )
            problems.invalid(f"{below}.valueFrom", "", why)
        for kind in ("secretKeyRef", "configMapKeyRef"):
            if (reference := source.get(kind)) is not None:
                _check_reference(reference, f"{below}.valueFrom.{kind}", problems)


def _check_reference(reference: dict[str, Any], field: str, problems: Problems) -> None:
    if not reference.get("name"):
        problems.required(f"{field}.name")
    if not reference.get("key"):
        problems.required(f"{field}.key")
    else:
        problems.named(f"{field}.key", reference["key"], config_key_problem(reference["key"]))


def _check_mounts(mounts: list[dict[str, Any]], field: str, volumes: set[str], problems: Problems) -> None:
    paths: set[str] = set()
    for index, mount in enumerate(mounts):
        below, name, path = f"{field}[{index}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            problems.required(f"{below}.name")
        elif name not in volumes:
            problems.not_found(f"{below}.name", name)
        if not path:
            problems.required(f"{below}.mountPath")
        elif path in paths:
            problems.invalid(f"{below}.mountPath", path, "must be unique")
        paths.add(path)
        sub_path = mount.get("subPath") or ""
        if sub_path.startswith("/"):
            problems.invalid(f"{below}.subPath", sub_path, "must be a relative path")
        if ".." in sub_path.split("/"):
            problems.invalid(f"{below}.subPath", sub_path, "must not contain '..'")


def check_resources(
    resources: dict[str, Any], field: str, problems: Problems, *, whole_pod: bool = False
) -> None:
    """Requests and limits of a container, or of a Pod as a whole."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for part, values in (("limits", limits), ("requests", requests)):
        for name, text in values.items():
            below = f"{field}.{part}[{name}]"
            _check_amount(name, text, below, f"{field}.{part}", problems)
            if whole_pod and ("/" in name or name in CONTAINER_RESOURCES) and not is_pod_level(name):
                problems.unsupported(below, name, _POD_LEVEL)
    for name, text in requests.items():
        limit = limits.get(name)
        extended = name not in CONTAINER_RESOURCES and not is_huge_page(name)
        if limit is None:
            if extended:
                problems.required(f"{field}.limits", "Limit must be set for non overcommitable resources")
        elif extended and parse_quantity(text) != parse_quantity(limit):
            problems.invalid(f"{field}.requests", text, f"must be equal to {name} limit of {limit}")
        elif parse_quantity(text) > parse_quantity(limit):
            problems.invalid(
                f"{field}.requests", text, f"must be less than or equal to {name} limit of {limit}"
            )


def _check_amount(name: str, text: str, field: str, parent: str, problems: Problems) -> None:
    problems.named(parent, name, label_key_problem(name))
    if "/" not in name and name not in CONTAINER_RESOURCES and not is_huge_page(name):
        problems.invalid(field, name, "must be a standard resource type or fully qualified")
    value = parse_quantity(text)
    if value < 0:
        problems.invalid(field, text, _NOT_NEGATIVE)
    if name not in CONTAINER_RESOURCES and value != value.to_integral_value():
        problems.invalid(field, text, "must be an integer")


def _check_probe(probe: dict[str, Any], field: str, kind: str, problems: Problems) -> None:
    _check_action(probe, field, problems)
    for name in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        value = probe.get(name, 0)
        if value < 0:
            problems.invalid(f"{field}.{name}", value, _NOT_NEGATIVE)
    if kind != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        problems.invalid(f"{field}.successThreshold", probe["successThreshold"], "must be 1")
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and kind == "readinessProbe":
        problems.invalid(
            f"{field}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes"
        )
    elif grace is not None and grace <= 0:
        problems.invalid(f"{field}.terminationGracePeriodSeconds", grace, "must be greater than 0")


def _check_hook(hook: dict[str, Any], field: str, grace: int | None, problems: Problems) -> None:
    _check_action(hook, field, problems, also=("sleep",))
    sleep = hook.get("sleep")
    if sleep is None or grace is None:
        return
    seconds = sleep.get("seconds", 0)
    if not 0 <= seconds <= grace:
        why = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        problems.invalid(f"{field}.sleep", seconds, why)


def _check_action(action: dict[str, Any], field: str, problems: Problems, also: tuple[str, ...] = ()) -> None:
    given = [name for name in (*_ACTIONS, *also) if action.get(name) is not None]
    if not given:
        problems.required(field, "must specify a handler type")
    for extra in given[1:]:
        problems.forbidden(f"{field}.{extra}", "may not specify more than 1 handler type")
    for name in ("httpGet", "tcpSocket", "grpc"):
        handler = action.get(name)
        if handler is None:
            continue
        port = handler.get("port", 0)
        why = port_name_problem(port) if isinstance(port, str) else port_problem(port)
        problems.named(f"{field}.{name}.port", port, why)
    http = action.get("httpGet")
    if http is not None and http.get("scheme") not in ("HTTP", "HTTPS"):
        problems.unsupported(f"{field}.httpGet.scheme", http.get("scheme"), ("HTTP", "HTTPS"))
    command = action.get("exec")
    if command is not None and not command.get("command"):
        problems.required(f"{field}.exec.command")
