"""Records, revisions and tombstones survive the way through a ConfigMap; anything else is one clear error."""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.errors import ChalkError, SpecError
from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Owner, PortHistory
from chalkcompute.manifests.record import (
    Operation,
    Record,
    Revision,
    Tombstone,
    is_record,
    is_tombstone,
    outcome_annotations,
)
from chalkcompute.spec import ScalingGroupSpec
from tests.properties import examples
from tests.unit.manifests.manifests_builders import GROUP_ID, NOW, a_record, a_spec, specs

PROPERTY = examples(60)


def a_revision(number: int = 1, **changes: Any) -> Revision:
    return Revision(
        **{
            "id": GROUP_ID,
            "name": "inference",
            "environment": "abc123",
            "namespace": "ml",
            "revision": number,
            "spec": a_spec(),
            "created_at": NOW,
            "created_by": "me@host",
            "changes": ("image",),
            "owner": Owner("chalk-sg-inference", "u"),
            **changes,
        }
    )


@PROPERTY
@given(spec=specs())
def test_a_record_round_trips(spec: ScalingGroupSpec) -> None:
    record = a_record(spec, operation=Operation("deploy", "me@host:1", NOW), state="deleting", revision=3)
    assert Record.from_manifest(json.loads(json.dumps(record.to_manifest()))) == record


def test_the_record_of_a_group() -> None:
    manifest = a_record(a_spec(tags={"team": "ml"})).to_manifest()
    assert manifest["metadata"]["name"] == "chalk-sg-inference"
    assert manifest["metadata"]["resourceVersion"] == "17"
    assert manifest["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "chalk",
        "chalk.ai/environment": "abc123",
        "chalk.ai/scaling-group": "inference",
        "chalk.ai/scaling-group-id": GROUP_ID,
        "chalk.ai/tag-team": "ml",
        "chalk.ai/record": "scaling-group",
        "chalk.ai/state": "active",
    }
    body = json.loads(manifest["data"]["record.json"])
    assert body["web_url"] == "https://abc123-inference.gw.chalk.ai"
    assert is_record(manifest)
    assert not is_tombstone(manifest)


def test_a_record_that_is_being_removed_says_since_when() -> None:
    manifest = a_record().to_manifest()
    assert Record.from_manifest(manifest).removed_at is None
    manifest["metadata"]["deletionTimestamp"] = "2026-11-23T11:30:00Z"
    assert Record.from_manifest(manifest).removed_at == NOW


def test_selectors_tell_records_apart() -> None:
    assert labels.records() == "chalk.ai/record=scaling-group"
    assert labels.active_records() == "chalk.ai/record=scaling-group,chalk.ai/state!=deleted"
    assert labels.records_named("a") == "chalk.ai/record=scaling-group,chalk.ai/scaling-group=a"
    assert labels.revisions_of("u") == "chalk.ai/record=revision,chalk.ai/scaling-group-id=u"
    assert labels.objects_of("u") == "chalk.ai/scaling-group-id=u"


def test_a_record_before_it_exists_names_no_uid() -> None:
    record = a_record(uid=None, resource_version=None)
    assert {"uid", "resourceVersion"}.isdisjoint(record.to_manifest()["metadata"])
    assert record.owner is None


def test_a_record_owns_by_its_uid() -> None:
    assert a_record().placement().owner == Owner("chalk-sg-inference", a_record().uid or "")


def test_an_operation_ends_by_itself() -> None:
    operation = Operation("deploy", "me@host:1", NOW)
    assert operation.is_over(NOW)
    assert not operation.is_over(NOW - timedelta(seconds=1))


def test_a_port_that_changes_keeps_what_is_in_use() -> None:
    history = PortHistory()
    assert history.name(8000) == "http"
    history = history.then(8000, 8000)
    assert history == PortHistory()
    changed = history.then(8000, 9000)
    assert (changed.name(8000), changed.name(9000), changed.previous) == ("http", "http-9000", (8000,))
    kept = changed.then(9000, 9000)
    assert (kept.name(9000), kept.previous) == ("http-9000", ())
    # Not applied to its end, or only just: a route or a gateway may still go by the one before.
    assert changed.then(9000, 9000, settled=False) == changed
    assert changed.then(9000, 7000, settled=False).previous == (9000, 8000)
    assert changed.then(9000, 8000, settled=False).previous == (9000,)
    back = kept.then(9000, 8000)
    assert (back.name(8000), back.name(9000), back.previous) == ("http", "http-9000", (9000,))
    record = a_record(ports=back)
    assert Record.from_manifest(record.to_manifest()) == record


def test_a_revision_round_trips() -> None:
    failed = a_revision(outcome="failed", post_mortem={"cause": "CrashLoop"})
    for revision in (a_revision(), failed, a_revision(owner=None)):
        assert Revision.from_manifest(json.loads(json.dumps(revision.to_manifest()))) == revision
    assert failed.to_manifest()["immutable"] is True
    assert failed.to_manifest()["metadata"]["annotations"] == {
        "chalk.ai/outcome": "failed",
        "chalk.ai/post-mortem": '{"cause":"CrashLoop"}',
    }
    assert outcome_annotations("available", None) == {
        "chalk.ai/outcome": "available",
        "chalk.ai/post-mortem": None,
    }


@examples(100)
@given(
    names=st.lists(
        st.from_regex(r"[a-c](-r[0-9])?(-r[0-9])?|hist-[ab]", fullmatch=True), min_size=2, unique=True
    ),
    numbers=st.sets(st.integers(1, 3)),
)
def test_what_is_kept_of_different_groups_has_different_names(names: list[str], numbers: set[int]) -> None:
    records = [labels.record_name(name) for name in names]
    revisions = [labels.revision_name(name, number) for name in names for number in sorted(numbers)]
    tombstones = [labels.tombstone_name(group_id) for group_id in ("a", "b")]
    kept = records + revisions + tombstones
    assert len(set(kept)) == len(kept)


def test_the_record_of_an_ordinary_name() -> None:
    assert labels.record_name("inference") == "chalk-sg-inference"
    assert labels.revision_name("inference", 3) == "chalk-sg-inference-r3"
    assert labels.record_name("deepseek-r1") == "chalk-sg.deepseek-r1"


def test_a_tombstone_round_trips_with_its_history() -> None:
    tombstone = Tombstone.of(
        a_record(revision=2), deleted_at=NOW, revisions=(a_revision(2, outcome="failed"), a_revision(1))
    )
    assert [entry["revision"] for entry in tombstone.history] == [1, 2]
    manifest = json.loads(json.dumps(tombstone.to_manifest()))
    assert Tombstone.from_manifest(manifest) == tombstone
    assert manifest["immutable"] is True
    assert "ownerReferences" not in manifest["metadata"]
    assert is_tombstone(manifest)
    assert not is_record(manifest)


def test_a_tombstone_keeps_the_newest_that_fit() -> None:
    large = a_spec(env={"BLOB": "x" * 200_000})
    revisions = tuple(a_revision(n, spec=large) for n in range(1, 9))
    tombstone = Tombstone.of(a_record(revision=8), deleted_at=NOW, revisions=revisions)
    assert [entry["revision"] for entry in tombstone.history] == [7, 8]
    assert len(json.dumps(tombstone.to_manifest())) < 1 << 20


def test_a_spec_that_no_record_can_hold() -> None:
    with pytest.raises(SpecError, match="262144") as caught:
        a_record(a_spec(env={"BLOB": "x" * 300_000})).to_manifest()
    assert caught.value.field == "env"


def broken(change: str, value: object) -> dict[str, Any]:
    manifest = copy.deepcopy(a_record().to_manifest())
    body = json.loads(manifest["data"]["record.json"])
    if change in ("schema", "record.json"):
        manifest["data"][change] = value
        return manifest
    if value is None:
        del body[change]
    else:
        body[change] = value
    manifest["data"]["record.json"] = json.dumps(body)
    return manifest


@pytest.mark.parametrize(
    ("change", "value", "said"),
    [
        ("schema", "2", "its schema is `2`"),
        ("record.json", "{", "Expecting"),
        ("record.json", "[]", "not a JSON object"),
        ("spec", None, "`spec` is missing"),
        ("spec", {"name": "-a", "image": "x"}, "`-a`"),
        ("spec", 3, "does not describe"),
        ("gateway", {"name": "x"}, "missing"),
        ("revision", 0, "revision"),
        ("revision", "1", "revision"),
        ("created_at", "yesterday", "yesterday"),
        ("created_at", "", "a time is missing"),
        ("id", 3, "`id` is not text"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(change: str, value: object, said: str) -> None:
    with pytest.raises(ChalkError) as caught:
        Record.from_manifest(broken(change, value))
    assert "ConfigMap `chalk-sg-inference` in namespace `ml` cannot be read" in caught.value.message
    assert said in caught.value.message
    assert not isinstance(caught.value, SpecError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@PROPERTY
@given(key=st.sampled_from(["id", "revision", "spec", "gateway", "created_at", "operation"]), value=JSON)
def test_any_damage_is_a_chalk_error_or_harmless(key: str, value: object) -> None:
    manifest = a_record().to_manifest()
    body = {**json.loads(manifest["data"]["record.json"]), key: value}
    manifest["data"]["record.json"] = json.dumps(body)
    error: Exception | None = None
    try:
        Record.from_manifest(manifest)
    except ChalkError as caught:
        error = caught
    assert error is None or "cannot be read" in str(error)
