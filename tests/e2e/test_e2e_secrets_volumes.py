"""Secrets and volumes: what the replicas see, when they roll, what is refused, what stays."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalkcompute import Image, ScalingGroup, Secret, Volume
from chalkcompute.errors import SpecError
from tests.e2e.contents import TELLING, objects, versions
from tests.e2e.harness import IMAGE, SMALL, Chalk, Kubernetes, eventually

Answer = Callable[..., tuple[int, str]]
MakeClaim = Callable[..., None]
TELL = ["python", "-c", TELLING]


@pytest.fixture
def make_claim(kubernetes: Kubernetes, namespace: str, real: bool) -> MakeClaim:
    """Make a claim as its owner would, past our code: of a mode that every cluster has."""

    def make(name: str, mode: str = "ReadWriteOnce" if real else "ReadWriteMany") -> None:
        if real and not any(
            (o["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class")
            == "true"
            for o in kubernetes.items("/apis/storage.k8s.io/v1/storageclasses")
        ):
            pytest.skip("this cluster has no default StorageClass that would make a volume")
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}},
        }
        status, body = kubernetes.request(
            "post", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", claim
        )
        assert status == 201, body

    return make


@pytest.fixture
def make_secret(kubernetes: Kubernetes, namespace: str) -> Callable[..., None]:
    """Make a Secret, or give it other values, past our code."""

    def make(name: str, **values: str) -> None:
        path = f"/api/v1/namespaces/{namespace}/secrets"
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        if kubernetes.find(f"{path}/{name}") is None:
            status, body = kubernetes.request("post", path, obj)
        else:
            status, body = kubernetes.request("put", f"{path}/{name}", obj)
        assert status in (200, 201), body

    return make


def uids(kubernetes: Kubernetes, namespace: str, name: str) -> list[str]:
    """Of the pods that are not on their way out."""
    pods = kubernetes.pods(namespace, name)
    return sorted(p["metadata"]["uid"] for p in pods if "deletionTimestamp" not in p["metadata"])


def own_secrets(kubernetes: Kubernetes, namespace: str, name: str) -> list[str]:
    return [o for o in objects(kubernetes, namespace) if o.startswith(f"secrets/{name}-env-")]


def test_the_example_of_the_specification(
    client: Any,
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    answer: Answer,
    make_claim: MakeClaim,
    real: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And once more, after a delete: the data is where it was."""
    img = Image.base(IMAGE).entrypoint(TELL)
    make_claim("training-data")

    def sg() -> ScalingGroup:
        return ScalingGroup(
            image=img,
            name="api",
            port=8000,
            env={"LOG_LEVEL": "INFO"},
            secrets=[Secret.from_env("OPENAI_API_KEY")],
            volumes=[("training-data", "/data")],
            min_replicas=1,
            max_replicas=1 if real else 3,
            client=client,
            **SMALL,
        )

    monkeypatch.setenv("OPENAI_API_KEY", "first value")
    group = sg().deploy().wait_ready()
    variables = "/env/LOG_LEVEL,OPENAI_API_KEY"
    assert json.loads(answer("api", variables)[1]) == {"LOG_LEVEL": "INFO", "OPENAI_API_KEY": "first value"}
    assert answer("api", "/write/data/note/kept") == (200, "null")
    before, made = uids(kubernetes, namespace, "api"), own_secrets(kubernetes, namespace, "api")
    assert len(made) == 1

    assert sg().deploy().revision == 1
    assert uids(kubernetes, namespace, "api") == before
    assert own_secrets(kubernetes, namespace, "api") == made
    ScalingGroup.from_name("api", client=client).deploy()
    assert group.refresh().revision == 1, "what is recorded names its Secret, without the value being here"

    monkeypatch.setenv("OPENAI_API_KEY", "second value")
    assert sg().deploy().wait_ready().revision == 2
    eventually(lambda: "second value" in answer("api", variables)[1], "the new value is seen")
    assert len(own_secrets(kubernetes, namespace, "api")) == 2, "going back needs the first"
    eventually(lambda: not set(before) & set(uids(kubernetes, namespace, "api")), "the pods were replaced")
    monkeypatch.setenv("OPENAI_API_KEY", "first value")
    assert sg().deploy().wait_ready().revision == 3
    assert len(own_secrets(kubernetes, namespace, "api")) == 2, "the first value has its Secret already"

    shown = chalk.sg("get", "api").out
    assert "OPENAI_API_KEY" in shown
    assert "training-data" in shown
    deleted = chalk.sg("delete", "api")
    assert "training-data" in deleted.out
    left = {name for name in objects(kubernetes, namespace) if "/chalk-sg-hist-" not in name}
    assert left == {"persistentvolumeclaims/training-data"}
    sg().deploy().wait_ready()
    assert answer("api", "/read/data/note") == (200, '"kept"')


def test_flags(
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    answer: Answer,
    make_claim: MakeClaim,
) -> None:
    make_claim("training-data")
    values = {"API_KEY": "värde 1", "SOME_TOKEN": "line\nbreak"}
    flags = [f"--entrypoint={json.dumps(TELL)}", "--secret=API_KEY", "--secret=TOKEN=SOME_TOKEN"]
    flags += ["--volume=training-data:/data", "--volume=training-data:/read-only:ro"]
    chalk.serve("flags", *flags, env=values)
    seen = json.loads(answer("flags", "/env/API_KEY,TOKEN,SOME_TOKEN")[1])
    assert seen == {"API_KEY": "värde 1", "TOKEN": "line\nbreak", "SOME_TOKEN": None}
    assert answer("flags", "/write/data/a/x")[0] == 200
    assert answer("flags", "/read/read-only/a") == (200, '"x"')
    assert answer("flags", "/write/read-only/b/x")[0] == 500
    before = versions(kubernetes, namespace)
    assert "unchanged" in chalk.serve("flags", *flags, env=values).out
    assert versions(kubernetes, namespace) == before
    changed = chalk.serve("flags", *flags, env={**values, "API_KEY": "other"})
    assert "updated" in changed.out
    assert "secret" in changed.out.lower()
    eventually(lambda: '"other"' in answer("flags", "/env/API_KEY")[1], "the changed value is seen")
    chalk.serve("flags", f"--entrypoint={json.dumps(TELL)}")
    eventually(lambda: answer("flags", "/env/API_KEY")[1] == '{"API_KEY": null}', "it is gone")
    chalk.sg("delete", "flags")
    left = {name for name in objects(kubernetes, namespace) if "/chalk-sg-hist-" not in name}
    assert left == {"persistentvolumeclaims/training-data"}


def test_every_kind_of_secret(
    client: Any,
    kubernetes: Kubernetes,
    namespace: str,
    answer: Answer,
    make_secret: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_secret("db", password="p1", user="u1")
    make_secret("whole", WHOLE_A="a", WHOLE_B="b")
    (tmp_path / ".secrets").write_text('DOT_A="from a file"\nDOT_B=$HOME\n')
    monkeypatch.setenv("HERE", "from here")

    def sg() -> ScalingGroup:
        return ScalingGroup(
            image=IMAGE,
            entrypoint=TELL,
            name="kinds",
            port=8000,
            env={"PLAIN": "plain", "USER_NAME": Secret.from_kubernetes("db", "user")},
            secrets=[
                Secret.from_env("HERE", alias="THERE"),
                Secret.from_dotenv(tmp_path / ".secrets"),
                Secret.from_kubernetes("db", "password", alias="DB_PASSWORD"),
                Secret.from_kubernetes("whole"),
            ],
            client=client,
            **SMALL,
        )

    expected = {
        "PLAIN": "plain",
        "USER_NAME": "u1",
        "THERE": "from here",
        "HERE": None,
        "DOT_A": "from a file",
        "DOT_B": "$HOME",
        "DB_PASSWORD": "p1",
        "WHOLE_A": "a",
        "WHOLE_B": "b",
    }
    path = f"/env/{','.join(expected)}"
    sg().deploy().wait_ready()
    assert json.loads(answer("kinds", path)[1]) == expected
    assert sg().deploy().revision == 1
    make_secret("db", password="p2", user="u1")
    group = sg().deploy().wait_ready()
    assert group.revision == 2, "a Secret of others that has changed rolls the pods"
    eventually(lambda: json.loads(answer("kinds", path)[1]) == {**expected, "DB_PASSWORD": "p2"}, "the new")
    group.delete()
    left = {name for name in objects(kubernetes, namespace) if "/chalk-sg-hist-" not in name}
    assert left == {"secrets/db", "secrets/whole"}, "those of others stay"


def test_a_volume_that_a_deploy_makes(
    client: Any, chalk: Chalk, kubernetes: Kubernetes, namespace: str, answer: Answer, real: bool
) -> None:
    if real:
        pytest.skip("makes a ReadWriteMany volume, which few clusters can")
    volume = Volume("made-here", create=True, size="1Gi")
    group = ScalingGroup(
        image=IMAGE,
        entrypoint=TELL,
        name="makes",
        port=8000,
        volumes=[(volume, "/data")],
        min_replicas=2,
        max_replicas=2,
        client=client,
        **SMALL,
    )
    group.deploy().wait_ready()
    claim = objects(kubernetes, namespace)["persistentvolumeclaims/made-here"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert "ownerReferences" not in claim["metadata"]
    assert group.deploy().revision == 1
    group.delete()
    left = objects(kubernetes, namespace)
    assert left["persistentvolumeclaims/made-here"]["metadata"]["uid"] == claim["metadata"]["uid"]


def test_what_cannot_be_is_said_and_nothing_is_applied(
    client: Any,
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    make_claim: MakeClaim,
    make_secret: Callable[..., None],
    real: bool,
) -> None:
    if not real:
        make_claim("alone", "ReadWriteOncePod")
    make_secret("db", password="p")
    before = versions(kubernetes, namespace)

    def refused(*flags: str, words: list[str], **env: str) -> None:
        done = chalk.serve("bad", *flags, code=2, env=env)
        assert "Traceback" not in done.err
        assert done.out == ""
        lines = done.err.splitlines()
        assert sum(line.startswith("Error:") for line in lines) == 1, done
        for word in words:
            assert word in done.err, done
        for value in env.values():
            assert not value or value not in done.err
        assert versions(kubernetes, namespace) == before

    unset = f"UNSET_{secrets.token_hex(4).upper()}"
    refused(f"--secret={unset}", words=[f"`{unset}`", "no value"])
    refused("--secret=EMPTY", words=["`EMPTY`", "no value"], EMPTY="")
    refused(f"--secret=EMPTY={unset}", f"--secret={unset}2", words=[f"`{unset}`", f"`{unset}2`"])
    refused("--secret=KEY", "--env=KEY=plain", words=["`KEY`"], KEY="hidden value")
    refused("--secret=KEY", "--secret=KEY=KEY2", words=["`KEY`"], KEY="hidden value", KEY2="hidden 2")
    refused("--secret=1KEY", words=["1KEY"])
    refused("--volume=nothing:/data", words=["`nothing`", namespace])
    refused("--volume=nothing:data", words=["`data`"])
    refused("--volume=nothing", words=["nothing"])
    refused("--volume=a:/data", "--volume=b:/data", words=["`/data`"])
    if not real:
        refused("--volume=alone:/data", "--replicas=2", words=["`alone`", "ReadWriteOncePod", "2"])

    for secret, word in (
        (Secret.from_kubernetes("none"), "`none`"),
        (Secret.from_kubernetes("db", "pasword"), "`pasword`"),
        (Secret.from_dotenv("/nowhere/.env"), "/nowhere/.env"),
        (Secret.from_env(unset), unset),
    ):
        with pytest.raises(SpecError, match=word) as caught:
            ScalingGroup(image=IMAGE, name="bad", secrets=[secret], client=client).deploy()
        assert caught.value.field == "secrets"
        assert versions(kubernetes, namespace) == before
