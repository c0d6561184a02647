"""The garbage collector and the end of namespaces, over small graphs."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.controllers.actions import Create, Delete, Update
from chalkcompute.local.controllers.garbage import OwnerState, reconcile
from chalkcompute.local.controllers.namespace import reconcile as reconcile_namespace

Manifest = dict[str, Any]

GOING: dict[str, Any] = {"deletionTimestamp": "2026-11-23T11:22:00Z"}
SOLID, DANGLING, WAITING = OwnerState.SOLID, OwnerState.DANGLING, OwnerState.WAITING


def item(name: str, *owners: str, block: bool = False, **meta: Any) -> Manifest:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": uid, "uid": uid, "blockOwnerDeletion": block}
        for uid in owners
    ]
    metadata = {"name": name, "namespace": "default", "uid": name, **meta}
    if references:
        metadata["ownerReferences"] = references
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def test_without_owners_nothing_happens() -> None:
    assert reconcile(item("a"), {}, []) == []


def test_a_living_owner_keeps_its_dependents() -> None:
    assert reconcile(item("a", "o"), {"o": SOLID}, []) == []


def test_when_every_owner_is_gone_so_is_the_object() -> None:
    child = item("a", "o", "p")
    assert reconcile(child, {"o": DANGLING, "p": DANGLING}, []) == [Delete(child, "Background")]


def test_one_living_owner_of_two_is_enough_and_the_other_reference_goes() -> None:
    (update,) = reconcile(item("a", "o", "p"), {"o": DANGLING, "p": SOLID}, [])
    assert isinstance(update, Update)
    assert [r["uid"] for r in update.obj["metadata"]["ownerReferences"]] == ["p"]


def test_how_an_object_goes_follows_its_own_finalizers() -> None:
    orphaning, waiting = (
        item("a", "o", finalizers=["orphan"]),
        item("b", "o", finalizers=["foregroundDeletion"]),
    )
    assert reconcile(orphaning, {"o": DANGLING}, []) == [Delete(orphaning, "Orphan")]
    assert reconcile(waiting, {"o": DANGLING}, []) == [Delete(waiting, "Foreground")]


def test_an_owner_that_waits_takes_dependents_with_dependents_in_the_foreground() -> None:
    middle, leaf = item("m", "o"), item("l", "m")
    assert reconcile(middle, {"o": WAITING}, [leaf]) == [Delete(middle, "Foreground")]
    assert reconcile(leaf, {"m": WAITING}, []) == [Delete(leaf, "Background")]


def test_foreground_waits_for_those_that_block_only() -> None:
    owner = item("o", finalizers=["foregroundDeletion", "example.com/hold"], **GOING)
    assert reconcile(owner, {}, [item("a", "o", block=True)]) == []
    (update,) = reconcile(owner, {}, [item("a", "o", block=False)])
    assert isinstance(update, Update)
    assert update.obj["metadata"]["finalizers"] == ["example.com/hold"]


def test_orphaning_frees_the_dependents_before_the_owner_goes() -> None:
    owner = item("o", finalizers=["orphan"], **GOING)
    actions = reconcile(owner, {}, [item("a", "o"), item("b", "o", "p")])
    updates = [a.obj["metadata"] for a in actions if isinstance(a, Update)]
    assert "ownerReferences" not in updates[0]
    assert [r["uid"] for r in updates[1]["ownerReferences"]] == ["p"]
    assert (updates[2]["name"], "finalizers" in updates[2]) == ("o", False)


def test_two_that_wait_for_each_other_are_untied() -> None:
    one = item("one", "two", block=True)
    two = item("two", "one", block=True, finalizers=["foregroundDeletion"], **GOING)
    update, delete = reconcile(one, {"two": WAITING}, [two])
    assert isinstance(update, Update)
    assert update.obj["metadata"]["ownerReferences"][0]["blockOwnerDeletion"] is False
    assert delete == Delete(one, "Foreground")


def test_an_object_that_goes_already_is_left_to_it() -> None:
    assert reconcile(item("a", "o", **GOING), {"o": DANGLING}, []) == []


def namespace(**meta: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "team", "uid": "n", **meta},
        "spec": {"finalizers": ["kubernetes"]},
    }


def test_a_namespace_gets_its_default_account_once() -> None:
    (create,) = reconcile_namespace(namespace(), (), has_account=False)
    assert isinstance(create, Create)
    assert (create.obj["kind"], create.obj["metadata"]) == (
        "ServiceAccount",
        {"name": "default", "namespace": "team"},
    )
    assert reconcile_namespace(namespace(), (), has_account=True) == []


def test_a_namespace_that_goes_is_emptied_and_then_finalised() -> None:
    going, left = namespace(**GOING), item("a")
    assert reconcile_namespace(going, [left, item("b", **GOING)], has_account=True) == [Delete(left)]
    (update,) = reconcile_namespace(going, [], has_account=True)
    assert isinstance(update, Update)
    assert (update.subresource, update.obj["spec"]) == ("finalize", {"finalizers": []})


def test_a_finalised_namespace_is_left_alone() -> None:
    going = namespace(**GOING)
    going["spec"] = {}
    assert reconcile_namespace(going, [], has_account=True) == []
