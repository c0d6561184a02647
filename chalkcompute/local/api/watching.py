"""Watches over HTTP: one JSON document a line, until time is out or the client has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from chalkcompute.local.api.encoding import dumps
from chalkcompute.local.api.listing import Selection, changes_matching, parse_version, too_large
from chalkcompute.local.api.store import Entry, Store, Subscription
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.ports import Manifest

__all__ = ["WatchQuery", "stream_watch"]

BOOKMARK_SECONDS = 60.0
# The real server ends a watch after 30 to 60 minutes when the client names no time.
DEFAULT_TIMEOUT_SECONDS = 1800.0
# A client that stops reading is cut off rather than remembered for ever; it lists again.
UNREAD_LIMIT = 10_000
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """`resourceVersion`, `timeoutSeconds`, `allowWatchBookmarks` and `sendInitialEvents` of a watch."""

    resource_version: str = ""
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    bookmarks: bool = False
    initial_events: bool = False


async def stream_watch(
    request: web.BaseRequest,
    store: Store,
    subscription: Subscription,
    selection: Selection,
    query: WatchQuery,
    present: Callable[[Manifest], Manifest],
    bookmark: Callable[[int, dict[str, str]], Manifest],
) -> web.StreamResponse:
    """Answer a watch request.

    Args:
        request: The request to answer.
        store: Where what exists and the history come from.
        subscription: The changes from now on; the watch ends when it is finished.
        selection: What is watched.
        query: The watch's parameters.
        present: An object in the form the client asked for.
        bookmark: The object of a BOOKMARK event, from a version and annotations.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    try:
        initial = _initial_events(store, selection, query)
    except StatusError as exc:
        await response.prepare(request)
        await response.write(_line("ERROR", exc.to_status()))
        return response
    await response.prepare(request)
    lines = [_line(type_, present(obj)) for type_, obj in initial]
    if query.initial_events and query.bookmarks:
        lines.append(_line("BOOKMARK", bookmark(store.revision, {_INITIAL_EVENTS_END: "true"})))
    if lines:
        await response.write(b"".join(lines))
    deadline = asyncio.get_running_loop().time() + query.timeout_seconds
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        entries: list[Entry] = []
        with contextlib.suppress(TimeoutError):  # nothing happened: time for a bookmark
            async with asyncio.timeout(min(left, BOOKMARK_SECONDS)):
                entries = await subscription.next()
        lines = [_line(type_, present(obj)) for type_, obj in changes_matching(selection, entries)]
        if not entries and query.bookmarks:
            lines.append(_line("BOOKMARK", bookmark(store.revision, {})))
        if lines:
            await response.write(b"".join(lines))
        if subscription.finished or subscription.overflowed:
            break
    return response


def _initial_events(store: Store, selection: Selection, query: WatchQuery) -> list[tuple[str, Manifest]]:
    """What comes first: what exists, or what has happened since the version named."""
    version = parse_version(query.resource_version) if query.resource_version else 0
    if not version or query.initial_events:
        items = store.items(selection.kind.kind, selection.namespace)
        return [("ADDED", obj) for obj in items if selection.matches(obj)]
    if version > store.revision:
        raise too_large(version, store.revision)
    return list(changes_matching(selection, store.since(selection.kind.kind, version)))


def _line(type_: str, obj: dict[str, Any]) -> bytes:
    return dumps({"type": type_, "object": obj})
