"""Claims: their folders, what is said of them, and when they go."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.controllers.claims import ClaimController
from chalkcompute.local.controllers.controller import find
from chalkcompute.local.controllers.events import EventRecorder
from chalkcompute.local.controllers.node import NodeFacts, node_of
from chalkcompute.local.controllers.scheduling import Placed, Refused, place
from chalkcompute.local.ports import Api, Change

Manifest = dict[str, Any]

NO_HELP = (
    "no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 Preemption is not helpful for scheduling."
)


class Claims:
    """One claim, `default/data`, and its controller, run by hand."""

    def __init__(self, api: Api, clock: Callable[[], datetime], folder: Path) -> None:
        self.api = api
        self.root = folder
        self.folder = folder / "default" / "data"
        self.controller = ClaimController(api, EventRecorder(api, "chalk.ai/local-path", clock=clock), folder)

    def create(self, size: str = "1Gi", **spec: Any) -> Manifest:
        metadata = {"name": "data", "namespace": "default"}
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata,
            "spec": wanted,
        }
        self.api.create(claim, manager="test")
        return self.sync() or {}

    def sync(self) -> Manifest | None:
        self.controller.sync(("default", "data"))
        for thread in threading.enumerate():
            if thread.name == "remove volumes":
                thread.join()
        return find(self.api, "PersistentVolumeClaim", ("default", "data"))

    def delete(self) -> Manifest | None:
        self.api.delete("PersistentVolumeClaim", "data", "default")
        return self.sync()

    def events(self) -> list[tuple[str, str]]:
        return [(event["reason"], event["message"]) for event in self.api.list("Event")]


@pytest.fixture
def claims(api: Api, clock: Any, tmp_path: Path) -> Claims:
    return Claims(api, clock, tmp_path / "volumes")


def using(pod: Manifest, claim: str = "data") -> Manifest:
    pod["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]
    return pod


def test_a_claim_is_bound_to_a_folder(claims: Claims) -> None:
    claim = claims.create()
    meta = claim["metadata"]
    assert claim["spec"]["volumeName"] == f"pvc-{meta['uid']}"
    assert claim["status"] == {
        "phase": "Bound",
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
    }
    assert meta["annotations"]["chalk.ai/local-path"] == str(claims.folder)
    assert meta["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert claims.folder.stat().st_mode & 0o777 == 0o777
    assert claims.events() == [
        ("Provisioning", 'External provisioner is provisioning volume for claim "default/data"'),
        ("ProvisioningSucceeded", f"Successfully provisioned volume pvc-{meta['uid']}"),
    ]
    assert claims.sync() == claim, "and nothing more is to be done"


def test_a_deleted_claim_takes_its_folder_along(claims: Claims) -> None:
    claims.create()
    (claims.folder / "closed").mkdir(mode=0o500)
    (claims.folder / "file").write_text("x")
    claims.folder.chmod(0)  # a replica may do so
    assert claims.delete() is None
    assert list(claims.root.iterdir()) == [claims.root / ".removed"]
    assert list((claims.root / ".removed").iterdir()) == []


def test_a_claim_stays_while_a_pod_uses_it(claims: Claims, pod: Callable[..., Manifest]) -> None:
    claims.create()
    user = using(pod("a"))
    user["metadata"] = {"name": "a", "namespace": "default"}
    claims.api.create(user, manager="test")
    terminating = claims.delete()
    assert terminating is not None
    assert "deletionTimestamp" in terminating["metadata"]
    assert claims.folder.is_dir()
    user = claims.api.get("Pod", "a", "default")
    claims.api.delete("Pod", "a", "default", grace_seconds=0)
    (key,) = claims.controller.keys(Change("DELETED", "Pod", user, user))
    assert key == ("default", "data")
    assert claims.sync() is None
    assert not claims.folder.exists()


@pytest.mark.parametrize("name", [".", "..", "../../elsewhere", "../other/data", "/elsewhere"])
def test_a_pod_that_names_no_claim_takes_no_folder_along(
    claims: Claims, pod: Callable[..., Manifest], tmp_path: Path, name: str
) -> None:
    # The API server takes any text for the name of a claim, as the real one does.
    others = [tmp_path / "elsewhere", claims.root / "other" / "data", claims.folder]
    for folder in others:
        folder.mkdir(parents=True)
    name = f"{tmp_path}{name}" if name.startswith("/") else name
    user = using(pod("a"), name)
    user["metadata"] = {"name": "a", "namespace": "default"}
    for key in claims.controller.keys(Change("DELETED", "Pod", user, user)):
        claims.controller.sync(key)
    assert all(folder.is_dir() for folder in others)


def test_a_pod_without_a_node_holds_nothing(claims: Claims, pod: Callable[..., Manifest]) -> None:
    claims.create()
    waiting = using(pod("a", node=""))
    waiting["metadata"] = {"name": "a", "namespace": "default"}
    claims.api.create(waiting, manager="test")
    assert claims.delete() is None


def test_a_new_claim_of_the_same_name_begins_empty(claims: Claims) -> None:
    claims.create()
    (claims.folder / "file").write_text("old")
    claim = claims.api.get("PersistentVolumeClaim", "data", "default")
    del claim["metadata"]["finalizers"]
    claims.api.update(claim, manager="test")
    claims.api.delete("PersistentVolumeClaim", "data", "default")  # gone before the controller looks
    claims.create()
    assert list(claims.folder.iterdir()) == []


def test_a_claim_grows_and_does_not_shrink(claims: Claims) -> None:
    claim = claims.create("1Gi")
    claim["spec"]["resources"]["requests"]["storage"] = "2Gi"
    claims.api.update(claim, manager="test")
    grown = claims.sync() or {}
    assert grown["status"]["capacity"] == {"storage": "2Gi"}
    grown["spec"]["resources"]["requests"]["storage"] = "1Gi"
    with pytest.raises(StatusError, match=r"field can not be less than status\.capacity"):
        claims.api.update(grown, manager="test")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"volumeMode": "Block"}, "block volumes are not supported"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "claim Selector is not supported"),
        ({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}, "a volume begins empty"),
    ],
)
def test_what_a_folder_cannot_be(claims: Claims, spec: Manifest, why: str) -> None:
    assert claims.create(**spec)["status"] == {"phase": "Pending"}
    ((reason, message),) = claims.events()
    assert reason == "ProvisioningFailed"
    assert why in message


def test_a_claim_that_asks_for_a_volume_by_name_waits(claims: Claims) -> None:
    assert claims.create(volumeName="disk-7")["status"] == {"phase": "Pending"}
    assert claims.events() == []


def test_no_room_for_a_folder_is_said_and_tried_again(claims: Claims) -> None:
    claims.root.mkdir()
    (claims.root / "default").write_text("in the way")
    assert claims.create()["status"] == {"phase": "Pending"}
    assert [reason for reason, _ in claims.events()] == ["Provisioning", "ProvisioningFailed"]
    (claims.root / "default").unlink()
    assert (claims.sync() or {})["status"]["phase"] == "Bound"


def claim_manifest(phase: str = "Bound", mode: str = "ReadWriteOnce", **meta: Any) -> Manifest:
    return {
        "metadata": {"name": "data", "namespace": "default", **meta},
        "spec": {"accessModes": [mode]},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({}, 'persistentvolumeclaim "data" not found'),
        ({"data": claim_manifest("Pending")}, "pod has unbound immediate PersistentVolumeClaims"),
        (
            {"data": claim_manifest(deletionTimestamp="2026-11-23T11:22:00Z")},
            'persistentvolumeclaim "data" is being deleted',
        ),
    ],
)
def test_a_pod_waits_for_its_claim(
    pod: Callable[..., Manifest], clock: Any, claims: dict[str, Manifest], why: str
) -> None:
    node = node_of(NodeFacts(name="node1", cpu=2, memory=4 << 30), None, clock())
    waiting = using(pod("a", node=""))
    assert place(waiting, [node], [], claims) == Refused(f"0/1 nodes are available: {why}. {NO_HELP}")
    assert place(waiting, [node], [], {"data": claim_manifest()}) == Placed("node1")


def test_a_claim_for_one_pod_only(pod: Callable[..., Manifest], clock: Any) -> None:
    node = node_of(NodeFacts(name="node1", cpu=2, memory=4 << 30), None, clock())
    waiting, other = using(pod("a", node="")), using(pod("b"))
    outcome = place(waiting, [node], [other], {"data": claim_manifest(mode="ReadWriteOncePod")})
    assert isinstance(outcome, Refused)
    assert "1 node has pod using PersistentVolumeClaim with the same name" in outcome.message
    elsewhere = using(pod("b"))
    elsewhere["metadata"]["namespace"] = "other"
    one = {"data": claim_manifest(mode="ReadWriteOncePod")}
    assert place(waiting, [node], [elsewhere], one) == Placed("node1")
