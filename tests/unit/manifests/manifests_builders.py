"""One readable default of each value, and hypothesis strategies for whole specs and placements."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from chalkcompute.manifests.live import LiveGroup
from chalkcompute.manifests.placement import Gateway, Owner, Placement, PortHistory
from chalkcompute.manifests.record import Record
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.mounts import VolumeMount
from chalkcompute.spec.probes import ReadinessProbe
from chalkcompute.spec.secrets import SecretRef

DATA = Path(__file__).parent / "data"
GROUP_ID = "6f1c9a2e-3b54-4f0e-9d55-2f7f3f0f8a11"
NOW = datetime(2026, 11, 23, 11, 30, tzinfo=UTC)


def a_spec(**changes: Any) -> ScalingGroupSpec:
    return ScalingGroupSpec(**{"name": "inference", "image": "my-registry/my-inference-server:v1", **changes})


def a_gateway(**changes: Any) -> Gateway:
    return Gateway(
        **{
            "name": "gw",
            "namespace": "infra",
            "section_name": "https",
            "domain": "gw.chalk.ai",
            "request_timeout": True,
            **changes,
        }
    )


def a_placement(**changes: Any) -> Placement:
    return Placement(
        **{
            "namespace": "ml",
            "environment": "abc123",
            "group_id": GROUP_ID,
            "revision": 1,
            "gateway": a_gateway(),
            "owner": Owner("chalk-sg-inference", "0c6e8a52-6f4c-4d7f-8c63-8f1f5b6f1c22"),
            **changes,
        }
    )


def a_record(spec: ScalingGroupSpec | None = None, **changes: Any) -> Record:
    spec = spec or a_spec()
    return Record(
        **{
            "id": GROUP_ID,
            "name": spec.name,
            "environment": "abc123",
            "namespace": "ml",
            "revision": 1,
            "spec": spec,
            "gateway": a_gateway(),
            "created_at": NOW - timedelta(minutes=10),
            "updated_at": NOW - timedelta(minutes=10),
            "uid": "0c6e8a52-6f4c-4d7f-8c63-8f1f5b6f1c22",
            "resource_version": "17",
            **changes,
        }
    )


def excerpt(name: str) -> Any:
    """An object as a real Kubernetes 1.36.2 answered it."""
    return json.loads((DATA / f"{name}.json").read_text())


def in_group(pod: dict[str, Any]) -> dict[str, Any]:
    """A recorded object as if it were one of our group."""
    labels = {**pod["metadata"].get("labels", {}), "chalk.ai/scaling-group-id": GROUP_ID}
    return {**pod, "metadata": {**pod["metadata"], "labels": labels}}


def a_deployment(
    *,
    replicas: int = 1,
    ready: int = 0,
    updated: int | None = None,
    total: int | None = None,
    conditions: tuple[dict[str, Any], ...] = (),
    revision: int = 1,
    **changes: Any,
) -> dict[str, Any]:
    updated = replicas if updated is None else updated
    return {
        "metadata": {
            "name": "inference",
            "namespace": "ml",
            "uid": "d-uid",
            "generation": 1,
            "labels": {"chalk.ai/scaling-group-id": GROUP_ID},
            "annotations": {"chalk.ai/revision": str(revision), "deployment.kubernetes.io/revision": "2"},
            **changes,
        },
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "template": {"metadata": {}, "spec": {}},
        },
        "status": {
            "observedGeneration": 1,
            "replicas": updated if total is None else total,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "conditions": list(conditions),
        },
    }


def a_route(*conditions: dict[str, Any], generation: int = 1, **parent: Any) -> dict[str, Any]:
    ref = {"name": "gw", "namespace": "infra", "sectionName": "https", **parent}
    parents = (
        [{"parentRef": ref, "controllerName": "x/y", "conditions": list(conditions)}] if conditions else []
    )
    return {
        "metadata": {
            "name": "inference",
            "namespace": "ml",
            "generation": generation,
            "creationTimestamp": "2026-11-23T11:20:00Z",
        },
        "status": {"parents": parents},
    }


def a_condition(kind: str, status: str = "True", reason: str = "", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason or kind,
        "message": "",
        "lastTransitionTime": "2026-11-23T11:20:00Z",
        **more,
    }


ACCEPTED = (a_condition("Accepted"), a_condition("ResolvedRefs"))


def a_live(spec: ScalingGroupSpec | None = None, **changes: Any) -> LiveGroup:
    record = changes.pop("record", None) or a_record(spec)
    return LiveGroup(
        **{"record": record, "deployment": a_deployment(), "route": a_route(*ACCEPTED), **changes}
    )


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
_SECONDS = st.integers(1, 3600)


@st.composite
def probes(draw: st.DrawFn) -> ReadinessProbe:
    timing = {
        "period_seconds": draw(_SECONDS),
        "timeout_seconds": draw(_SECONDS),
        "failure_threshold": draw(st.integers(1, 1000)),
    }
    kind = draw(st.sampled_from(["http", "tcp", "grpc"]))
    if kind == "http":
        return ReadinessProbe.http(draw(st.from_regex(r"/[a-z/?=.]{0,10}", fullmatch=True)), **timing)
    return ReadinessProbe.tcp(**timing) if kind == "tcp" else ReadinessProbe.grpc(draw(_TEXT), **timing)


@st.composite
def specs(draw: st.DrawFn) -> ScalingGroupSpec:
    """Any spec that can be."""
    low = draw(st.integers(0, 5))
    key = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,57}[A-Za-z0-9])?", fullmatch=True)
    value = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", fullmatch=True)
    return ScalingGroupSpec(
        name=draw(st.from_regex(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?", fullmatch=True)),
        image=draw(st.sampled_from(["python:3.12", "ghcr.io/a/b@sha256:" + "a" * 64, "localhost:5000/x"])),
        port=draw(st.integers(1, 65535)),
        min_replicas=low,
        max_replicas=draw(st.integers(max(low, 1), 9)),
        target_cpu_utilization_percentage=draw(st.none() | st.integers(1, 100)),
        scaling_interval_seconds=draw(st.none() | st.integers(1, 1800)),
        shutdown_delay_seconds=draw(st.none() | st.integers(0, 3600)),
        startup_timeout_seconds=draw(st.none() | st.integers(1, 21600)),
        idle_timeout_seconds=draw(st.none() | st.integers(1, 86400)) if low == 0 else None,
        cpu=draw(st.none() | st.integers(1, 10**6).map(lambda n: f"{n}m")),
        memory=draw(st.none() | st.integers(4, 10**6).map(lambda n: f"{n}Mi")),
        gpu=draw(st.sampled_from([None, "1", "4", "nvidia-l4:1", "nvidia-tesla-a100:8"])),
        env=draw(
            st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True), _TEXT, max_size=3)
        ),
        tags=draw(st.dictionaries(key, value, max_size=3)),
        entrypoint=draw(st.none() | st.lists(_TEXT.filter(bool), min_size=1, max_size=4).map(tuple)),
        readiness_probe=draw(st.none() | probes()),
        args=draw(st.none() | st.lists(_TEXT, max_size=3).map(tuple)),
        working_dir=draw(st.sampled_from([None, "/", "/srv"])),
        secrets=draw(st.sampled_from([(), (SecretRef("LONGER_THAN_TEN", "db", "k", "7"),)])),
        volumes=draw(st.sampled_from([(), (VolumeMount("a", "/a"), VolumeMount("b", "/b", read_only=True))])),
    )


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    """Any place a group can go."""
    return a_placement(
        environment=draw(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)),
        revision=draw(st.integers(1, 10**6)),
        owner=draw(st.sampled_from([None, Owner("chalk-sg-x", "u")])),
        ports=draw(
            st.sampled_from([PortHistory(), PortHistory(first=7), PortHistory(first=7, previous=(9, 7))])
        ),
        gateway=a_gateway(
            request_timeout=draw(st.booleans()),
            scheme=draw(st.sampled_from(["http", "https"])),
            port=draw(st.sampled_from([80, 443, 8443])),
        ),
    )
