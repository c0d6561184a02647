"""Validity of Pods and of the Pod specs in templates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chalkcompute.local.apimachinery.names import dns_label_problem, is_huge_page, label_key_problem
from chalkcompute.local.apimachinery.pod_resources import amounts_of, container_totals
from chalkcompute.local.apimachinery.quantity import parse_quantity
from chalkcompute.local.apimachinery.validation.containers import check_container, check_resources
from chalkcompute.local.apimachinery.validation.problems import Problems

__all__ = ["check_pod", "check_pod_change", "check_pod_spec"]

_RESTART = ("Always", "Never", "OnFailure")
_DNS = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_CHANGEABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")
_FILES = ("configMap", "secret", "downwardAPI")  # kinds of volumes that are made of files
_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def check_pod(obj: dict[str, Any], problems: Problems) -> None:
    """A Pod of its own."""
    check_pod_spec(obj.get("spec") or {}, "spec", problems)


def check_pod_spec(spec: dict[str, Any], field: str, problems: Problems) -> None:
    """The Pod spec at `field`."""
    volumes = _check_volumes(spec.get("volumes") or [], f"{field}.volumes", problems)
    if resources := spec.get("resources"):
        check_resources(resources, f"{field}.resources", problems, whole_pod=True)
        _check_whole(spec, f"{field}.resources", problems)
    grace = spec.get("terminationGracePeriodSeconds")
    containers = spec.get("containers") or []
    if not containers:
        problems.required(f"{field}.containers")
    names: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or []):
            below = f"{field}.{group}[{index}]"
            check_container(container, below, volumes, grace, problems)
            name = container.get("name") or ""
            if name and name in names:
                problems.duplicate(f"{below}.name", name)
            names.add(name)
    if spec.get("restartPolicy") not in _RESTART:
        problems.unsupported(f"{field}.restartPolicy", spec.get("restartPolicy"), _RESTART)
    if spec.get("dnsPolicy") not in _DNS:
        problems.unsupported(f"{field}.dnsPolicy", spec.get("dnsPolicy"), _DNS)
    if grace is not None and grace < 0:
        problems.invalid(
            f"{field}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"
        )
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and deadline < 1:
        problems.invalid(
            f"{field}.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive"
        )
    for key in spec.get("nodeSelector") or {}:
        problems.named(f"{field}.nodeSelector", key, label_key_problem(key))
    for index, toleration in enumerate(spec.get("tolerations") or []):
        _check_toleration(toleration, f"{field}.tolerations[{index}]", problems)


def _check_whole(spec: dict[str, Any], field: str, problems: Problems) -> None:
    """A Pod as a whole asks for as much as its containers, and none may have more than it."""
    for part in ("requests", "limits"):
        totals = container_totals(spec, part)
        for name, whole in amounts_of(spec, part).items():
            least = totals.get(name, "0")
            counts = part == "requests" or is_huge_page(name)  # limits may be overcommitted
            if counts and parse_quantity(least) > parse_quantity(whole):
                why = f"must be greater than or equal to aggregate container {part} of {least}"
                problems.invalid(f"{field}.{part}[{name}]", whole, why)
    limits = amounts_of(spec, "limits")
    for index, container in enumerate(spec.get("containers") or []):
        for name, own in amounts_of(container, "limits").items():
            if name in limits and parse_quantity(own) > parse_quantity(limits[name]):
                why = f"must be less than or equal to pod limits of {limits[name]}"
                # The path is below the Pod's resources with a real server, too.
                problems.invalid(f"{field}.containers[{index}][{name}].limits", own, why)


def check_pod_change(new: dict[str, Any], old: dict[str, Any], problems: Problems) -> None:
    """Of a Pod's spec only the images and few fields may change, and a node is assigned once."""
    spec, before = _fixed(new.get("spec") or {}), _fixed(old.get("spec") or {})
    if not before.get("nodeName"):
        spec.pop("nodeName", None)
    if spec != before:
        problems.forbidden(
            "spec",
            "pod updates may not change fields other than "
            "`spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        )


def _fixed(spec: dict[str, Any]) -> dict[str, Any]:
    out = {name: value for name, value in spec.items() if name not in _CHANGEABLE}
    for group in ("containers", "initContainers"):
        if group in out:
            out[group] = [{**container, "image": ""} for container in out[group]]
    return out


def _check_volumes(volumes: list[dict[str, Any]], field: str, problems: Problems) -> set[str]:
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        below, name = f"{field}[{index}]", volume.get("name") or ""
        if name:
            problems.named(f"{below}.name", name, dns_label_problem(name))
        else:
            problems.required(f"{below}.name")
        if name in names:
            problems.duplicate(f"{below}.name", name)
        names.add(name)
        sources = [key for key in volume if key != "name"]
        if not sources:
            problems.required(below, "must specify a volume type")
        for extra in sources[1:]:
            problems.forbidden(f"{below}.{extra}", "may not specify more than 1 volume type")
        if (claim := volume.get("persistentVolumeClaim")) is not None and not claim.get("claimName"):
            problems.required(f"{below}.persistentVolumeClaim.claimName")
        if (secret := volume.get("secret")) is not None and not secret.get("secretName"):
            problems.required(f"{below}.secret.secretName")
        if (config := volume.get("configMap")) is not None and not config.get("name"):
            problems.required(f"{below}.configMap.name")
        for place, source in _sources(volume, below):
            for number, item in enumerate(source.get("items") or ()):
                _check_item_path(item.get("path") or "", f"{place}.items[{number}].path", problems)
    return names


def _sources(volume: dict[str, Any], field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a volume has files from, and where that stands."""
    parts = [(field, volume)]
    projected = (volume.get("projected") or {}).get("sources") or ()
    parts += [(f"{field}.projected.sources[{number}]", part) for number, part in enumerate(projected)]
    for place, part in parts:
        for kind in _FILES:
            if part.get(kind) is not None:
                yield f"{place}.{kind}", part[kind]


def _check_item_path(path: str, field: str, problems: Problems) -> None:
    """No file leaves its volume (`validateLocalNonReservedPath`)."""
    if not path:
        problems.required(field)
    elif path.startswith("/"):
        problems.invalid(field, path, "must be a relative path")
    elif ".." in path.split("/"):
        problems.invalid(field, path, "must not contain '..'")
    elif path.startswith(".."):
        problems.invalid(field, path, "must not start with '..'")


def _check_toleration(toleration: dict[str, Any], field: str, problems: Problems) -> None:
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if key:
        problems.named(f"{field}.key", key, label_key_problem(key))
    elif operator != "Exists":
        why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        problems.invalid(f"{field}.operator", operator, why)
    if operator not in ("Equal", "Exists", "Gt", "Lt"):
        problems.unsupported(f"{field}.operator", operator, ("Equal", "Exists"))
    if operator == "Exists" and toleration.get("value"):
        problems.invalid(
            f"{field}.operator", toleration["value"], "value must be empty when `operator` is 'Exists'"
        )
    if toleration.get("effect") not in (None, "", *_EFFECTS):
        problems.unsupported(f"{field}.effect", toleration["effect"], _EFFECTS)
