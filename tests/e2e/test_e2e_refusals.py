"""Bad input: one clear message, the documented exit code, nothing changed, never a traceback."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import IMAGE, Chalk, Kubernetes, eventually, kubeconfig_copy

GOOD = {"--name": "fine", "--image": IMAGE, "--port": "8000"}


def arguments(**changes: str) -> list[str]:
    return [
        f"{k}={v}" for k, v in {**GOOD, **{f"--{k.replace('_', '-')}": v for k, v in changes.items()}}.items()
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Inference"}, "inference"),
        ({"name": "-a"}, "-a"),
        ({"name": "a" * 60}, "54"),
        ({"port": "0"}, "65535"),
        ({"port": "65536"}, "65535"),
        ({"cpu": "abc"}, "abc"),
        ({"memory": "8gb"}, "8Gi"),
        ({"memory": "500m"}, "byte"),
        ({"gpu": "l4:x"}, "l4:x"),
        ({"gpu": ":1"}, ":1"),
        ({"tags": "a=1,a=2"}, "a"),
        ({"tags": "novalue"}, "novalue"),
        ({"tags": "team=ml platform"}, "ml platform"),
        ({"tags": "-bad=1"}, "-bad"),
        ({"entrypoint": "python,,x"}, "entrypoint"),
        ({"min_replicas": "3", "max_replicas": "2"}, "3"),
        ({"replicas": "2", "min_replicas": "1"}, "--replicas"),
        ({"image": ""}, "image"),
        ({"target_cpu": "0"}, "target"),
        ({"shutdown_delay": "-1"}, "shutdown"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_a_spec_that_cannot_be(
    chalk: Chalk, kubernetes: Kubernetes, changes: dict[str, str], said: str
) -> None:
    refused = chalk.sg("create", *arguments(**changes), code=2)
    assert said in refused.err
    assert "Traceback" not in refused.err
    assert refused.out == ""
    assert (
        kubernetes.items(f"/api/v1/namespaces/{chalk.namespace}/configmaps", "chalk.ai/scaling-group") == []
    )


def test_environment_and_name_over_one_dns_label(chalk: Chalk) -> None:
    refused = chalk.sg("create", *arguments(name="a" * 54), "--environment=abcdefghijklmnop", code=2)
    assert "63" in refused.err


def test_unknown_context_names_those_there_are(chalk: Chalk) -> None:
    refused = chalk("--context=nowhere", "scaling-group", "list", code=5)
    assert "nowhere" in refused.err
    assert "Traceback" not in refused.err


def test_no_kubeconfig_names_local_up(chalk: Chalk, tmp_path: Path) -> None:
    refused = chalk.sg("list", code=5, env={"KUBECONFIG": "", "HOME": str(tmp_path)})
    assert "chalk local up" in refused.err


def test_refused_credential(chalk: Chalk, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        for user in config["users"]:
            user["user"] = {"token": "expired"}

    path = kubeconfig_copy(chalk.kubeconfig, tmp_path, change)
    refused = chalk.sg("list", code=5, env={"KUBECONFIG": str(path)})
    assert "Traceback" not in refused.err
    assert "401" in refused.err or "redential" in refused.err


def test_unreachable_cluster(chalk: Chalk, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        for cluster in config["clusters"]:
            cluster["cluster"]["server"] = "https://127.0.0.1:9"
            cluster["cluster"].pop("proxy-url", None)

    path = kubeconfig_copy(chalk.kubeconfig, tmp_path, change)
    refused = chalk.sg("list", code=5, env={"KUBECONFIG": str(path)})
    assert "127.0.0.1:9" in refused.err


def test_namespace_that_does_not_exist(chalk: Chalk) -> None:
    nowhere = f"none{secrets.token_hex(5)}"
    refused = chalk.sg("create", *arguments(), f"--namespace={nowhere}", code=3)
    assert nowhere in refused.err


def test_nothing_of_that_name(chalk: Chalk) -> None:
    for verb in ("get", "delete"):
        refused = chalk.sg(verb, "--name=ghost", code=3)
        assert "ghost" in refused.err
        unknown = "00000000-0000-4000-8000-000000000000"
        refused = chalk.sg(verb, f"--id={unknown}", code=3)
        assert unknown in refused.err


def test_a_gateway_that_does_not_exist(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    refused = chalk.sg("create", *arguments(), f"--gateway={namespace}/none", code=2)
    assert f"{namespace}/none" in refused.err
    assert kubernetes.group_objects(namespace, "fine") == []


def test_a_quota_without_room(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    if not kubernetes.serves("v1", "resourcequotas"):
        assert "created" in chalk.sg("create", *arguments(), "--dry-run").out
        return
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full"},
        "spec": {"hard": {"pods": "0"}},
    }
    status, body = kubernetes.request("post", quotas, quota)
    assert status == 201, body
    eventually(lambda: kubernetes.get(f"{quotas}/full")["status"]["hard"], "the quota is in force")
    refused = chalk.sg("create", *arguments(), "-o", "json", code=6)
    verdict = json.loads(refused.err.splitlines()[-1])["error"]["verdict"]
    assert verdict["cause"] == "QuotaExceeded"
    assert "pods" in verdict["message"]
    assert kubernetes.group_objects(namespace, "fine") == []


def test_a_policy_that_refuses_the_replicas(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    """PodSecurity `restricted` wants a user that is not root, which `python` images are not."""
    status, body = kubernetes.request(
        "patch",
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
        content_type="application/merge-patch+json",
    )
    assert status == 200, body
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "asked"},
        "spec": {"containers": [{"name": "app", "image": IMAGE}]},
    }
    asked, _ = kubernetes.request(
        "post", f"/api/v1/namespaces/{namespace}/pods", pod, query_params=[("dryRun", "All")]
    )
    if asked == 201:  # this cluster has no such admission
        assert "created" in chalk.sg("create", *arguments(), "--dry-run").out
        return
    assert asked == 403
    refused = chalk.sg("create", *arguments(), "-o", "json", code=6)
    verdict = json.loads(refused.err.splitlines()[-1])["error"]["verdict"]
    assert verdict["cause"] == "AdmissionRefused"
    assert "restricted" in verdict["message"]
    assert kubernetes.group_objects(namespace, "fine") == []


@pytest.mark.parametrize("kind", ["Service", "Deployment", "ConfigMap", "HTTPRoute"])
def test_an_object_that_is_someone_elses_is_not_touched(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, kind: str
) -> None:
    theirs = {
        "Service": (
            f"/api/v1/namespaces/{namespace}/services",
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "fine"},
                "spec": {"ports": [{"port": 80}]},
            },
        ),
        "Deployment": (
            f"/apis/apps/v1/namespaces/{namespace}/deployments",
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "fine"},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": "x"}},
                    "template": {
                        "metadata": {"labels": {"app": "x"}},
                        "spec": {"containers": [{"name": "x", "image": IMAGE}]},
                    },
                },
            },
        ),
        "ConfigMap": (
            f"/api/v1/namespaces/{namespace}/configmaps",
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "chalk-sg-fine"},
                "data": {"a": "b"},
            },
        ),
        "HTTPRoute": (
            f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes",
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": "fine"},
                "spec": {
                    "hostnames": ["theirs.example"],
                    "rules": [{"backendRefs": [{"name": "x", "port": 80}]}],
                },
            },
        ),
    }
    path, obj = theirs[kind]
    status, made = kubernetes.request("post", path, obj)
    assert status == 201, made
    refused = chalk.sg("create", *arguments(), code=4)
    assert kind in refused.err
    assert "Traceback" not in refused.err
    after = kubernetes.get(f"{path}/{made['metadata']['name']}")
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    assert after.get("spec") == made.get("spec")
    assert after["metadata"].get("labels") == made["metadata"].get("labels")
    assert kubernetes.items(f"/api/v1/namespaces/{namespace}/configmaps", "chalk.ai/scaling-group") == []
