"""What must hold whatever the input: apply, patches, selectors, decoding, quantities."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.apimachinery import managed
from chalkcompute.local.apimachinery.decode import decode, find_duplicates
from chalkcompute.local.apimachinery.defaults import default
from chalkcompute.local.apimachinery.fieldset import decode_fields, encode_fields
from chalkcompute.local.apimachinery.kinds import KINDS, Kind, by_kind
from chalkcompute.local.apimachinery.patch import json_patch, merge_patch
from chalkcompute.local.apimachinery.quantity import canonical_quantity, parse_quantity
from chalkcompute.local.apimachinery.schema import field_schema
from chalkcompute.local.apimachinery.selectors import parse_fields, parse_labels
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.apimachinery.strategy import prepare_create, prepare_update
from chalkcompute.local.apimachinery.typed import compare, field_set, merge
from chalkcompute.local.apimachinery.validation import validate_create, validate_update
from tests.properties import examples

NOW = "2026-11-23T11:21:39Z"
LATER = "2026-11-24T00:00:00Z"
DEPLOYMENT = by_kind("Deployment")
SETTINGS = examples(60)

scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab/~", max_size=3)
documents = st.recursive(
    scalars,
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "c/d", "e~f"]), children, max_size=3)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from(["a", "b", "c"]), documents, max_size=3)
words = st.text("abc", min_size=1, max_size=3)
env = st.dictionaries(st.sampled_from("ABCD"), words, max_size=4)


@st.composite
def deployments(draw: st.DrawFn) -> dict[str, Any]:
    """A valid Deployment as a client applies it."""
    containers = []
    for name in draw(st.lists(st.sampled_from(["app", "side", "log"]), min_size=1, max_size=3, unique=True)):
        container: dict[str, Any] = {"name": name, "image": f"img:{draw(words)}"}
        if variables := draw(env):
            container["env"] = [{"name": key, "value": value} for key, value in variables.items()]
        ports = draw(st.lists(st.integers(1, 9), max_size=3, unique=True))
        if ports:
            container["ports"] = [{"containerPort": port} for port in ports]
        if cpu := draw(st.sampled_from(["", "1000m", "0.5", "2"])):
            container["resources"] = {"limits": {"cpu": cpu}}
        containers.append(container)
    spec: dict[str, Any] = {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers}},
    }
    if (replicas := draw(st.none() | st.integers(0, 3))) is not None:
        spec["replicas"] = replicas
    metadata: dict[str, Any] = {"name": "web"}
    if labels := draw(st.dictionaries(words, words, max_size=2)):
        metadata["labels"] = labels
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def applied(
    live: dict[str, Any] | None, patch: dict[str, Any], manager: str, now: str = NOW
) -> dict[str, Any]:
    obj = managed.apply(DEPLOYMENT, live, patch, manager=manager, force=True, now=now, api_version="apps/v1")
    if live is None:
        return prepare_create(DEPLOYMENT, obj)
    return prepare_update(DEPLOYMENT, obj, live)


@SETTINGS
@given(deployments())
def test_apply_again_changes_nothing(patch: dict[str, Any]) -> None:
    first = applied(None, patch, "chalk")
    assert applied(first, patch, "chalk", LATER) == first


@SETTINGS
@given(deployments(), deployments())
def test_apply_leaves_its_argument_alone(patch: dict[str, Any], other: dict[str, Any]) -> None:
    live = applied(None, other, "other")
    before = copy.deepcopy((live, patch))
    applied(live, patch, "chalk")
    assert (live, patch) == before


@SETTINGS
@given(deployments(), deployments())
def test_apply_sets_what_it_says_and_drops_what_it_no_longer_says(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    live = applied(applied(None, first, "chalk"), second, "chalk")
    assert live["spec"] == applied(None, second, "chalk")["spec"] or _same_sets(
        live["spec"], applied(None, second, "chalk")["spec"]
    )


def _same_sets(left: Any, right: Any) -> bool:
    """Equal but for the order of keyed lists, which a merge may keep as it was."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same_sets(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return sorted(map(_text, left)) == sorted(map(_text, right))
    return bool(left == right)


def _text(value: Any) -> str:
    def order(part: Any) -> Any:
        if isinstance(part, list):
            return sorted((order(item) for item in part), key=str)
        return {key: order(child) for key, child in part.items()} if isinstance(part, dict) else part

    return json.dumps(order(value), sort_keys=True)


@SETTINGS
@given(deployments())
def test_apply_of_the_own_live_object_changes_no_field(patch: dict[str, Any]) -> None:
    live = applied(None, patch, "chalk")
    mine = {**copy.deepcopy(live), "metadata": {"name": "web", **_labels(live)}}
    again = applied(live, mine, "chalk", LATER)
    assert again["spec"] == live["spec"]
    assert again["metadata"]["generation"] == live["metadata"]["generation"]


def _labels(obj: dict[str, Any]) -> dict[str, Any]:
    return {"labels": obj["metadata"]["labels"]} if "labels" in obj["metadata"] else {}


@SETTINGS
@given(deployments(), deployments())
def test_a_manager_that_leaves_keeps_the_others_fields(first: dict[str, Any], second: dict[str, Any]) -> None:
    alone = applied(None, first, "one")
    both = applied(alone, second, "two")
    left = applied(both, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}, "two")
    managers = {entry["manager"] for entry in left["metadata"].get("managedFields", [])}
    assert "two" not in managers
    owned = decode_fields(
        next(e["fieldsV1"] for e in left["metadata"]["managedFields"] if e["manager"] == "one")
    )
    schema = field_schema(DEPLOYMENT)
    assert owned <= field_set(schema, left)


@SETTINGS
@given(deployments(), deployments())
def test_an_update_owns_exactly_what_it_changed(first: dict[str, Any], second: dict[str, Any]) -> None:
    live = applied(None, first, "chalk")
    changed, _ = decode(DEPLOYMENT, {**second, "metadata": {"name": "web", **_labels(live)}})
    new = managed.update(DEPLOYMENT, default(DEPLOYMENT, changed), live, manager="editor", now=LATER)
    entries = {
        entry["manager"]: decode_fields(entry["fieldsV1"]) for entry in new["metadata"]["managedFields"]
    }
    overlap = entries.get("editor", frozenset()) & entries.get("chalk", frozenset())
    assert not overlap
    every = frozenset().union(*entries.values())
    assert every <= compare(field_schema(DEPLOYMENT), {}, new).added


@SETTINGS
@given(deployments(), deployments())
def test_compare_and_merge_agree(first: dict[str, Any], second: dict[str, Any]) -> None:
    schema = field_schema(DEPLOYMENT)
    merged = merge(schema, first, second)
    assert field_set(schema, merged) == field_set(schema, first) | field_set(schema, second)
    difference = compare(schema, first, merged)
    assert not difference.removed
    assert merge(schema, first, first) == first


@SETTINGS
@given(st.frozensets(st.lists(st.sampled_from(["f:a", "f:b", 'k:{"n":"x"}', "v:1"]), min_size=1).map(tuple)))
def test_field_sets_survive_fields_v1(paths: frozenset[tuple[str, ...]]) -> None:
    assert decode_fields(encode_fields(paths)) == paths


def _naive_merge(target: Any, patch: Any) -> Any:
    """The pseudo code of RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = _naive_merge(out.get(name), value)
    return out


@SETTINGS
@given(documents, objects)
def test_merge_patch_is_the_rfcs(doc: Any, patch: dict[str, Any]) -> None:
    before = copy.deepcopy(doc)
    assert merge_patch(doc, patch) == _naive_merge(doc, patch)
    assert doc == before


@SETTINGS
@given(objects, documents)
def test_json_patch_add_test_remove_round_trips(doc: dict[str, Any], value: Any) -> None:
    add = [{"op": "add", "path": "/new~1key", "value": value}]
    test = [{"op": "test", "path": "/new~1key", "value": value}]
    there = json_patch(doc, add + test)
    assert there["new/key"] == value
    assert json_patch(there, [{"op": "remove", "path": "/new~1key"}]) == doc
    moved = json_patch(there, [{"op": "move", "from": "/new~1key", "path": "/else"}])
    assert moved == {**doc, "else": value}


@SETTINGS
@given(
    objects,
    st.lists(st.dictionaries(st.sampled_from(["op", "path", "from", "value"]), documents, max_size=4)),
)
def test_json_patch_refuses_with_a_status(doc: dict[str, Any], ops: list[Any]) -> None:
    _only_status_errors(lambda: json_patch(doc, ops))


@SETTINGS
@given(
    st.lists(
        st.tuples(
            st.sampled_from("kl"),
            st.sampled_from(["=", "==", "!=", "in", "notin", "has", "!"]),
            st.lists(words, min_size=1),
        )
    ),
    st.dictionaries(st.sampled_from("kl"), words, max_size=2),
)
def test_label_selectors_agree_with_a_naive_model(
    terms: list[tuple[str, str, list[str]]], labels: dict[str, str]
) -> None:
    parts, verdict = [], True
    for key, operator, values in terms:
        value = labels.get(key)
        if operator in ("=", "=="):
            parts.append(f"{key}{operator}{values[0]}")
            verdict &= value == values[0]
        elif operator == "!=":
            parts.append(f"{key} != {values[0]}")
            verdict &= value != values[0]
        elif operator == "has":
            parts.append(key)
            verdict &= value is not None
        elif operator == "!":
            parts.append(f"!{key}")
            verdict &= value is None
        else:
            parts.append(f"{key} {operator} ({', '.join(values)})")
            verdict &= (value in values) is (operator == "in")
    assert parse_labels(",".join(parts)).matches(labels) is verdict


@SETTINGS
@given(st.text("ab=!,() <>in\\./", max_size=12))
def test_selector_text_is_parsed_or_refused(text: str) -> None:
    _only_status_errors(lambda: parse_labels(text).matches({"a": "b"}))
    _only_status_errors(lambda: parse_fields(by_kind("Pod"), text).matches({"metadata": {"name": "a"}}))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@examples(25)
@given(data=st.data())
def test_any_input_ends_in_an_object_or_a_status(kind: Kind, data: st.DataObject) -> None:
    body = _bent(data, kind)
    validation = data.draw(st.sampled_from(["Strict", "Warn", "Ignore"]))

    def create() -> None:
        obj, _ = decode(kind, body, validation)
        obj = prepare_create(kind, default(kind, obj))
        tracked = managed.update(kind, obj, None, manager="m", now=NOW)
        validate_create(kind, tracked)
        validate_update(kind, tracked, tracked)

    assert _refusal_code(create) in (None, 400, 422)
    _only_status_errors(
        lambda: managed.apply(
            kind, None, body, manager="m", force=False, now=NOW, api_version=kind.api_version
        )
    )


def _bent(data: st.DataObject, kind: Kind) -> dict[str, Any]:
    """A body whose fields are the kind's own, and whose values are whatever."""
    body: dict[str, Any] = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "a"}}
    schema = field_schema(kind)
    for _ in range(data.draw(st.integers(0, 4))):
        node, target = schema, body
        while True:
            if not node.fields:
                break
            name = data.draw(st.sampled_from(sorted(node.fields)))
            child = node.fields[name]
            if child.type == "object" and child.fields and data.draw(st.booleans()):
                target = target.setdefault(name, {})
                if not isinstance(target, dict):
                    break
                node = child
                continue
            if child.type == "array" and child.element and child.element.fields and data.draw(st.booleans()):
                item: dict[str, Any] = {}
                target[name] = [item]
                target, node = item, child.element
                continue
            target[name] = data.draw(documents)
            break
    return body


def _only_status_errors(call: Callable[[], Any]) -> None:
    code = _refusal_code(call)
    assert code in (None, 400, 409, 422, 500)


def _refusal_code(call: Callable[[], Any]) -> int | None:
    try:
        call()
    except StatusError as error:
        return error.code
    return None


@SETTINGS
@given(documents)
def test_a_text_without_repetitions_has_no_duplicates(doc: Any) -> None:
    assert find_duplicates(json.dumps(doc)) == []


@SETTINGS
@given(
    st.decimals(min_value=0, max_value=100000, places=3),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e2", "E-1"]),
)
def test_a_canonical_quantity_has_the_same_value_and_stays(number: Any, suffix: str) -> None:
    text = f"{number}{suffix}"
    canonical = canonical_quantity(text)
    assert parse_quantity(canonical) == parse_quantity(text)
    assert canonical_quantity(canonical) == canonical
