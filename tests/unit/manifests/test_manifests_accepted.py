"""What an API server makes of rendered objects: accepted strictly, and no change when applied again."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import given

from chalkcompute.local.apimachinery.decode import decode
from chalkcompute.local.apimachinery.kinds import Kind, by_api_version
from chalkcompute.local.apimachinery.managed import apply
from chalkcompute.local.apimachinery.strategy import prepare_create, prepare_update
from chalkcompute.local.apimachinery.validation import validate_create
from chalkcompute.manifests import render
from chalkcompute.manifests.placement import Placement
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest
from tests.properties import examples
from tests.unit.manifests.manifests_builders import a_record, placements, specs

PROPERTY = examples(30)


def served(objects: tuple[Manifest, ...]) -> list[tuple[Kind, Manifest]]:
    """With their kinds in the embedded cluster, which has all of them."""
    found = [(by_api_version(obj["apiVersion"], obj["kind"]), obj) for obj in objects]
    assert all(kind is not None for kind, _ in found)
    return [(kind, obj) for kind, obj in found if kind is not None]


def applied(kind: Kind, live: dict[str, Any] | None, manifest: Manifest) -> dict[str, Any]:
    return apply(
        kind,
        live,
        manifest,
        manager="chalk",
        force=True,
        now="2026-11-23T11:30:00Z",
        api_version=manifest["apiVersion"],
    )


@PROPERTY
@given(spec=specs(), placement=placements())
def test_every_object_is_accepted_and_stays_as_it_is(spec: ScalingGroupSpec, placement: Placement) -> None:
    objects = served(render(spec, placement))
    assert {"Service", "Deployment", "HTTPRoute"} <= {kind.kind for kind, _ in objects}
    for kind, manifest in objects:
        assert decode(kind, manifest, "Strict")[1] == []
        live = prepare_create(kind, applied(kind, None, manifest))
        validate_create(kind, live)
        assert applied(kind, live, manifest) == live


@PROPERTY
@given(spec=specs(), placement=placements())
def test_a_new_revision_of_the_same_spec_changes_no_generation(
    spec: ScalingGroupSpec, placement: Placement
) -> None:
    before = served(render(spec, placement))
    after = served(render(spec, dataclasses.replace(placement, revision=placement.revision + 1)))
    for (kind, old), (_, new) in zip(before, after, strict=True):
        live = prepare_create(kind, applied(kind, None, old))
        again = prepare_update(kind, applied(kind, live, new), live)
        assert again["metadata"].get("generation") == live["metadata"].get("generation")
        assert again.get("spec") == live.get("spec")


@PROPERTY
@given(spec=specs())
def test_every_record_is_accepted(spec: ScalingGroupSpec) -> None:
    manifest = a_record(spec, uid=None, resource_version=None).to_manifest()
    kind = by_api_version("v1", "ConfigMap")
    assert kind is not None
    live, warnings = decode(kind, manifest, "Strict")
    assert warnings == []
    validate_create(kind, prepare_create(kind, live))


@PROPERTY
@given(old=specs(), new=specs(), placement=placements())
def test_an_update_leaves_nothing_of_the_spec_before(
    old: ScalingGroupSpec, new: ScalingGroupSpec, placement: Placement
) -> None:
    old = dataclasses.replace(old, name=new.name)
    before = {(kind.kind, obj["metadata"]["name"]): obj for kind, obj in served(render(old, placement))}
    for kind, manifest in served(render(new, placement)):
        earlier = before.get((kind.kind, manifest["metadata"]["name"]))
        if earlier is None:
            continue
        live = prepare_create(kind, applied(kind, None, earlier))
        updated = prepare_update(kind, applied(kind, live, manifest), live)
        fresh = prepare_create(kind, applied(kind, None, manifest))
        assert updated["spec"] == fresh["spec"]
        assert updated["metadata"]["labels"] == fresh["metadata"]["labels"]
