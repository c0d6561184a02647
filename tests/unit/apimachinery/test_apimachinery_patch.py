"""Strategic merge patch, JSON Patch's refusals, selectors, decoding: examples."""

from __future__ import annotations

from typing import Any

import pytest

from chalkcompute.local.apimachinery.decode import decode, find_duplicates
from chalkcompute.local.apimachinery.kinds import KINDS, Kind, by_api_version, by_kind, by_plural
from chalkcompute.local.apimachinery.patch import json_patch, merge_patch, strategic_merge_patch
from chalkcompute.local.apimachinery.schema import field_schema, openapi_v3
from chalkcompute.local.apimachinery.selectors import match_label_selector, parse_fields, parse_labels
from chalkcompute.local.apimachinery.status import StatusError

POD = by_kind("Pod")
CONTAINERS = [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b", "image": "2"}]


@pytest.mark.parametrize(
    ("doc", "patch", "expected"),
    [
        (
            {"spec": {"containers": CONTAINERS}},
            {"spec": {"containers": [{"name": "b", "image": "3"}, {"name": "c", "image": "4"}]}},
            {
                "spec": {
                    "containers": [CONTAINERS[0], {"name": "b", "image": "3"}, {"name": "c", "image": "4"}]
                }
            },
        ),
        (
            {"spec": {"containers": CONTAINERS}},
            {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}},
            {"spec": {"containers": [CONTAINERS[1]]}},
        ),
        (
            {"spec": {"containers": CONTAINERS}},
            {"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}},
            {"spec": {"containers": [{"name": "z"}]}},
        ),
        (
            {"spec": {"containers": [CONTAINERS[0]]}},
            {"spec": {"containers": [{"name": "a", "args": ["y"]}]}},
            {"spec": {"containers": [{"name": "a", "image": "1", "args": ["y"]}]}},
        ),
        (
            {"spec": {"containers": CONTAINERS}},
            {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}},
            {"spec": {"containers": CONTAINERS[::-1]}},
        ),
        (
            {"metadata": {"finalizers": ["a", "b", "c"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "c"]}},
            {"metadata": {"finalizers": ["b"]}},
        ),
        (
            {"metadata": {"finalizers": ["a"]}},
            {"metadata": {"finalizers": ["b", "a"]}},
            {"metadata": {"finalizers": ["a", "b"]}},
        ),
        (
            {"metadata": {"labels": {"a": "1"}}},
            {"metadata": {"labels": {"a": None}}},
            {"metadata": {"labels": {}}},
        ),
        (
            {"metadata": {"labels": {"a": "1"}}},
            {"metadata": {"labels": {"b": "2", "$patch": "replace"}}},
            {"metadata": {"labels": {"b": "2"}}},
        ),
        (
            {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
            {"spec": {"volumes": [{"name": "v", "secret": {}, "$retainKeys": ["name", "secret"]}]}},
            {"spec": {"volumes": [{"name": "v", "secret": {}}]}},
        ),
    ],
)
def test_strategic_merge(doc: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]) -> None:
    assert strategic_merge_patch(POD, doc, patch) == expected


@pytest.mark.parametrize(
    "patch",
    [
        [],
        {"$patch": "odd"},
        {"spec": {"containers": [{"image": "no key"}]}},
        {"spec": {"containers": ["text"]}},
        {"spec": {"$setElementOrder/containers": "text"}},
    ],
)
def test_strategic_merge_refuses(patch: Any) -> None:
    with pytest.raises(StatusError) as refused:
        strategic_merge_patch(POD, {"spec": {"containers": CONTAINERS}}, patch)
    assert refused.value.code == 400


def test_custom_kinds_have_no_strategic_merge() -> None:
    with pytest.raises(StatusError) as refused:
        strategic_merge_patch(by_kind("HTTPRoute"), {}, {})
    assert refused.value.code == 415


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ([{"op": "test", "path": "/a", "value": 2}], 422),
        ([{"op": "test", "path": "/a", "value": True}], 422),
        ([{"op": "remove", "path": "/none"}], 422),
        ([{"op": "replace", "path": "/none", "value": 1}], 422),
        ([{"op": "add", "path": "/l/9", "value": 1}], 422),
        ([{"op": "add", "path": "/l/01", "value": 1}], 422),
        ([{"op": "add", "path": "no-slash", "value": 1}], 422),
        ([{"op": "move", "from": "/l", "path": "/l/0"}], 422),
        ([{"op": "odd", "path": "/a"}], 400),
        ([{"op": "add", "path": "/a"}], 400),
        ({"op": "add"}, 400),
    ],
)
def test_json_patch_refuses(ops: Any, code: int) -> None:
    with pytest.raises(StatusError) as refused:
        json_patch({"a": 1, "l": [1, 2]}, ops)
    assert refused.value.code == code


def test_json_patch_lists() -> None:
    ops = [
        {"op": "add", "path": "/l/-", "value": 3},
        {"op": "add", "path": "/l/0", "value": 0},
        {"op": "copy", "from": "/l/1", "path": "/a"},
        {"op": "replace", "path": "/l/1", "value": 9},
    ]
    assert json_patch({"l": [1, 2]}, ops) == {"l": [0, 9, 2, 3], "a": 1}


def test_merge_patch_of_no_object_is_refused() -> None:
    with pytest.raises(StatusError):
        merge_patch({}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a in b", "found '', expected: '('"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
    ],
)
def test_label_selector_refusals(text: str, message: str) -> None:
    with pytest.raises(StatusError) as refused:
        parse_labels(text)
    assert (refused.value.code, refused.value.message) == (400, message)


def test_field_selectors() -> None:
    event = {
        "involvedObject": {"name": "p", "kind": "Pod"},
        "type": "Warning",
        "source": {"component": "kubelet"},
    }
    assert parse_fields(by_kind("Event"), "involvedObject.name=p,type!=Normal,source=kubelet").matches(event)
    assert not parse_fields(by_kind("Event"), "involvedObject.kind==Node").matches(event)
    pod = {"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Running"}}
    assert parse_fields(POD, "status.phase=Running,spec.nodeName=").matches(pod)
    with pytest.raises(StatusError) as refused:
        parse_fields(POD, "spec.odd=1")
    assert refused.value.message == "field label not supported: spec.odd"


def test_a_label_selector_object() -> None:
    selector = {
        "matchLabels": {"a": "1"},
        "matchExpressions": [
            {"key": "b", "operator": "NotIn", "values": ["2"]},
            {"key": "c", "operator": "Exists"},
        ],
    }
    assert match_label_selector(selector, {"a": "1", "c": ""})
    assert not match_label_selector(selector, {"a": "1", "b": "2", "c": ""})
    assert match_label_selector({}, None)
    assert not match_label_selector(None, {"a": "1"})


def config(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, **fields}


def test_unknown_fields_are_named_by_path() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "odd": 1},
        "spec": {"containers": [{"name": "a", "evn": []}]},
    }
    obj, warnings = decode(POD, body, "Warn")
    assert warnings == ['unknown field "metadata.odd"', 'unknown field "spec.containers[0].evn"']
    assert obj["spec"]["containers"] == [{"name": "a", "resources": {}}]
    assert decode(POD, body, "Ignore")[1] == []


def test_duplicate_fields_are_refused_when_strict() -> None:
    text = '{"data": {"a": "1", "a": "2"}, "l": [{"x": 1, "x": 2}]}'
    assert find_duplicates(text) == ["data.a", "l[0].x"]
    assert find_duplicates("{not json") == []
    with pytest.raises(StatusError) as refused:
        decode(by_kind("ConfigMap"), config(), "Strict", duplicates=["data.a"])
    assert 'duplicate field "data.a"' in refused.value.message
    assert decode(by_kind("ConfigMap"), config(), "Warn", duplicates=["data.a"])[1] == [
        'duplicate field "data.a"'
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "stored"),
    [
        ("Lease", {"renewTime": "2026-11-23T10:00:00.5+02:00"}, {"renewTime": "2026-11-23T08:00:00.500000Z"}),
        (
            "Lease",
            {"holderIdentity": "", "leaseTransitions": 0},
            {"holderIdentity": "", "leaseTransitions": 0},
        ),
        ("Node", {"unschedulable": False, "podCIDR": ""}, {}),
        ("PersistentVolumeClaim", {"storageClassName": ""}, {"storageClassName": "", "resources": {}}),
    ],
)
def test_values_as_go_keeps_them(kind: str, spec: dict[str, Any], stored: dict[str, Any]) -> None:
    served = by_kind(kind)
    body = {"apiVersion": served.api_version, "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    assert decode(served, body)[0].get("spec", {}) == stored


@pytest.mark.parametrize(
    "body",
    [
        None,
        {"kind": "Secret"},
        config(data="text"),
        config(data={"a": 1}),
        config(binaryData={"a": "not base64!"}),
        config(immutable="yes"),
        config(metadata={"name": 1}),
        config(metadata={"creationTimestamp": "yesterday"}),
    ],
)
def test_badly_typed_bodies_are_400(body: Any) -> None:
    with pytest.raises(StatusError) as refused:
        decode(by_kind("ConfigMap"), body)
    assert (refused.value.code, refused.value.reason) == (400, "BadRequest")


def test_only_a_custom_kind_must_name_itself() -> None:
    assert decode(by_kind("ConfigMap"), {"metadata": {"name": "a"}})[0]["kind"] == "ConfigMap"
    with pytest.raises(StatusError) as refused:
        decode(by_kind("HTTPRoute"), {"metadata": {"name": "a"}})
    assert refused.value.code == 400


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_every_kind_is_found_by_its_names_and_has_a_schema(kind: Kind) -> None:
    for version in kind.versions:
        assert by_plural(kind.group, version, kind.plural) == kind
        group_version = f"{kind.group}/{version}" if kind.group else version
        assert by_api_version(group_version, kind.kind) == kind
        document = openapi_v3(group_version)
        served = [
            s for s in document["components"]["schemas"].values() if "x-kubernetes-group-version-kind" in s
        ]
        wanted = {"group": kind.group, "kind": kind.kind, "version": version}
        assert [wanted] in [schema["x-kubernetes-group-version-kind"] for schema in served]
        patches = [path["patch"] for path in document["paths"].values() if "patch" in path]
        assert any(p["x-kubernetes-group-version-kind"] == wanted for p in patches)
        assert all("fieldValidation" in [q["name"] for q in p["parameters"]] for p in patches)
    assert by_kind(kind.kind) is kind
    assert "metadata" in field_schema(kind).fields


def test_openapi_references_resolve() -> None:
    for group_version in ("v1", "apps/v1", "autoscaling/v2", "gateway.networking.k8s.io/v1beta1"):
        schemas = openapi_v3(group_version)["components"]["schemas"]
        waiting: list[Any] = [schemas]
        while waiting:
            node = waiting.pop()
            if isinstance(node, dict):
                if isinstance(reference := node.get("$ref"), str):
                    assert reference.removeprefix("#/components/schemas/") in schemas
                waiting.extend(node.values())
            elif isinstance(node, list):
                waiting.extend(node)
