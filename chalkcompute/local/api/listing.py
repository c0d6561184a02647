"""Reading many objects: selectors, pages that belong together, and watches.

A `continue` token names the version of the first page and the last key given out; later pages show
the objects as they were then, from the store's history, or answer 410 when that has gone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from chalkcompute.local.api.store import Entry, Store
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.selectors import parse_fields, parse_labels
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.ports import Manifest

__all__ = ["ListQuery", "Page", "Selection", "list_page", "matching_change", "select"]

_TOKEN_VERSION = "meta.k8s.io/v1"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a kind a request is about; a namespace of "" is all of them."""

    kind: Kind
    namespace: str
    matches: Callable[[Manifest], bool]
    unfiltered: bool

    def includes(self, obj: Manifest) -> bool:
        return (not self.namespace or obj["metadata"].get("namespace") == self.namespace) and self.matches(
            obj
        )


def select(kind: Kind, namespace: str, labels: str = "", fields: str = "") -> Selection:
    """A selection from the texts of `labelSelector` and `fieldSelector`.

    Raises:
        StatusError: 400 BadRequest for a malformed selector or a field that cannot be selected by.
    """
    by_label, by_field = parse_labels(labels), parse_fields(kind, fields)

    def matches(obj: Manifest) -> bool:
        return by_label.matches(obj["metadata"].get("labels") or {}) and by_field.matches(obj)

    return Selection(kind, namespace, matches, unfiltered=not labels and not fields)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """`limit` (0: all), `continue`, `resourceVersion` and `resourceVersionMatch` of a list."""

    limit: int = 0
    token: str = ""
    resource_version: str = ""
    match: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a list.

    Attributes:
        items: The objects. Do not mutate.
        revision: resourceVersion of the list.
        token: `metadata.continue`, "" on the last page.
        remaining: `metadata.remainingItemCount`; None on the last page and under a selector.
    """

    items: list[Manifest]
    revision: int
    token: str = ""
    remaining: int | None = None


def list_page(store: Store, selection: Selection, query: ListQuery) -> Page:
    """One page of a list.

    Raises:
        StatusError: 400 for a bad token or version, 410 Expired when a page's version has gone,
            504 Timeout for a version that lies in the future.
    """
    revision, start = store.revision, ("", "")
    if query.token:
        revision, start = _decode_token(query.token)
    elif query.resource_version:
        asked = parse_version(query.resource_version)
        if asked > revision:
            raise too_large(asked, revision)
        if query.match == "Exact":
            revision = asked
    kind = selection.kind.kind
    items = (
        store.items(kind, selection.namespace)
        if revision == store.revision
        else _items_at(store, selection, revision)
    )
    chosen = [obj for obj in items if _position(obj) > start and selection.matches(obj)]
    if not query.limit or len(chosen) <= query.limit:
        return Page(chosen, revision)
    page = chosen[: query.limit]
    return Page(
        page,
        revision,
        token=_encode_token(revision, _position(page[-1])),
        remaining=len(chosen) - query.limit if selection.unfiltered else None,
    )


def matching_change(selection: Selection, entry: Entry) -> tuple[str, Manifest] | None:
    """What a watcher of this selection sees of a change: the event's type and object, or None.

    An object that stops matching is DELETED to the watcher, shown as it last matched.
    """
    change = entry.change
    before = change.old is not None and selection.includes(change.old)
    after = change.type != "DELETED" and selection.includes(change.obj)
    if after:
        return ("MODIFIED" if before else "ADDED"), change.obj
    if before and change.old is not None:
        if change.type == "DELETED":
            return "DELETED", change.obj
        metadata = {**change.old["metadata"], "resourceVersion": str(entry.revision)}
        return "DELETED", {**change.old, "metadata": metadata}
    return None


def changes_matching(selection: Selection, entries: Iterable[Entry]) -> Iterator[tuple[str, Manifest]]:
    """`matching_change` over several changes."""
    for entry in entries:
        if event := matching_change(selection, entry):
            yield event


def parse_version(text: str) -> int:
    """A resourceVersion given by a client.

    Raises:
        StatusError: 400 BadRequest when it is not a number.
    """
    if not (text.isascii() and text.isdigit()):
        raise StatusError(
            400, "BadRequest", f"Invalid value: {json.dumps(text)}: resourceVersion must be a number"
        )
    return int(text)


def too_large(asked: int, current: int) -> StatusError:
    """504 for a version of the future, which a store that was reset has not reached again."""
    return StatusError(
        504,
        "Timeout",
        f"Too large resource version: {asked}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )


def _items_at(store: Store, selection: Selection, revision: int) -> list[Manifest]:
    try:
        return store.items_at(selection.kind.kind, selection.namespace, revision)
    except StatusError as exc:
        raise StatusError(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result. You must start "
            "a new list without the continue parameter",
        ) from exc


def _position(obj: Manifest) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _encode_token(revision: int, position: tuple[str, str]) -> str:
    data = {"v": _TOKEN_VERSION, "rv": revision, "start": "/".join(position) + "\0"}
    return base64.urlsafe_b64encode(json.dumps(data, separators=(",", ":")).encode()).decode().rstrip("=")


def _decode_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        data = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, revision = data["v"], int(data["rv"])
        namespace, name = str(data["start"]).rstrip("\0").split("/")
    except (ValueError, KeyError, TypeError) as exc:
        raise StatusError(
            400, "BadRequest", f"invalid continue token: continue key is not valid: {exc}"
        ) from exc
    if version != _TOKEN_VERSION:
        raise StatusError(
            400, "BadRequest", "invalid continue token: continue key is not valid: unknown version"
        )
    return revision, (namespace, name)
