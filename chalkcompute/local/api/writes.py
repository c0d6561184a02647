"""Creating and changing objects: the pipeline from a request's body to the store."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalkcompute.local.api import failures
from chalkcompute.local.api.admission import admit_create
from chalkcompute.local.api.deletion import timestamp, vanishes
from chalkcompute.local.api.keda_webhook import check_scaled_object
from chalkcompute.local.api.scale import scaled
from chalkcompute.local.api.store import Store, clone
from chalkcompute.local.apimachinery import managed
from chalkcompute.local.apimachinery.decode import decode
from chalkcompute.local.apimachinery.defaults import default
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.patch import json_patch, merge_patch
from chalkcompute.local.apimachinery.scale import to_scale
from chalkcompute.local.apimachinery.status import Cause, StatusError
from chalkcompute.local.apimachinery.strategic import strategic_merge_patch
from chalkcompute.local.apimachinery.strategy import prepare_create, prepare_update
from chalkcompute.local.apimachinery.validation import validate_create, validate_update
from chalkcompute.local.ports import Manifest

__all__ = ["APPLY_PATCH", "JSON_PATCH", "MERGE_PATCH", "STRATEGIC_PATCH", "WriteOptions", "Writer", "Written"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

# Letters and digits that spell no word: k8s.io/apimachinery util/rand.
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_GENERATED_BASE_LENGTH = 58
_GENERATE_ATTEMPTS = 8
_SERVER_FIELDS = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_CREATED_BY_PUT = ("Event", "Lease")
_PUT_NEEDS_VERSION = ("Lease", "PodDisruptionBudget")


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """What a write says beside its body.

    Attributes:
        manager: `fieldManager`; "" when the client named none.
        api_version: `apiVersion` of the request's path.
        subresource: "", `status`, `scale` or `finalize`.
        dry_run: Do everything but store.
        force: Take fields from other managers (apply).
        field_validation: `Strict`, `Warn` or `Ignore`.
        duplicates: Fields that the body's text gives twice.
        default_manager: Name to record when `manager` is "".
    """

    manager: str
    api_version: str
    subresource: str = ""
    dry_run: bool = False
    force: bool = False
    field_validation: str = "Warn"
    duplicates: tuple[str, ...] = ()
    default_manager: str = "unknown"

    @property
    def recorded_manager(self) -> str:
        return self.manager or self.default_manager


@dataclass(frozen=True, slots=True)
class Written:
    """The outcome: the stored object (do not mutate), whether it is new, and decoding warnings."""

    obj: Manifest
    created: bool = False
    warnings: tuple[str, ...] = ()


class Writer:
    """Writes to a store."""

    def __init__(
        self, store: Store, now: Callable[[], datetime], namespace_annotations: Mapping[str, str]
    ) -> None:
        self._store = store
        self._now = now
        self._namespace_annotations = namespace_annotations

    def create(self, kind: Kind, namespace: str, body: Manifest, options: WriteOptions) -> Written:
        """POST of a new object."""
        body = _typed(kind, body, options)
        obj, warnings = decode(kind, body, options.field_validation, duplicates=options.duplicates)
        return Written(self._insert(kind, namespace, obj, options), True, tuple(warnings))

    def replace(
        self, kind: Kind, namespace: str, name: str, body: Manifest, options: WriteOptions
    ) -> Written:
        """PUT of an object or of its `status`, `scale` or `finalize`."""
        live = self._store.get(kind.kind, namespace, name)
        if options.subresource == "scale":
            return self._rescale(kind, self._existing(kind, name, live), body, options)
        body = _typed(kind, body, options)
        obj, warnings = decode(kind, body, options.field_validation, duplicates=options.duplicates)
        if live is None and kind.kind in _CREATED_BY_PUT:
            return Written(self._insert(kind, namespace, obj, options), True, tuple(warnings))
        live = self._existing(kind, name, live)
        if (kind.custom or kind.kind in _PUT_NEEDS_VERSION) and not obj["metadata"].get("resourceVersion"):
            cause = Cause("metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update")
            raise failures.invalid(kind.kind, kind.group, name, cause)
        return Written(self._change(kind, live, obj, options), warnings=tuple(warnings))

    def patch(
        self, kind: Kind, namespace: str, name: str, patch: Any, media_type: str, options: WriteOptions
    ) -> Written:
        """PATCH of an object or subresource."""
        live = self._store.get(kind.kind, namespace, name)
        if media_type == APPLY_PATCH:
            return self._apply(kind, namespace, name, live, patch, options)
        live = self._existing(kind, name, live)
        if options.subresource == "scale":
            return self._rescale(kind, live, _patched(kind, to_scale(live), patch, media_type), options)
        document = {**clone(live), "apiVersion": options.api_version}
        obj, warnings = decode(kind, _patched(kind, document, patch, media_type), options.field_validation)
        return Written(self._change(kind, live, obj, options), warnings=tuple(warnings))

    def _apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        live: Manifest | None,
        patch: Any,
        options: WriteOptions,
    ) -> Written:
        if not options.manager:
            cause = Cause("fieldManager", "Required value: is required for apply patch", "FieldValueRequired")
            raise failures.invalid("PatchOptions", "meta.k8s.io", "", cause)
        if options.subresource:
            live = self._existing(kind, name, live)
        if not isinstance(patch, dict):
            raise failures.bad_request("an apply patch must be an object")
        metadata = patch.setdefault("metadata", {})
        if isinstance(metadata, dict):
            metadata.setdefault("name", name)
            _check_version(kind, name, live, metadata)
            if kind.namespaced:
                metadata.setdefault("namespace", namespace)
        applied = managed.apply(
            kind,
            live,
            patch,
            manager=options.manager,
            force=options.force,
            now=timestamp(self._now()),
            subresource=options.subresource,
            api_version=options.api_version,
        )
        if live is None:
            return Written(self._insert(kind, namespace, applied, options, tracked=True), True)
        return Written(self._change(kind, live, applied, options, tracked=True))

    def _rescale(self, kind: Kind, live: Manifest, scale: Manifest, options: WriteOptions) -> Written:
        metadata = scale.get("metadata") or {}
        if not isinstance(metadata, dict):
            raise failures.bad_request("Scale cannot be read: metadata must be an object")
        name = metadata.get("name")
        if name != live["metadata"]["name"]:
            raise _other_name(str(name), live["metadata"]["name"])
        return Written(to_scale(self._change(kind, live, scaled(live, scale), options)))

    def _existing(self, kind: Kind, name: str, live: Manifest | None) -> Manifest:
        if live is None:
            raise failures.not_found(kind, name)
        return live

    def _insert(
        self, kind: Kind, namespace: str, obj: Manifest, options: WriteOptions, *, tracked: bool = False
    ) -> Manifest:
        metadata = dict(obj.get("metadata") or {})
        if metadata.get("resourceVersion"):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        obj = {**obj, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        _place(kind, namespace, metadata)
        obj = admit_create(
            kind, default(kind, obj), self._store, namespace_annotations=self._namespace_annotations
        )
        metadata = obj["metadata"]
        self._name(kind, namespace, metadata)
        for field in _SERVER_FIELDS:
            metadata.pop(field, None)
        now = timestamp(self._now())
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now
        obj = prepare_create(kind, obj)
        if not tracked:
            obj = managed.update(
                kind,
                obj,
                None,
                manager=options.recorded_manager,
                now=now,
                subresource=options.subresource,
                api_version=options.api_version,
            )
        validate_create(kind, obj)
        self._ask_webhooks(kind, obj, None, options)
        if self._store.get(kind.kind, namespace, obj["metadata"]["name"]) is not None:
            raise failures.already_exists(kind, obj["metadata"]["name"])
        obj["metadata"].pop("resourceVersion", None)
        return obj if options.dry_run else self._store.put(kind.kind, obj)

    def _name(self, kind: Kind, namespace: str, metadata: dict[str, Any]) -> None:
        base = metadata.get("generateName")
        if metadata.get("name") or not isinstance(base, str) or not base:
            return
        for _ in range(_GENERATE_ATTEMPTS):
            suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
            metadata["name"] = base[:_GENERATED_BASE_LENGTH] + suffix
            if self._store.get(kind.kind, namespace, metadata["name"]) is None:
                return

    def _change(
        self, kind: Kind, live: Manifest, obj: Manifest, options: WriteOptions, *, tracked: bool = False
    ) -> Manifest:
        old = live["metadata"]
        metadata = dict(obj.get("metadata") or {})
        if metadata.get("name") != old["name"]:
            raise _other_name(str(metadata.get("name") or ""), old["name"])
        _place(kind, old.get("namespace") or "", metadata)
        _check_uid(kind, live, metadata)
        _check_version(kind, old["name"], live, metadata)
        for field in (*_SERVER_FIELDS, "resourceVersion"):
            metadata.pop(field, None)
            if field in old:
                metadata[field] = old[field]
        obj = {**obj, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        if options.subresource == "finalize":
            new = _finalized(live, obj)
        else:
            new = prepare_update(kind, default(kind, obj), live, options.subresource)
        if not tracked:
            new = managed.update(
                kind,
                new,
                live,
                manager=options.recorded_manager,
                now=timestamp(self._now()),
                subresource=options.subresource,
                api_version=options.api_version,
            )
        validate_update(kind, new, live, options.subresource)
        self._ask_webhooks(kind, new, live, options)
        if _same(new, live):
            new = live
        if options.dry_run:
            return new
        if vanishes(new):
            self._store.remove(kind.kind, new)
            return new
        return new if new is live else self._store.put(kind.kind, clone(new))

    def _ask_webhooks(self, kind: Kind, new: Manifest, live: Manifest | None, options: WriteOptions) -> None:
        if kind.kind == "ScaledObject" and not options.subresource:
            check_scaled_object(new, live, self._store, dry_run=options.dry_run)


def _patched(kind: Kind, document: Manifest, patch: Any, media_type: str) -> Manifest:
    patched: Manifest
    if media_type == JSON_PATCH:
        patched = json_patch(document, patch)
    elif media_type == MERGE_PATCH:
        patched = merge_patch(document, patch)
    else:
        patched = strategic_merge_patch(kind, document, patch)
    return patched


def _typed(kind: Kind, body: Manifest, options: WriteOptions) -> Manifest:
    """A body that leaves out what the path says already, as typed clients do; custom kinds must say it."""
    if kind.custom:
        return body
    return {
        **body,
        "kind": body.get("kind") or kind.kind,
        "apiVersion": body.get("apiVersion") or options.api_version,
    }


def _place(kind: Kind, namespace: str, metadata: dict[str, Any]) -> None:
    if not kind.namespaced:
        metadata.pop("namespace", None)
        return
    if metadata.get("namespace") not in (None, "", namespace):
        raise failures.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = namespace


def _other_name(given: str, wanted: str) -> StatusError:
    return failures.bad_request(
        f"the name of the object ({given}) does not match the name on the URL ({wanted})"
    )


def _check_uid(kind: Kind, live: Manifest, metadata: dict[str, Any]) -> None:
    uid, actual = metadata.get("uid"), live["metadata"]["uid"]
    if uid and uid != actual:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
        raise failures.conflict(kind, live["metadata"]["name"], why)


def _check_version(kind: Kind, name: str, live: Manifest | None, metadata: dict[str, Any]) -> None:
    version = metadata.get("resourceVersion")
    if live is not None and version and version != live["metadata"]["resourceVersion"]:
        raise failures.conflict(kind, name)


def _finalized(live: Manifest, obj: Manifest) -> Manifest:
    """PUT of a Namespace's `finalize`: only `spec.finalizers` counts."""
    spec = dict(live.get("spec") or {})
    if finalizers := (obj.get("spec") or {}).get("finalizers"):
        spec["finalizers"] = finalizers
    else:
        spec.pop("finalizers", None)
    return {**live, "spec": spec}


def _same(new: Manifest, live: Manifest) -> bool:
    """Whether nothing changed, but for when a manager last said so."""
    if new == live:
        return True
    if {**new, "metadata": None} != {**live, "metadata": None}:
        return False
    return _without_times(new["metadata"]) == _without_times(live["metadata"])


def _without_times(metadata: dict[str, Any]) -> dict[str, Any]:
    entries = [{**entry, "time": ""} for entry in metadata.get("managedFields") or []]
    return {**metadata, "managedFields": entries}
