"""Field managers beyond the recorded conversations: kubectl's annotation, caps, first apply, scale."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from chalkcompute.local.apimachinery import managed
from chalkcompute.local.apimachinery.decode import decode
from chalkcompute.local.apimachinery.defaults import default
from chalkcompute.local.apimachinery.entries import Manager, decode_entries
from chalkcompute.local.apimachinery.kinds import by_kind
from chalkcompute.local.apimachinery.last_applied import ANNOTATION
from chalkcompute.local.apimachinery.status import StatusError

CONFIG_MAP = by_kind("ConfigMap")
ROUTE = by_kind("HTTPRoute")
NOW = "2026-11-23T11:21:39Z"
LATER = "2026-11-24T00:00:00Z"


def config_map(data: dict[str, str], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **metadata}, "data": data}


def created(obj: dict[str, Any], manager: str = "creator") -> dict[str, Any]:
    return managed.update(
        CONFIG_MAP, {**obj, "metadata": {**obj["metadata"], "uid": "u"}}, None, manager=manager, now=NOW
    )


def changed(live: dict[str, Any], manager: str, **data: str) -> dict[str, Any]:
    new = copy.deepcopy(live)
    new["data"].update(data)
    return managed.update(CONFIG_MAP, new, live, manager=manager, now=LATER)


def apply(
    live: dict[str, Any] | None, obj: dict[str, Any], manager: str, *, force: bool = False
) -> dict[str, Any]:
    return managed.apply(CONFIG_MAP, live, obj, manager=manager, force=force, now=LATER)


def owners(obj: dict[str, Any]) -> dict[str, set[str]]:
    entries = decode_entries(obj["metadata"].get("managedFields"))
    return {m.name: {path[-1][2:] for path in e.fields} for m, e in entries.items()}


def test_a_dry_answer_is_no_argument_changed() -> None:
    live = created(config_map({"x": "1"}))
    before = copy.deepcopy(live)
    changed(live, "editor", x="2")
    assert live == before


def test_an_update_that_changes_nothing_keeps_the_time() -> None:
    live = created(config_map({"x": "1"}))
    same = managed.update(CONFIG_MAP, copy.deepcopy(live), live, manager="creator", now=LATER)
    assert same == live


def test_the_first_apply_credits_what_was_there_to_before_first_apply() -> None:
    untracked = config_map({"x": "1"}, uid="u")
    with pytest.raises(StatusError) as refused:
        apply(untracked, config_map({"x": "2"}), "chalk")
    assert refused.value.causes[0].message == 'conflict with "before-first-apply" using v1'
    obj = apply(untracked, config_map({"y": "1"}), "chalk")
    assert obj["data"] == {"x": "1", "y": "1"}
    assert owners(obj) == {"before-first-apply": {"data", "x"}, "chalk": {"y"}}


def test_an_update_of_an_untracked_object_stays_untracked() -> None:
    untracked = config_map({"x": "1"}, uid="u")
    assert "managedFields" not in changed(untracked, "editor", x="2")["metadata"]


def test_an_item_without_its_key_is_stored_as_nobodys_and_cannot_be_applied_to() -> None:
    kind = by_kind("ServiceAccount")
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}
    live = managed.update(kind, {**body, "secrets": [{}]}, None, manager="creator", now=NOW)
    assert live["secrets"] == [{}]
    assert "managedFields" not in live["metadata"]
    with pytest.raises(StatusError, match="typed live object") as refused:
        managed.apply(kind, live, body, manager="m", force=True, now=LATER, api_version="v1")
    assert refused.value.code == 500


def test_update_managers_are_capped() -> None:
    obj = created(config_map({"x": "0"}), "m0")
    for number in range(1, 15):
        obj = changed(obj, f"m{number}", **{f"k{number}": "v"})
    names = [entry["manager"] for entry in obj["metadata"]["managedFields"]]
    assert len(names) == 10
    assert "ancient-changes" in names
    assert set().union(*owners(obj).values()) >= {f"k{number}" for number in range(1, 15)}


def test_a_request_may_clear_and_may_not_forge_managers_of_status() -> None:
    live = created(config_map({"x": "1"}))
    cleared = managed.update(
        CONFIG_MAP,
        {**live, "metadata": {**live["metadata"], "managedFields": [{}]}},
        live,
        manager="m",
        now=LATER,
    )
    assert "managedFields" not in cleared["metadata"]
    forged = {
        **live,
        "metadata": {**live["metadata"], "managedFields": [{"operation": "Apply", "manager": "x"}]},
    }
    kept = managed.update(CONFIG_MAP, forged, live, manager="m", now=LATER, subresource="status")
    assert kept["metadata"]["managedFields"] == live["metadata"]["managedFields"]


def test_kubectl_takes_over_what_it_applied_from_the_client_side() -> None:
    body = config_map({"x": "1", "y": "1"})
    annotated = config_map({"x": "1", "y": "1"}, annotations={ANNOTATION: json.dumps(body)})
    live = created(annotated, "kubectl-client-side-apply")
    obj = apply(live, config_map({"x": "2", "y": "1"}), "kubectl")
    assert obj["data"] == {"x": "2", "y": "1"}
    assert json.loads(obj["metadata"]["annotations"][ANNOTATION])["data"] == {"x": "2", "y": "1"}
    edited = changed(live, "editor", x="9")
    with pytest.raises(StatusError) as refused:
        apply(edited, config_map({"x": "2"}), "kubectl")
    assert [cause.field for cause in refused.value.causes] == [".data.x"]
    with pytest.raises(StatusError):
        apply(live, config_map({"x": "2"}), "someone-else")


def test_several_conflicts_name_each_manager_once() -> None:
    live = changed(created(config_map({"x": "1", "y": "1"}), "one"), "two", y="2")
    with pytest.raises(StatusError) as refused:
        apply(live, config_map({"x": "5", "y": "5"}), "chalk")
    assert refused.value.message == (
        'Apply failed with 2 conflicts: conflicts with "one" using v1:\n- .data.x\n'
        'conflicts with "two" using v1:\n- .data.y'
    )
    forced = apply(live, config_map({"x": "5", "y": "5"}), "chalk", force=True)
    assert owners(forced)["chalk"] == {"x", "y"}


def test_an_applier_stays_itself_across_versions() -> None:
    body = {"kind": "HTTPRoute", "metadata": {"name": "r"}, "spec": {"hostnames": ["a.example.com"]}}
    old = managed.apply(
        ROUTE,
        None,
        {"apiVersion": "gateway.networking.k8s.io/v1beta1", **body},
        manager="chalk",
        force=False,
        now=NOW,
        api_version="gateway.networking.k8s.io/v1beta1",
    )
    stored = {**old, "apiVersion": ROUTE.api_version}
    new = managed.apply(
        ROUTE, stored, {"apiVersion": ROUTE.api_version, **body}, manager="chalk", force=False, now=LATER
    )
    assert list(decode_entries(new["metadata"]["managedFields"])) == [
        Manager("chalk", "Apply", ROUTE.api_version)
    ]


def test_an_allocated_service_address_is_nobodys() -> None:
    kind = by_kind("Service")
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"port": 80}]},
    }
    obj = default(kind, decode(kind, body)[0])
    obj["spec"].update(clusterIP="10.96.0.10", clusterIPs=["10.96.0.10"], ipFamilies=["IPv4"])
    tracked = managed.update(kind, obj, None, manager="m", now=NOW)
    assert owners(tracked)["m"].isdisjoint({"clusterIP", "clusterIPs", "ipFamilies"})


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}, 400),
        (config_map({}, managedFields=[{"manager": "m"}]), 400),
        (config_map({"x": 1}), 500),  # type: ignore[dict-item]
        ({**config_map({}), "data": "text"}, 500),
        ({**config_map({}), "data": {"x": {"deep": "1"}}}, 500),
    ],
)
def test_what_apply_refuses(patch: dict[str, Any], code: int) -> None:
    with pytest.raises(StatusError) as refused:
        apply(None, patch, "chalk")
    assert refused.value.code == code
