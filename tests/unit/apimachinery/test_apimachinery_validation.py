"""What is refused with 422, and where the cause points, beyond the recorded refusals."""

from __future__ import annotations

import base64
import copy
from typing import Any

import pytest

from chalkcompute.local.apimachinery.decode import decode
from chalkcompute.local.apimachinery.defaults import default
from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.apimachinery.strategy import prepare_update
from chalkcompute.local.apimachinery.validation import validate_update
from tests.unit.apimachinery.storing import causes, stored

GATEWAY = "gateway.networking.k8s.io/v1"


def deployment(container: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    pod = spec.pop("pod", {})
    template = {
        "metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "app", "image": "i", **(container or {})}], **pod},
    }
    body = {"selector": {"matchLabels": {"app": "x"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": body}


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": spec}


def config(kind: str = "ConfigMap", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, **fields}


def route(**rule: Any) -> dict[str, Any]:
    return {"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": {"name": "r"}, "spec": {"rules": [rule]}}


def claim(**spec: Any) -> dict[str, Any]:
    return config("PersistentVolumeClaim", spec=spec)


def gateway(*listeners: dict[str, Any]) -> dict[str, Any]:
    spec = {"gatewayClassName": "chalk", "listeners": list(listeners)}
    return {"apiVersion": GATEWAY, "kind": "Gateway", "metadata": {"name": "g"}, "spec": spec}


C = "spec.template.spec.containers[0]"
RULE = "spec.rules[0]"
LISTENER = {"name": "l", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "c"}]}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (deployment({"image": ""}), [(f"{C}.image", "Required")]),
        (deployment({"imagePullPolicy": "Sometimes"}), [(f"{C}.imagePullPolicy", "NotSupported")]),
        (
            deployment({"ports": [{"containerPort": 80, "name": "UPPER"}]}),
            [(f"{C}.ports[0].name", "Invalid")],
        ),
        (deployment({"ports": [{"containerPort": 0}]}), [(f"{C}.ports[0].containerPort", "Required")]),
        (deployment({"resources": {"limits": {"cpu": "-1"}}}), [(f"{C}.resources.limits[cpu]", "Invalid")]),
        (
            deployment({"resources": {"limits": {"nvidia.com/gpu": "500m"}}}),
            [(f"{C}.resources.limits[nvidia.com/gpu]", "Invalid")],
        ),
        (
            deployment({"resources": {"requests": {"nvidia.com/gpu": "1"}}}),
            [(f"{C}.resources.limits", "Required")],
        ),
        (deployment({"readinessProbe": {}}), [(f"{C}.readinessProbe", "Required")]),
        (
            deployment({"readinessProbe": {"tcpSocket": {"port": 1}, "httpGet": {"port": 1}}}),
            [(f"{C}.readinessProbe.tcpSocket", "Forbidden")],
        ),
        (
            deployment({"livenessProbe": {"tcpSocket": {"port": 70000}, "successThreshold": 2}}),
            [
                (f"{C}.livenessProbe.tcpSocket.port", "Invalid"),
                (f"{C}.livenessProbe.successThreshold", "Invalid"),
            ],
        ),
        (
            deployment({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}),
            [(f"{C}.lifecycle.preStop.sleep", "Invalid")],
        ),
        (deployment({"env": [{"name": "A=B", "value": "1"}]}), [(f"{C}.env[0].name", "Invalid")]),
        (
            deployment(
                {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "bad key"}}}]}
            ),
            [(f"{C}.env[0].valueFrom.secretKeyRef.key", "Invalid")],
        ),
        (
            deployment(
                {"volumeMounts": [{"name": "v", "mountPath": "/a"}] * 2}, pod={"volumes": [{"name": "v"}]}
            ),
            [(f"{C}.volumeMounts[1].mountPath", "Invalid")],
        ),
        *(
            (
                deployment(pod={"volumes": [{"name": "v", **volume}]}),
                [(f"spec.template.spec.volumes[0].{field}.items[0].path", reason)],
            )
            for path, reason in (("../x", "Invalid"), ("/x", "Invalid"), ("..x", "Invalid"), ("", "Required"))
            for items in [{"items": [{"key": "k", "path": path}]}]
            for field, volume in (
                ("configMap", {"configMap": {"name": "c", **items}}),
                ("secret", {"secret": {"secretName": "s", **items}}),
                ("downwardAPI", {"downwardAPI": items}),
                (
                    "projected.sources[0].secret",
                    {"projected": {"sources": [{"secret": {"name": "s", **items}}]}},
                ),
            )
        ),
        (
            deployment(pod={"volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]}),
            [("spec.template.spec.volumes[0].secret", "Forbidden")],
        ),
        (deployment(pod={"restartPolicy": "Never"}), [("spec.template.spec.restartPolicy", "NotSupported")]),
        (
            deployment(pod={"terminationGracePeriodSeconds": -1}),
            [("spec.template.spec.terminationGracePeriodSeconds", "Invalid")],
        ),
        (deployment(pod={"containers": []}), [("spec.template.spec.containers", "Required")]),
        (
            deployment(pod={"containers": [{"name": "a", "image": "i"}] * 2}),
            [("spec.template.spec.containers[1].name", "Duplicate")],
        ),
        (deployment(selector={}), [("spec.selector", "Invalid")]),
        (
            deployment(selector={"matchExpressions": [{"key": "app", "operator": "In"}]}),
            [("spec.selector.matchExpressions[0].values", "Required")],
        ),
        (deployment(strategy={"type": "Odd"}), [("spec.strategy.type", "NotSupported")]),
        (
            deployment(strategy={"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            [("spec.strategy.rollingUpdate", "Forbidden")],
        ),
        (
            deployment(strategy={"rollingUpdate": {"maxSurge": "many"}}),
            [("spec.strategy.rollingUpdate.maxSurge", "Invalid")],
        ),
        (
            deployment(progressDeadlineSeconds=5, minReadySeconds=5),
            [("spec.progressDeadlineSeconds", "Invalid")],
        ),
        (
            service(ports=[{"port": 80}, {"port": 81}]),
            [("spec.ports[0].name", "Required"), ("spec.ports[1].name", "Required")],
        ),
        (
            service(ports=[{"name": "a", "port": 80}, {"name": "b", "port": 80}]),
            [("spec.ports[1]", "Duplicate")],
        ),
        (service(type="Odd", ports=[{"port": 80}]), [("spec.type", "NotSupported")]),
        (service(clusterIP="nonsense", ports=[{"port": 80}]), [("spec.clusterIPs[0]", "Invalid")]),
        (service(type="ExternalName"), [("spec.externalName", "Required")]),
        (config(data={"k": "x" * (1024 * 1024 + 1)}), [("", "TooLong")]),
        (config(data={"k": "x"}, binaryData={"k": "eA=="}), [("data[k]", "Invalid")]),
        (config(data={"..": "x"}), [("data[..]", "Invalid")]),
        (
            config("Secret", data={"k": base64.b64encode(b"x" * (1024 * 1024 + 1)).decode()}),
            [("data", "TooLong")],
        ),
        (
            config("Secret", type="kubernetes.io/tls", data={"tls.crt": "eA=="}),
            [("data[tls.key]", "Required")],
        ),
        (
            claim(accessModes=["Odd"]),
            [("spec.accessModes[0]", "NotSupported"), ("spec.resources[storage]", "Required")],
        ),
        (
            claim(
                accessModes=["ReadWriteOncePod", "ReadWriteMany"], resources={"requests": {"storage": "0"}}
            ),
            [("spec.accessModes", "Forbidden"), ("spec.resources[storage]", "Invalid")],
        ),
        (route(backendRefs=[{"name": "s"}]), [(f"{RULE}.backendRefs[0]", "Invalid")]),
        (route(backendRefs=[{"name": "s", "port": 0}]), [(f"{RULE}.backendRefs[0].port", "Invalid")]),
        (route(backendRefs=[{"port": 80}]), [(f"{RULE}.backendRefs[0].name", "Required")]),
        (route(matches=[{"path": {"value": "no-slash"}}]), [(f"{RULE}.matches[0].path", "Invalid")]),
        (route(matches=[{"path": {"type": "Odd"}}]), [(f"{RULE}.matches[0].path.type", "NotSupported")]),
        (route(matches="text"), [(f"{RULE}.matches", "TypeInvalid")]),
        (route(filters=[{"type": "URLRewrite"}]), [(f"{RULE}.filters[0]", "Invalid")]),
        (
            route(timeouts={"request": "1s", "backendRequest": "2s"}),
            [(f"{RULE}.timeouts", "Invalid")],
        ),
        (gateway(LISTENER, LISTENER), [("spec.listeners[1]", "Duplicate")]),
        (gateway({**LISTENER, "protocol": "HTTP"}), [("spec.listeners", "Invalid")]),
        ({"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": {"name": "r"}}, [("spec", "Required")]),
    ],
)
def test_what_is_refused(body: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert causes(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        deployment(),
        deployment({"lifecycle": {"preStop": {"sleep": {"seconds": 30}}}}),
        deployment({"resources": {"limits": {"nvidia.com/gpu": "1"}}}),
        deployment({"env": [{"name": "with-dash.and.dot", "value": ""}]}),
        deployment(strategy={"type": "Recreate"}),
        service(clusterIP="None"),
        service(type="ExternalName", externalName="example.com"),
        service(ports=[{"port": 80, "targetPort": "http"}]),
        config(data={"k": "x" * (1024 * 1024)}),
        claim(accessModes=["ReadWriteMany"], resources={"requests": {"storage": "1Gi"}}),
        route(backendRefs=[{"name": "s", "port": 80}], timeouts={"request": "0s", "backendRequest": "2s"}),
        gateway(LISTENER, {**LISTENER, "name": "plain", "port": 80, "protocol": "HTTP", "tls": None}),
    ],
)
def test_what_is_accepted_stays_accepted_unchanged(body: dict[str, Any]) -> None:
    obj = stored(body)
    kind = by_kind(body["kind"])
    again = prepare_update(kind, default(kind, decode(kind, copy.deepcopy(obj))[0]), obj)
    validate_update(kind, again, obj)
    assert again == obj


@pytest.mark.parametrize(
    ("body", "change", "field"),
    [
        (
            deployment(),
            {"selector": {"matchLabels": {"app": "x", "b": "c"}}},
            "spec.template.metadata.labels",
        ),
        (service(clusterIP="None", ports=[{"port": 80}]), {"clusterIP": "10.0.0.1"}, "spec.clusterIPs"),
        (
            claim(accessModes=["ReadWriteOnce"], resources={"requests": {"storage": "1Gi"}}),
            {"accessModes": ["ReadWriteMany"]},
            "spec",
        ),
        (
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p"},
                "spec": {"containers": [{"name": "a", "image": "i"}], "nodeName": "n1"},
            },
            {"nodeName": "n2"},
            "spec",
        ),
    ],
)
def test_what_never_changes(body: dict[str, Any], change: dict[str, Any], field: str) -> None:
    old = stored(body)
    new = {**old, "spec": {**old["spec"], **change}}
    with pytest.raises(StatusError) as refused:
        validate_update(by_kind(body["kind"]), new, old)
    assert field in [cause.field for cause in refused.value.causes]


def test_immutable_config_stays() -> None:
    old = stored(config("Secret", data={"k": "eA=="}, immutable=True))
    with pytest.raises(StatusError) as refused:
        validate_update(by_kind("Secret"), {**old, "immutable": False, "data": {}, "type": "other"}, old)
    assert {cause.field for cause in refused.value.causes} == {"type", "immutable", "data"}


def test_a_status_write_changes_only_status() -> None:
    kind = by_kind("Deployment")
    old = stored(deployment())
    new = copy.deepcopy(old)
    new["spec"]["replicas"] = 9
    new["metadata"]["labels"] = {"a": "b"}
    new["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "1"}
    new["status"] = {"replicas": 1}
    out = prepare_update(kind, new, old, "status")
    assert out["spec"] == old["spec"]
    assert "labels" not in out["metadata"]
    assert out["metadata"]["annotations"] == new["metadata"]["annotations"]
    assert out["status"] == {"replicas": 1}
    assert prepare_update(kind, {**old, "status": {"replicas": 1}}, old)["status"] == old["status"]


@pytest.mark.parametrize("kind", ["Deployment", "HTTPRoute"])
def test_generation_counts_changes_of_what_is_asked(kind: str) -> None:
    old = stored(deployment() if kind == "Deployment" else route())
    labelled = {**old, "metadata": {**old["metadata"], "labels": {"a": "b"}}}
    assert prepare_update(by_kind(kind), labelled, old)["metadata"]["generation"] == 1
    field, value = ("paused", True) if kind == "Deployment" else ("hostnames", ["a.b"])
    asked = {**old, "spec": {**old["spec"], field: value}}
    assert prepare_update(by_kind(kind), asked, old)["metadata"]["generation"] == 2


def test_binding_a_pod_is_no_new_generation() -> None:
    spec = {"containers": [{"name": "a", "image": "i"}]}
    pod = stored({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    bound = {**pod, "spec": {**pod["spec"], "nodeName": "n"}}
    assert prepare_update(by_kind("Pod"), bound, pod)["metadata"]["generation"] == 1
    other = {**bound, "spec": {**bound["spec"], "activeDeadlineSeconds": 5}}
    assert prepare_update(by_kind("Pod"), other, bound)["metadata"]["generation"] == 2


def test_pods_request_what_they_are_limited_to() -> None:
    limits = {"cpu": "1000m", "memory": "1024Mi"}
    spec = {"containers": [{"name": "a", "image": "i", "resources": {"limits": limits}}]}
    pod = stored({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
    ],
)
def test_the_pull_policy_follows_the_tag(image: str, policy: str) -> None:
    obj = stored(deployment({"image": image}))
    assert obj["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == policy
