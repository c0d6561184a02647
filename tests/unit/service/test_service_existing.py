"""Whether an object is as an apply would leave it, with all that a real cluster adds by itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from chalkcompute.service.existing import is_as_applied
from chalkcompute.types import Manifest

MANIFEST: Manifest = {
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"a": "1"}},
    "spec": {
        "template": {
            "spec": {
                "containers": [{"name": "app", "image": "i:1", "env": [{"name": "A", "value": "1"}]}],
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
            }
        }
    },
}


def live(fields: Any = None) -> Manifest:
    """As the server has it: defaults, bookkeeping, a status, and what others put in."""
    obj = copy.deepcopy(MANIFEST)
    obj["metadata"] |= {
        "resourceVersion": "7",
        "generation": 3,
        "annotations": {"stamp": "10:00"},
        "managedFields": [
            {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status"},
            {"manager": "chalk", "operation": "Apply", "time": "t", "fieldsV1": fields or {"f:spec": {}}},
        ],
    }
    obj["spec"]["replicas"] = 4
    containers = obj["spec"]["template"]["spec"]["containers"]
    containers.insert(0, {"name": "sidecar", "image": "mesh:1"})
    containers[1]["env"].append({"name": "INJECTED", "value": "x"})
    obj["status"] = {"replicas": 4}
    return obj


def app(obj: Manifest) -> Any:
    return obj["spec"]["template"]["spec"]["containers"][1]


@pytest.mark.parametrize(
    "change",
    [
        lambda obj: obj["metadata"]["annotations"].update(stamp="11:00"),
        lambda obj: obj["metadata"].update(resourceVersion="8", generation=4),
        lambda obj: obj["spec"].update(replicas=9),
        lambda obj: obj["status"].update(replicas=9),
        lambda obj: obj["spec"]["template"]["spec"]["containers"][0].update(image="mesh:2"),
        lambda obj: app(obj)["env"].pop(),
        lambda obj: obj["metadata"]["managedFields"][1].update(time="later"),
    ],
)
def test_what_others_change_is_no_drift(change: Callable[[Manifest], Any]) -> None:
    after = live()
    change(after)
    assert is_as_applied(MANIFEST, live(), after)
    assert is_as_applied(MANIFEST, after, live())


@pytest.mark.parametrize(
    "change",
    [
        lambda obj: obj["metadata"]["labels"].update(a="2"),
        lambda obj: app(obj).update(image="i:2"),
        lambda obj: app(obj)["env"][0].update(value="2"),
        lambda obj: app(obj)["env"].pop(0),
        lambda obj: obj["spec"]["template"]["spec"]["tolerations"].append({"key": "more"}),
        lambda obj: obj["spec"]["template"]["spec"].pop("tolerations"),
    ],
)
def test_what_is_ours_and_was_changed_is_drift(change: Callable[[Manifest], Any]) -> None:
    before = live()
    change(before)
    assert not is_as_applied(MANIFEST, before, live())


def test_a_field_that_we_no_longer_set_goes() -> None:
    assert not is_as_applied(MANIFEST, live({"f:spec": {"f:paused": {}}}), live())
