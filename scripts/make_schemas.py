"""Write the compact schemas of the embedded cluster from a Kubernetes release's own documents.

usage: make_schemas.py --source DIR [--check]

DIR holds what a cluster publishes: `kubernetes-1.36-<group>-<version>.json` (GET /openapi/v3/apis/G/V)
and CustomResourceDefinitions (`*.yaml`: of the Gateway API, of KEDA and its HTTP add-on). `--check` writes
nothing and exits 1 when the data in the package are not what DIR gives.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from chalkcompute.local.apimachinery.kinds import KINDS, Kind

TARGET = Path(__file__).resolve().parent.parent / "chalkcompute/local/apimachinery/schemas"
PREFIX = "#/components/schemas/"
KEPT = {
    "type",
    "format",
    "enum",
    "default",
    "required",
    "nullable",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "uniqueItems",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-patch-merge-key",
    "x-kubernetes-patch-strategy",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
}
SUMMARY_MAX = 160  # characters of a description that `kubectl explain` still shows

# Go pointers: the API server keeps their zero value, where it drops that of a plain field. OpenAPI does not
# tell the two apart; this is read off the types of k8s.io/api.
POINTERS = {
    "activeDeadlineSeconds",
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "allowVolumeExpansion",
    "appProtocol",
    "automountServiceAccountToken",
    "averageUtilization",
    "blockOwnerDeletion",
    "containerPort",
    "controller",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "enableServiceLinks",
    "expirationSeconds",
    "externalTrafficPolicy",
    "fsGroup",
    "fsGroupChangePolicy",
    "healthCheckNodePortOverride",
    "holderIdentity",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "immutable",
    "internalTrafficPolicy",
    "ipFamilyPolicy",
    "leaseDurationSeconds",
    "leaseTransitions",
    "loadBalancerClass",
    "localhostProfile",
    "minDomains",
    "minReplicas",
    "mode",
    "nodeAffinityPolicy",
    "nodeName",
    "nodeTaintsPolicy",
    "observedGeneration",
    "optional",
    "partition",
    "preemptionPolicy",
    "preferredHolder",
    "priority",
    "privileged",
    "procMount",
    "progressDeadlineSeconds",
    "readOnlyRootFilesystem",
    "ready",
    "recursiveReadOnly",
    "replicas",
    "resourceClaimName",
    "restartPolicyRules",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "runtimeClassName",
    "seconds",
    "selectPolicy",
    "service",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "stabilizationWindowSeconds",
    "started",
    "storageClassName",
    "strategy",
    "supplementalGroupsPolicy",
    "terminating",
    "terminatingReplicas",
    "terminationGracePeriodSeconds",
    "timeoutSecondsOverride",
    "tolerationSeconds",
    "trafficDistribution",
    "type",
    "volumeAttributesClassName",
    "volumeMode",
    "volumeName",
    "zone",
}
# The same field name is a pointer in some types only.
PLAIN = {
    "DeploymentStatus.observedGeneration",
    "DeploymentStatus.replicas",
    "ReplicaSetStatus.observedGeneration",
    "ReplicaSetStatus.replicas",
    "PodStatus.observedGeneration",
    "PodSpec.nodeName",
    "PodSpec.hostname",
    "DeploymentStrategy.type",
    "Secret.type",
    "Event.type",
    "ServiceSpec.type",
    "ServiceSpec.externalTrafficPolicy",
    "PersistentVolumeClaimSpec.volumeName",
    "SeccompProfile.type",
    "TypedLocalObjectReference.type",
    "NodeAddress.type",
    "EndpointAddress.hostname",
    "LoadBalancerIngress.hostname",
}


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--source", type=Path, required=True, help="folder of OpenAPI documents and CRDs")
    parser.add_argument("--check", action="store_true", help="only say whether the data are stale")
    options = parser.parse_args()
    documents = {"kubernetes.json": kubernetes(options.source), "custom.json": custom(options.source)}
    stale = False
    for name, document in documents.items():
        text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False) + "\n"
        path = TARGET / name
        if options.check:
            if not path.exists() or path.read_text("utf-8") != text:
                stale = True
                sys.stderr.write(f"{path} is stale: run {Path(__file__).name} --source {options.source}\n")
        else:
            path.write_text(text, "utf-8")
    return int(stale)


def kubernetes(source: Path) -> dict[str, Any]:
    """Built-in kinds: the types they reach, by short name."""
    raw: dict[str, Any] = {}
    for path in sorted(source.glob("kubernetes-*.json")):
        raw.update(json.loads(path.read_text("utf-8"))["components"]["schemas"])
    kinds = {}
    for kind in KINDS:
        if not kind.custom:
            kinds[f"{kind.api_version}/{kind.kind}"] = short(declared(raw, kind))
    roots = [declared(raw, kind) for kind in KINDS if not kind.custom]
    roots.append("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
    types: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if short(name) in types:
            continue
        types[short(name)] = compact(raw[name], short(name), waiting)
    return {"kinds": kinds, "types": types}


def declared(raw: dict[str, Any], kind: Kind) -> str:
    """The full name of a kind's type."""
    wanted = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    return next(n for n, s in raw.items() if wanted in s.get("x-kubernetes-group-version-kind", ()))


def short(name: str) -> str:
    """`io.k8s.api.core.v1.Container` -> `Container`; `resource.Quantity` -> `Quantity`."""
    return name.rsplit(".", 1)[1]


def compact(node: dict[str, Any], owner: str, waiting: list[str]) -> dict[str, Any]:
    """One schema without prose, references by short name."""
    out = {key: value for key, value in node.items() if key in KEPT}
    references = [part["$ref"] for part in (node, *node.get("allOf", ())) if "$ref" in part]
    for reference in references:
        name = reference.removeprefix(PREFIX)
        waiting.append(name)
        out["$ref"] = short(name)
    if owner == "Quantity":
        return {"type": "quantity"}
    if owner == "IntOrString":
        return {"type": "int-or-string"}
    required = node.get("required", ())
    if "properties" in node:
        out["properties"] = {}
        for name, child in node["properties"].items():
            field = compact(child, f"{owner}.{name}", waiting)
            plain = field.get("type") in ("string", "boolean", "integer", "number") and "default" not in field
            pointer = name in POINTERS and f"{owner}.{name}" not in PLAIN
            if plain and name not in required and not pointer:
                field["x-omit-zero"] = True
            out["properties"][name] = field
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = compact(node["additionalProperties"], owner, waiting)
    if "items" in node:
        out["items"] = compact(node["items"], owner, waiting)
    return described(out, node)


def custom(source: Path) -> dict[str, Any]:
    """Custom kinds: one structural schema for each served version."""
    kinds: dict[str, Any] = {}
    for path in sorted(source.glob("*.yaml")):
        definition = yaml.safe_load(path.read_text("utf-8"))["spec"]
        for version in definition["versions"]:
            if version["served"]:
                key = f"{definition['group']}/{version['name']}/{definition['names']['kind']}"
                kinds[key] = structural(version["schema"]["openAPIV3Schema"])
    return {"kinds": kinds}


def structural(node: dict[str, Any]) -> dict[str, Any]:
    """One schema of a CustomResourceDefinition without prose."""
    out = {key: value for key, value in node.items() if key in KEPT}
    if "properties" in node:
        out["properties"] = {name: structural(child) for name, child in node["properties"].items()}
    if isinstance(node.get("additionalProperties"), dict):
        out["additionalProperties"] = structural(node["additionalProperties"])
    if "items" in node:
        out["items"] = structural(node["items"])
    return described(out, node)


def described(out: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """With the first sentence of the description, where it is short."""
    text = re.split(r"(?<=[.])\s|\n", node.get("description", "").strip(), maxsplit=1)[0]
    if text and len(text) <= SUMMARY_MAX:
        out["description"] = text
    return out


if __name__ == "__main__":
    sys.exit(main())
