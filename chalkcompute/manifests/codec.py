"""JSON in ConfigMaps: what records, revisions and tombstones have in common."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalkcompute.errors import ChalkError, SpecError
from chalkcompute.manifests import labels
from chalkcompute.manifests.placement import Gateway, PortHistory
from chalkcompute.manifests.times import parse_time
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.times import rfc3339
from chalkcompute.types import Manifest

__all__ = [
    "Remembered",
    "compact_json",
    "config_map",
    "fitting",
    "read_body",
    "read_gateway",
    "read_identity",
    "read_ports",
    "reading",
    "required_time",
    "written_at",
]

SCHEMA = "1"
BODY_KEY = "record.json"
BODY_BYTES_MAX = 256 * 1024  # a ConfigMap holds 1 MiB; far below it every list of records stays quick
_HISTORY_BYTES_MAX = 512 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a record, a revision and a tombstone all say.

    Attributes:
        id: UUID of this incarnation of the group.
        name: Name of the group.
        environment: Environment id.
        namespace: Kubernetes namespace.
        revision: Revision number, from 1: of a record the current one, of a tombstone the last.
        spec: What was asked for in it.
        created_at: When the group was created, or the revision deployed (UTC).
    """

    id: str
    name: str
    environment: str
    namespace: str
    revision: int
    spec: ScalingGroupSpec
    created_at: datetime


def compact_json(value: object) -> str:
    """One line of JSON with its keys in order, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def config_map(
    name: str, of: Remembered, kind: str, extra_labels: Mapping[str, str], extra_body: Mapping[str, Any]
) -> Manifest:
    """A ConfigMap that remembers something of a group.

    Raises:
        SpecError: The spec makes it larger than a record may be.
    """
    body = {
        "id": of.id,
        "name": of.name,
        "environment": of.environment,
        "revision": of.revision,
        "created_at": rfc3339(of.created_at),
        "spec": of.spec.to_dict(),
        **extra_body,
    }
    spec_size = len(compact_json(body["spec"]).encode())
    if spec_size > BODY_BYTES_MAX:
        raise SpecError(
            f"the description of `{of.name}` takes {spec_size} bytes, a record holds {BODY_BYTES_MAX}",
            field="env" if of.spec.env else "entrypoint" if of.spec.entrypoint else "image",
            hint="put large values into files of the image",
        )
    found = labels.group_labels(name=of.name, group_id=of.id, environment=of.environment, tags=of.spec.tags)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": of.namespace,
            "labels": {**found, labels.RECORD: kind, **extra_labels},
        },
        "data": {"schema": SCHEMA, BODY_KEY: compact_json(body)},
    }


def fitting(entries: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """As many of the last entries as a tombstone has room for."""
    kept: list[Mapping[str, Any]] = []
    left = _HISTORY_BYTES_MAX
    for entry in reversed(entries):
        left -= len(compact_json(entry).encode())
        if left < 0:
            break
        kept.append(entry)
    return tuple(reversed(kept))


@contextmanager
def reading(manifest: Manifest) -> Iterator[None]:
    """Turn whatever is wrong with a ConfigMap into one error that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        metadata = manifest.get("metadata") or {}
        why = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) and error.args else str(error)
        raise ChalkError(
            f"ConfigMap `{metadata.get('name')}` in namespace `{metadata.get('namespace')}` "
            f"cannot be read as a record: {why}",
            hint="it was changed by hand or written by a newer version of this tool",
        ) from error


def read_body(manifest: Manifest) -> dict[str, Any]:
    """The JSON object of a ConfigMap, inside `reading`."""
    data = manifest["data"]
    if data["schema"] != SCHEMA:
        raise ValueError(f"its schema is `{data['schema']}`, this version reads `{SCHEMA}`")
    body = json.loads(data[BODY_KEY])
    if not isinstance(body, dict):
        raise TypeError(f"`{BODY_KEY}` is not a JSON object")
    return body


def read_identity(manifest: Manifest, body: Mapping[str, Any]) -> dict[str, Any]:
    """What `Remembered` names, as constructor arguments, inside `reading`."""
    revision = body["revision"]
    if isinstance(revision, bool) or not isinstance(revision, int) or revision < 1:
        raise ValueError("its revision is not a whole number from 1")
    for key in ("id", "name", "environment"):
        if not isinstance(body[key], str):
            raise TypeError(f"its `{key}` is not text")
    return {
        "id": body["id"],
        "name": body["name"],
        "environment": body["environment"],
        "namespace": manifest["metadata"]["namespace"],
        "revision": revision,
        "created_at": required_time(body["created_at"]),
        "spec": ScalingGroupSpec.from_dict(body["spec"]),
    }


def written_at(metadata: Mapping[str, Any]) -> datetime | None:
    """When our field manager last wrote an object, by the clock of the API server, or None."""
    entries = metadata.get("managedFields") or ()
    moments = (
        parse_time(entry.get("time")) for entry in entries if entry.get("manager") == labels.FIELD_MANAGER
    )
    return max((moment for moment in moments if moment is not None), default=None)


def required_time(text: str) -> datetime:
    """A time that must be there, inside `reading`."""
    moment = parse_time(text)
    if moment is None:
        raise ValueError("a time is missing")
    return moment


def read_ports(data: Mapping[str, Any]) -> PortHistory:
    """How a port has changed, inside `reading`."""
    first, previous = data.get("first"), tuple(data.get("previous") or ())
    for port in (first or 0, *previous):
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError("one of its `ports` is no number")
    return PortHistory(first, previous)


def read_gateway(data: Mapping[str, Any]) -> Gateway:
    """A Gateway; unknown keys are ignored, inside `reading`."""
    return Gateway(**{f.name: data[f.name] for f in dataclasses.fields(Gateway) if f.name in data})
