"""A value that must not be seen, through everything that a deploy says, writes, logs and raises."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from chalkcompute.client import ChalkClient
from chalkcompute.errors import ChalkError, ForbiddenError, InvalidObjectError, SpecError
from chalkcompute.scaling_group import ScalingGroup
from chalkcompute.secret import Secret
from chalkcompute.service.scope import World
from chalkcompute.settings import Settings
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content
from chalkcompute.types import Progress
from tests.unit.service.conftest import ApiCluster, FailingCluster

Reconnect = Callable[..., tuple[ChalkClient, FailingCluster]]

CANARY = "c4n4ry-5ecret"
VALUES = {"API_KEY": CANARY, "PEM": f"-----\n{CANARY}\n-----", "ODD": f"$(HOME) “{CANARY}”"}
CONTENT = Content(secret_values=VALUES)
OTHER = Content(secret_values={**VALUES, "API_KEY": f"{CANARY}2"})
TRACES = (CANARY, base64.b64encode(CANARY.encode()).decode().rstrip("="))


class Listening:
    """A cluster that keeps all it answers, and all that is written but for the values in Secrets."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.heard: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self.inner, verb)
        if not callable(method):
            return method

        def call(*args: Any, **options: Any) -> Any:
            if args and isinstance(args[0], dict):
                sent = {key: value for key, value in args[0].items() if key != "data"}
                self.heard.append(json.dumps(sent if args[0]["kind"] == "Secret" else args[0]))
            else:
                self.heard.append(repr((args, options)))
            answer = method(*args, **options)
            self.heard.append(repr(answer))
            return answer

        return call


class Ear:
    """All that is said."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.said: list[str] = []
        self._caplog = caplog
        caplog.set_level(logging.DEBUG)

    def on_progress(self, step: Progress) -> None:
        self.said.append(repr(step))

    def hear(self, result: Any) -> None:
        self.said.append(repr(result))
        if hasattr(result, "to_dict"):
            self.said.append(json.dumps(result.to_dict()))

    def catch(self, error: BaseException) -> None:
        self.said += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]

    def everything(self) -> str:
        return "\n".join([*self.said, self._caplog.text])


@pytest.fixture
def ear(caplog: pytest.LogCaptureFixture) -> Ear:
    return Ear(caplog)


def assert_unseen(text: str) -> None:
    for trace in TRACES:
        at = text.find(trace)
        assert at < 0, f"…{text[max(0, at - 200) : at]}<here>"


def stored(cluster: ApiCluster) -> str:
    """All objects, without the one place where the value belongs."""
    kinds = ("ConfigMap", "Service", "Deployment", "HorizontalPodAutoscaler", "HTTPRoute", "Pod", "Event")
    found = [obj for kind in kinds for obj in cluster.api.list(kind, "default")]
    found += [obj["metadata"] for obj in cluster.api.list("Secret", "default")]
    return json.dumps(found)


def test_a_whole_life(cluster: ApiCluster, world: World, spec: ScalingGroupSpec, ear: Ear) -> None:
    listening = Listening(cluster)
    client = ChalkClient.over(listening, Settings(), world)
    ear.hear(CONTENT)
    for content in (CONTENT, CONTENT, OTHER, CONTENT):
        ear.hear(client.create_scaling_group(spec, content=content, on_progress=ear.on_progress))
    ear.hear(client.create_scaling_group(spec, content=OTHER, dry_run=True))
    ear.hear(client.get_scaling_group("web"))
    ear.hear(client.list_scaling_groups(include_deleted=True))
    ear.hear(client.render_manifests(spec, content=CONTENT))
    with contextlib.suppress(ChalkError):
        client.wait_scaling_group("web", timeout=3, on_progress=ear.on_progress)
    assert_unseen(stored(cluster))
    ear.hear(client.delete_scaling_group("web", on_progress=ear.on_progress))
    ear.hear(client.list_scaling_groups(include_deleted=True))
    assert_unseen(stored(cluster))
    assert_unseen("\n".join(listening.heard))
    assert_unseen(ear.everything())


@pytest.mark.parametrize(
    ("verb", "kind"),
    [
        ("dry-apply", "Secret"),
        ("apply", "Secret"),
        ("list", "Secret"),
        ("dry-apply", "Deployment"),
        ("apply", "Deployment"),
        ("apply", "HTTPRoute"),
        ("dry-create", "Pod"),
        ("create", "ConfigMap"),
        ("replace", "ConfigMap"),
    ],
)
@pytest.mark.parametrize(
    "error", [ForbiddenError("denied", status=403), InvalidObjectError("no", status=422)]
)
def test_whatever_fails(
    client: ChalkClient,
    cluster: ApiCluster,
    reconnect: Reconnect,
    spec: ScalingGroupSpec,
    ear: Ear,
    verb: str,
    kind: str,
    error: ChalkError,
) -> None:
    client.create_scaling_group(spec, content=CONTENT)
    failing, _ = reconnect(fail={(verb, kind): error})
    for content in (OTHER, CONTENT):
        try:
            ear.hear(failing.create_scaling_group(spec, content=content, on_progress=ear.on_progress))
        except ChalkError as caught:
            ear.catch(caught)
    assert_unseen(ear.everything())
    assert_unseen(stored(cluster))


def test_wherever_it_breaks_off_it_can_be_finished(
    cluster: ApiCluster, reconnect: Reconnect, spec: ScalingGroupSpec, killed: type[BaseException]
) -> None:
    for after in range(1, 12):
        dying, _ = reconnect(kill_after=after)
        client, _ = reconnect()
        with contextlib.suppress(killed):
            dying.create_scaling_group(spec, content=CONTENT)
        client.create_scaling_group(spec, content=CONTENT)
        deployment = cluster.seen("Deployment", "web")
        assert deployment is not None
        env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        names = {item["valueFrom"]["secretKeyRef"]["name"] for item in env}
        assert len(names) == 1
        made = cluster.seen("Secret", names.pop())
        assert made is not None
        assert set(made["data"]) == set(VALUES)
        assert_unseen(stored(cluster))
        client.delete_scaling_group("web")
        assert not cluster.api.list("Secret", "default")


def test_a_secret_of_others(client: ChalkClient, cluster: ApiCluster, ear: Ear) -> None:
    data = {"password": base64.b64encode(CANARY.encode()).decode()}
    meta = {"name": "db", "namespace": "default"}
    cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})
    for key in ("password", "nothing", None):
        group = ScalingGroup(
            image="nginx:1", name="web", secrets=[Secret.from_kubernetes("db", key)], client=client
        )
        try:
            group.deploy(timeout=1, on_progress=ear.on_progress)
        except ChalkError as caught:
            ear.catch(caught)
        ear.hear(group)
    assert_unseen(ear.everything())
    assert_unseen(stored(cluster))


def test_descriptions_that_cannot_be(client: ChalkClient, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", f"{CANARY}\udcff")
    wrong: list[dict[str, Any]] = [
        {"secrets": [CANARY]},
        {"secrets": {"A": CANARY}},
        {"secrets": [Secret.from_env("A")], "env": {"A": CANARY}},
        {"secrets": [Secret.from_env("A")]},
    ]
    for arguments in wrong:
        with pytest.raises(SpecError) as caught:
            ScalingGroup(image="nginx:1", name="web", client=client, **arguments).deploy()
        ear.catch(caught.value)
    assert_unseen(ear.everything())
