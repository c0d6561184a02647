from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.errors import LocalClusterError
from chalkcompute.local.api import store as store_module
from chalkcompute.local.api.store import FIRST_REVISION, Store
from chalkcompute.local.apimachinery.status import StatusError


def config_map(name: str, namespace: str = "ns", **data: str) -> dict[str, Any]:
    return {"kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def test_one_counter_numbers_all_kinds(store: Store) -> None:
    first = store.put("ConfigMap", config_map("a"))
    second = store.put("Secret", {"kind": "Secret", "metadata": {"name": "a", "namespace": "ns"}})
    assert first["metadata"]["resourceVersion"] == str(FIRST_REVISION + 1)
    assert second["metadata"]["resourceVersion"] == str(FIRST_REVISION + 2)
    assert store.revision == FIRST_REVISION + 2


def test_items_come_in_order_and_by_namespace(store: Store) -> None:
    for namespace, name in [("b", "x"), ("a", "z"), ("ab", "m"), ("a", "c")]:
        store.put("ConfigMap", config_map(name, namespace))
    placed = [(o["metadata"]["namespace"], o["metadata"]["name"]) for o in store.items("ConfigMap")]
    assert placed == [("a", "c"), ("a", "z"), ("ab", "m"), ("b", "x")]
    assert [o["metadata"]["name"] for o in store.items("ConfigMap", "a")] == ["c", "z"]


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    store.put("ConfigMap", config_map("a", k="1"))
    store.remove("ConfigMap", store.put("ConfigMap", config_map("b")))
    revision = store.revision
    store.close()
    again = Store(path)
    assert [o["metadata"]["name"] for o in again.items("ConfigMap")] == ["a"]
    assert again.get("ConfigMap", "ns", "a") == config_map("a", k="1") | {
        "metadata": {"name": "a", "namespace": "ns", "resourceVersion": str(FIRST_REVISION + 1)}
    }
    assert again.revision == revision
    again.close()


def test_what_was_answered_survives_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    program = (
        "import os, pathlib, signal, sys\n"
        "from chalkcompute.local.api.store import Store\n"
        "s = Store(pathlib.Path(sys.argv[1]))\n"
        "for i in range(50): s.put('ConfigMap', {'kind': 'ConfigMap', 'metadata': {'name': f'c{i}'}})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    store = Store(path)
    assert len(store.items("ConfigMap")) == 50
    assert store.revision == FIRST_REVISION + 50
    store.close()


def test_file_is_for_its_owner_only(tmp_path: Path) -> None:
    Store(tmp_path / "s.db").close()
    assert (tmp_path / "s.db").stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = Store(path)
    store.put("ConfigMap", config_map("a", k="1"))
    kept = store.get("ConfigMap", "ns", "a")
    revision = store.revision
    # As good as a full disk: SQLite may not take another page.
    store._db.execute("PRAGMA max_page_count = 1")
    big = config_map("a", k="x" * 100_000)
    with pytest.raises(StatusError) as failure:
        store.put("ConfigMap", big)
    assert (failure.value.code, failure.value.reason) == (500, "InternalError")
    assert str(path) in failure.value.message
    assert store.get("ConfigMap", "ns", "a") is kept
    assert store.revision == revision
    assert store.since("ConfigMap", revision) == []
    store._db.execute("PRAGMA max_page_count = 1000000")
    store.put("ConfigMap", config_map("b"))
    assert store.revision == revision + 1
    store.close()


def test_a_read_only_file_refuses_writes(store: Store, tmp_path: Path) -> None:
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StatusError, match="cannot be written") as failure:
        store.put("ConfigMap", config_map("a"))
    assert failure.value.code == 500
    assert store.items("ConfigMap") == []


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to look at" * 40])
def test_a_file_that_is_no_store_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(LocalClusterError, match="cannot be opened") as failure:
        Store(path)
    assert str(path) in failure.value.message
    assert "chalk local reset" in (failure.value.hint or "")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match="No such file"):
        Store(tmp_path / "absent" / "s.db")


def test_history_gives_changes_with_what_was_before(store: Store) -> None:
    start = store.revision
    first = store.put("ConfigMap", config_map("a", k="1"))
    second = store.put("ConfigMap", config_map("a", k="2"))
    store.remove("ConfigMap", second)
    changes = [entry.change for entry in store.since("ConfigMap", start)]
    assert [c.type for c in changes] == ["ADDED", "MODIFIED", "DELETED"]
    assert [c.old for c in changes] == [None, first, second]
    assert changes[2].obj["metadata"]["resourceVersion"] == str(start + 3)
    assert store.since("ConfigMap", start + 3) == []


def test_history_that_is_gone_is_expired(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "HISTORY_PER_KIND", 3)
    start = store.revision
    for i in range(5):
        store.put("ConfigMap", config_map(f"c{i}"))
    with pytest.raises(StatusError) as failure:
        store.since("ConfigMap", start)
    assert (failure.value.code, failure.value.reason) == (410, "Expired")
    assert len(store.since("ConfigMap", start + 2)) == 3


def test_history_does_not_outlive_the_process(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.db")
    store.put("ConfigMap", config_map("a"))
    store.close()
    again = Store(tmp_path / "s.db")
    with pytest.raises(StatusError, match="too old"):
        again.since("ConfigMap", again.revision - 1)
    assert again.since("ConfigMap", again.revision) == []
    again.close()


def test_the_past_can_be_listed(store: Store) -> None:
    store.put("ConfigMap", config_map("a", k="1"))
    gone = store.put("ConfigMap", config_map("b"))
    then = store.revision
    store.put("ConfigMap", config_map("a", k="2"))
    store.remove("ConfigMap", gone)
    store.put("ConfigMap", config_map("c"))
    past = store.items_at("ConfigMap", "ns", then)
    assert [(o["metadata"]["name"], o["data"]) for o in past] == [("a", {"k": "1"}), ("b", {})]
    assert store.items_at("ConfigMap", "other", then) == []


def test_a_reader_that_falls_behind_is_told(store: Store) -> None:
    subscription = store.subscribe(["ConfigMap"], limit=2)
    for i in range(3):
        store.put("ConfigMap", config_map(f"c{i}"))
    entries = asyncio.run(subscription.next())
    assert [e.change.obj["metadata"]["name"] for e in entries] == ["c0", "c1"]
    assert subscription.overflowed


def test_a_finished_subscription_returns(store: Store) -> None:
    subscription = store.subscribe(["ConfigMap"])
    subscription.finish()
    assert asyncio.run(subscription.next()) == []


def test_only_its_kinds_reach_a_subscriber(store: Store) -> None:
    subscription = store.subscribe(["Secret"])
    store.put("ConfigMap", config_map("a"))
    store.put("Secret", {"kind": "Secret", "metadata": {"name": "s", "namespace": "ns"}})
    assert [e.change.kind for e in asyncio.run(subscription.next())] == ["Secret"]


def test_the_file_is_plain_sqlite(store: Store, tmp_path: Path) -> None:
    store.put("ConfigMap", config_map("a", k="1"))
    reader = sqlite3.connect(tmp_path / "store.db")
    rows = reader.execute("SELECT kind, namespace, name FROM objects").fetchall()
    reader.close()
    assert rows == [("ConfigMap", "ns", "a")]
