"""One readable default of each object that controllers see."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.store import Store
from chalkcompute.local.ports import Api

Manifest = dict[str, Any]

START = datetime(2026, 11, 23, 11, 22, 0, tzinfo=UTC)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _meta(kind: str, name: str, **extra: Any) -> Manifest:
    meta = {
        "name": name,
        "namespace": "default",
        "uid": f"{kind.lower()}-{name}",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": "2026-11-23T11:21:59Z",
    }
    return {**meta, **extra}


def make_deployment(replicas: int = 2, *, version: str = "1", **spec: Any) -> Manifest:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [{"name": "app", "image": "python:3.12", "env": [{"name": "V", "value": version}]}]
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta("Deployment", "web", labels={"app": "web"}),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
            },
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            **spec,
        },
        "status": {},
    }


def make_replica_set(name: str, replicas: int = 2, *, available: int = 0, **meta: Any) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": _meta("ReplicaSet", name, **meta),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web", "pod-template-hash": "h"}},
            "template": {
                "metadata": {"labels": {"app": "web", "pod-template-hash": "h"}},
                "spec": {"containers": [{"name": "app", "image": "python:3.12"}]},
            },
        },
        "status": {
            "replicas": replicas,
            "readyReplicas": available,
            "availableReplicas": available,
            "terminatingReplicas": 0,
            "observedGeneration": 1,
        },
    }


def make_pod(
    name: str,
    *,
    phase: str = "Running",
    ready: bool = True,
    node: str = "node1",
    owner: Manifest | None = None,
    ready_since: str = "2026-11-23T11:22:00Z",
    **meta: Any,
) -> Manifest:
    metadata = _meta("Pod", name, labels={"app": "web", "pod-template-hash": "h"}, **meta)
    if owner is not None:
        metadata["ownerReferences"] = [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": ready_since}
    pod: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "app", "image": "python:3.12"}]},
        "status": {"phase": phase, "conditions": [condition], "podIP": "127.77.0.1"},
    }
    if node:
        pod["spec"]["nodeName"] = node
    return pod


@pytest.fixture
def deployment() -> Callable[..., Manifest]:
    return make_deployment


@pytest.fixture
def replica_set() -> Callable[..., Manifest]:
    return make_replica_set


@pytest.fixture
def pod() -> Callable[..., Manifest]:
    return make_pod


@pytest.fixture
def api(tmp_path: Path, clock: Clock) -> Iterator[Api]:
    """The real API server from the inside, on an empty store."""
    with contextlib.closing(Store(tmp_path / "store.db")) as store:
        yield ResourceApi(store, now=clock)
