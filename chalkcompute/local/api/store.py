"""The objects of the embedded cluster: a dict in memory, written through to SQLite.

Every write is one transaction that is on its way to the file before memory changes, so that what a
client was told survives a killed process and a failed write leaves memory and file as they were.
One counter numbers all writes: it is the `resourceVersion` of every object and list.

Objects handed out are the stored ones. They are replaced, never changed in place: do not mutate.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import json
import os
import sqlite3
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.ports import Change, Manifest

__all__ = ["Entry", "Store", "Subscription", "clone"]

# The low versions count as compacted, as on a cluster whose bootstrap used them up: a client
# that watches from version 1 must learn to list again.
FIRST_REVISION = 100
# What a client may miss and still go on from; also most of the memory of a busy cluster.
HISTORY_PER_KIND = 512

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""


def clone(value: Any) -> Any:
    """A deep copy of JSON-like data: its own dicts and lists, the same scalars."""
    if isinstance(value, dict):
        return {k: clone(v) for k, v in value.items()}
    if isinstance(value, list):
        return [clone(v) for v in value]
    return value


@dataclass(frozen=True, slots=True)
class Entry:
    """One change with its number."""

    revision: int
    change: Change


class Subscription:
    """Changes of some kinds from the moment of subscribing, in order; ends when dropped.

    Attributes:
        overflowed: True once changes were lost because the reader fell behind `limit`.
        finished: True once nothing more will come.
    """

    def __init__(self, limit: int = 0) -> None:
        self._waiting: deque[Entry] = deque()
        self._arrived = asyncio.Event()
        self._limit = limit
        self.overflowed = False
        self.finished = False

    def offer(self, entry: Entry) -> None:
        if self._limit and len(self._waiting) >= self._limit:
            self.overflowed = True
            return
        self._waiting.append(entry)
        self._arrived.set()

    def finish(self) -> None:
        """Wake the reader for the last time."""
        self.finished = True
        self._arrived.set()

    async def next(self) -> list[Entry]:
        """All that has come since the last call, waiting for at least one; none when finished."""
        await self._arrived.wait()
        entries = list(self._waiting)
        self._waiting.clear()
        if not self.finished:
            self._arrived.clear()
        return entries


class _Shelf:
    """The objects of one kind with their recent history."""

    def __init__(self, floor: int) -> None:
        self.objects: dict[tuple[str, str], Manifest] = {}
        self.keys: list[tuple[str, str]] = []
        self.history: deque[Entry] = deque()
        self.floor = floor
        self.subscribers: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def set(self, key: tuple[str, str], obj: Manifest) -> None:
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.objects[key] = obj

    def drop(self, key: tuple[str, str]) -> None:
        del self.objects[key]
        del self.keys[bisect.bisect_left(self.keys, key)]

    def record(self, entry: Entry) -> None:
        self.history.append(entry)
        if len(self.history) > HISTORY_PER_KIND:
            self.floor = self.history.popleft().revision
        for subscriber in tuple(self.subscribers):
            subscriber.offer(entry)


class Store:
    """All objects by kind, namespace ("" when cluster-scoped) and name.

    Args:
        path: The SQLite file; made, readable by its owner only, when absent.

    Raises:
        LocalClusterError: The file cannot be opened or written, or is not a store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._shelves: dict[str, _Shelf] = {}
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(path)
            try:
                self._load()
            except BaseException:
                self._db.close()
                raise
        except (OSError, sqlite3.Error, ValueError) as exc:
            raise LocalClusterError(
                f"the store `{path}` cannot be opened: {exc}",
                hint="check the folder's permissions and free space, or start afresh: `chalk local reset`",
            ) from exc

    def _load(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO counters VALUES ('revision', ?)", (FIRST_REVISION,))
        self._revision: int
        (self._revision,) = self._db.execute("SELECT value FROM counters WHERE name='revision'").fetchone()
        self._opened_at = self._revision
        for kind, namespace, name, body in self._db.execute(
            "SELECT kind, namespace, name, body FROM objects"
        ):
            self._shelf(kind).set((namespace, name), json.loads(body))

    @property
    def revision(self) -> int:
        """Number of the last write."""
        return self._revision

    def close(self) -> None:
        self._db.close()

    def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        return self._shelf(kind).objects.get((namespace, name))

    def items(self, kind: str, namespace: str = "") -> list[Manifest]:
        """Objects of a kind in order of namespace and name; of one namespace when given."""
        shelf = self._shelf(kind)
        keys = shelf.keys
        if namespace:
            keys = keys[
                bisect.bisect_left(keys, (namespace, "")) : bisect.bisect_left(keys, (namespace + "\0", ""))
            ]
        return [shelf.objects[key] for key in keys]

    def items_at(self, kind: str, namespace: str, revision: int) -> list[Manifest]:
        """What `items` gave at an earlier revision.

        Raises:
            StatusError: 410 Expired when the history does not reach back so far.
        """
        shelf = self._shelf(kind)
        past = dict(shelf.objects)
        for entry in reversed(self.since(kind, revision)):
            change = entry.change
            key = _key(change.obj)
            if change.old is None:
                del past[key]
            else:
                past[key] = change.old
        return [past[key] for key in sorted(past) if not namespace or key[0] == namespace]

    def since(self, kind: str, revision: int) -> list[Entry]:
        """Changes of a kind after `revision`.

        Raises:
            StatusError: 410 Expired when the history does not reach back so far.
        """
        shelf = self._shelf(kind)
        if revision < shelf.floor:
            raise StatusError(410, "Expired", f"too old resource version: {revision} ({shelf.floor})")
        newer: list[Entry] = []
        for entry in reversed(shelf.history):
            if entry.revision <= revision:
                break
            newer.append(entry)
        newer.reverse()
        return newer

    def subscribe(self, kinds: Iterable[str], *, limit: int = 0) -> Subscription:
        """Changes of these kinds from now on. `limit` bounds what may wait unread; 0 is no bound."""
        subscription = Subscription(limit)
        for kind in kinds:
            self._shelf(kind).subscribers.add(subscription)
        return subscription

    def put(self, kind: str, obj: Manifest) -> Manifest:
        """Create or replace an object; sets its resourceVersion and keeps `obj` itself.

        Raises:
            StatusError: 500 InternalError when it cannot be written; nothing has changed then.
        """
        key = _key(obj)
        shelf = self._shelf(kind)
        old = shelf.objects.get(key)
        revision = self._revision + 1
        obj["metadata"]["resourceVersion"] = str(revision)
        self._write(
            revision,
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)",
            (kind, *key, json.dumps(obj, separators=(",", ":"))),
        )
        shelf.set(key, obj)
        shelf.record(Entry(revision, Change("MODIFIED" if old else "ADDED", kind, obj, old)))
        return obj

    def remove(self, kind: str, obj: Manifest) -> Manifest:
        """Delete an object; returns it as last seen, with the version of its deletion.

        Args:
            kind: Kubernetes kind.
            obj: The last state that watchers see; its namespace and name say what to delete.

        Raises:
            StatusError: 500 InternalError when it cannot be written; nothing has changed then.
        """
        key = _key(obj)
        shelf = self._shelf(kind)
        revision = self._revision + 1
        self._write(revision, "DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", (kind, *key))
        last = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
        old = shelf.objects[key]
        shelf.drop(key)
        shelf.record(Entry(revision, Change("DELETED", kind, last, old)))
        return last

    def _shelf(self, kind: str) -> _Shelf:
        shelf = self._shelves.get(kind)
        if shelf is None:
            shelf = self._shelves[kind] = _Shelf(self._opened_at)
        return shelf

    def _write(self, revision: int, statement: str, parameters: tuple[str, ...]) -> None:
        try:
            with self._db:
                self._db.execute(statement, parameters)
                self._db.execute("UPDATE counters SET value=? WHERE name='revision'", (revision,))
        except sqlite3.Error as exc:
            with contextlib.suppress(sqlite3.Error):  # the transaction is over already
                self._db.rollback()
            raise StatusError(
                500,
                "InternalError",
                f"Internal error occurred: the store `{self._path}` cannot be written: {exc}",
            ) from exc
        self._revision = revision


def _key(obj: Manifest) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]
