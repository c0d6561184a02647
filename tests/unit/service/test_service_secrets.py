"""Secrets from the description to the pods: what is written, what is reused, and what nobody ever sees."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalkcompute.client import ChalkClient
from chalkcompute.errors import ForbiddenError, SpecError
from chalkcompute.scaling_group import ScalingGroup
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content
from chalkcompute.spec.secrets import SecretRef
from chalkcompute.types import Action, Manifest
from tests.unit.service.conftest import ApiCluster, FailingCluster

Reconnect = Callable[..., tuple[ChalkClient, FailingCluster]]
VALUE = "hunter2-do-not-show"
CONTENT = Content(secret_values={"API_KEY": VALUE})


def secrets_of(cluster: ApiCluster) -> list[Manifest]:
    return cluster.api.list("Secret", "default")


def pod_of(cluster: ApiCluster) -> Manifest:
    deployment = cluster.seen("Deployment", "web")
    assert deployment is not None
    template: Manifest = deployment["spec"]["template"]
    return template


def env_of(cluster: ApiCluster) -> dict[str, Any]:
    return {item["name"]: item for item in pod_of(cluster)["spec"]["containers"][0].get("env") or ()}


def test_a_value_is_in_one_secret_and_nowhere_else(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    result = client.create_scaling_group(spec, content=CONTENT)
    (made,) = secrets_of(cluster)
    name = made["metadata"]["name"]
    assert name.startswith("web-env-")
    assert made["immutable"] is True
    assert base64.b64decode(made["data"]["API_KEY"]).decode() == VALUE
    assert made["metadata"]["ownerReferences"][0]["name"] == "chalk-sg-web"
    assert env_of(cluster)["API_KEY"]["valueFrom"] == {"secretKeyRef": {"name": name, "key": "API_KEY"}}
    for kind in ("ConfigMap", "Deployment", "Service", "HTTPRoute"):
        assert VALUE not in json.dumps(cluster.api.list(kind, "default"))
    assert VALUE not in repr(result) + repr(CONTENT) + json.dumps(result.to_dict())
    assert result.info.spec["secrets"] == [
        {"env": "API_KEY", "secret": name, "key": "API_KEY", "version": None}
    ]


def test_equal_values_are_no_new_revision(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec, content=CONTENT)
    cluster.calls.clear()
    again = client.create_scaling_group(spec, content=CONTENT)
    assert again.action is Action.UNCHANGED
    assert not {verb for verb, _ in cluster.calls} & set(FailingCluster.WRITES)
    assert len(secrets_of(cluster)) == 1


def test_another_value_is_another_secret_and_another_pod(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec, content=CONTENT)
    before = pod_of(cluster)
    result = client.create_scaling_group(spec, content=Content(secret_values={"API_KEY": "new"}))
    assert (result.action, result.changes) == (Action.UPDATED, ("secrets",))
    assert pod_of(cluster) != before
    assert len(secrets_of(cluster)) == 2  # the first revision is kept, and names the first
    back = client.create_scaling_group(spec, content=CONTENT)
    assert back.action is Action.UPDATED
    assert len(secrets_of(cluster)) == 2
    assert pod_of(cluster) == before


def revision_of(obj: Manifest) -> int:
    return int(obj["metadata"]["annotations"]["chalk.ai/revision"])


def test_what_no_kept_revision_names_goes(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    for number in range(22):
        values = {"API_KEY": f"{VALUE}{number}"}
        client.create_scaling_group(spec, content=Content(secret_values=values))
    assert len(secrets_of(cluster)) == 20
    held = {**pod_of(cluster)["spec"]["containers"][0], "env": None, "name": "c", "ports": None}
    oldest = sorted(secrets_of(cluster), key=revision_of)[0]
    held["env"] = [
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": oldest["metadata"]["name"], "key": "API_KEY"}}}
    ]
    group_id = oldest["metadata"]["labels"]["chalk.ai/scaling-group-id"]
    cluster.put(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "p",
                "namespace": "default",
                "labels": {"chalk.ai/scaling-group-id": group_id},
            },
            "spec": {"containers": [{key: held[key] for key in ("name", "image", "env")}]},
        }
    )
    for number in range(100, 103):
        client.create_scaling_group(spec, content=Content(secret_values={"API_KEY": str(number)}))
    names = {obj["metadata"]["name"] for obj in secrets_of(cluster)}
    assert len(names) == 21
    assert oldest["metadata"]["name"] in names


def test_everything_goes_with_the_group(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec, content=CONTENT)
    result = client.delete_scaling_group("web")
    assert secrets_of(cluster) == []
    assert any(item.startswith("Secret/web-env-") for item in result.removed)


def put_secret(cluster: ApiCluster, name: str = "db", **data: str) -> Manifest:
    values = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    meta = {"name": name, "namespace": "default"}
    return cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": values})


def test_a_secret_of_others_is_referred_to(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    put_secret(cluster, password=VALUE)
    wanted = replace(spec, secrets=(SecretRef("DB_PASSWORD", "db", "password"),))
    client.create_scaling_group(wanted)
    assert env_of(cluster)["DB_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "db", "key": "password"}
    assert client.create_scaling_group(wanted).action is Action.UNCHANGED
    before = pod_of(cluster)["metadata"]
    live = cluster.api.get("Secret", "db", "default")
    cluster.api.update({**live, "data": {"password": base64.b64encode(b"other").decode()}}, manager="x")
    assert client.create_scaling_group(wanted).action is Action.UPDATED
    assert pod_of(cluster)["metadata"] != before  # the pods roll


def test_all_keys_of_a_secret(client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec) -> None:
    put_secret(cluster, USER="a", PASSWORD="b")
    client.create_scaling_group(spec, content=Content(whole_secrets=("db",)))
    assert set(env_of(cluster)) == {"USER", "PASSWORD"}
    put_secret(cluster, "odd", **{"tls.crt": "x"})
    with pytest.raises(SpecError, match=r"the key `tls.crt` of Secret `odd`"):
        client.create_scaling_group(spec, content=Content(whole_secrets=("odd",)))


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        (SecretRef("A", "nowhere", "a"), "there is no Secret `nowhere`"),
        (SecretRef("A", "db", "nothing"), "Secret `db` has no key `nothing`"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_written(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec, ref: SecretRef, said: str
) -> None:
    put_secret(cluster, password=VALUE)
    cluster.calls.clear()
    with pytest.raises(SpecError, match=said) as caught:
        client.create_scaling_group(replace(spec, secrets=(ref,)))
    assert caught.value.field == "secrets"
    assert not {verb for verb, _ in cluster.calls} & set(FailingCluster.WRITES)


def test_a_variable_is_given_once(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    with pytest.raises(SpecError, match="`API_KEY` is given as a plain value and as a secret"):
        client.create_scaling_group(replace(spec, env={"API_KEY": "x"}), content=CONTENT)


def test_without_the_right_to_see_secrets(reconnect: Reconnect, spec: ScalingGroupSpec) -> None:
    denied = ForbiddenError("secrets is forbidden", status=403)
    client, failing = reconnect(fail={("get", "Secret"): denied})
    with pytest.raises(ForbiddenError) as caught:
        client.create_scaling_group(replace(spec, secrets=(SecretRef("A", "db", "a"),)))
    assert "`secrets` in namespace `default`" in (caught.value.hint or "")
    assert failing.writes == 0


def test_a_handle_deploys_the_recorded_secret(
    client: ChalkClient, cluster: ApiCluster, spec: ScalingGroupSpec
) -> None:
    client.create_scaling_group(spec, content=CONTENT)
    recorded = ScalingGroupSpec.from_dict(dict(client.get_scaling_group("web").spec))
    assert client.create_scaling_group(recorded).action is Action.UNCHANGED
    (made,) = secrets_of(cluster)
    cluster.api.delete("Secret", made["metadata"]["name"], "default")
    with pytest.raises(SpecError, match="there is no Secret `web-env-") as caught:
        client.create_scaling_group(recorded)
    assert "its values are not recorded" in (caught.value.hint or "")


def test_a_handle_reads_the_environment_at_each_deploy(
    client: ChalkClient, cluster: ApiCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chalkcompute import Secret

    group = ScalingGroup(
        image="nginx:1",
        name="web",
        env={"TOKEN": Secret.from_env("MY_TOKEN"), "PLAIN": "1"},
        secrets=[Secret.from_env("OPENAI_API_KEY")],
        client=client,
    )
    monkeypatch.delenv("MY_TOKEN", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "")
    with pytest.raises(SpecError, match="`OPENAI_API_KEY`, `MY_TOKEN` have no value") as caught:
        group.deploy()
    assert caught.value.field == "secrets"
    assert cluster.seen("ConfigMap", "chalk-sg-web") is None
    monkeypatch.setenv("MY_TOKEN", VALUE)
    monkeypatch.setenv("OPENAI_API_KEY", VALUE)
    client.create_scaling_group(group._spec, content=client.read_secrets(group._secrets))  # type: ignore[arg-type]
    assert set(env_of(cluster)) == {"TOKEN", "PLAIN", "OPENAI_API_KEY"}
    (made,) = secrets_of(cluster)
    assert set(made["data"]) == {"TOKEN", "OPENAI_API_KEY"}


def test_printed_objects_have_names_only(client: ChalkClient, spec: ScalingGroupSpec) -> None:
    objects = client.render_manifests(spec, content=CONTENT)
    assert objects[0]["kind"] == "Secret"
    assert "data" not in objects[0]
    assert objects[0]["metadata"]["annotations"]["chalk.ai/note"] == "values are not shown: add API_KEY"
    assert VALUE not in json.dumps(objects)
    assert objects == client.render_manifests(spec, content=Content(secret_values={"API_KEY": ""}))
