"""A client of the command line's Protocol that keeps groups in memory; failures are data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from chalk_cli.context import Client
from chalkcompute import Content, Image, ScalingGroupSpec, Secret, UsageReport
from chalkcompute.errors import ConflictError, NotFoundError
from chalkcompute.secret import resolve
from chalkcompute.types import (
    Action,
    DeleteResult,
    DeployResult,
    ListScalingGroupsResponse,
    Manifest,
    OnProgress,
    Progress,
    ReplicaCounts,
    ScalingGroupInfo,
    Status,
    Target,
)

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)


def a_group(name: str = "inference", **changes: Any) -> ScalingGroupInfo:
    """A group that is available; `changes` are fields of `ScalingGroupInfo`."""
    group = ScalingGroupInfo(
        id=f"00000000-0000-4000-8000-{sum(name.encode()):012d}",
        name=name,
        environment="abc123",
        namespace="abc123",
        status=Status.AVAILABLE,
        status_message=None,
        revision=1,
        image="my-registry/my-inference-server:v1",
        port=8080,
        replicas=ReplicaCounts(desired=3, ready=3, available=3, min=3, max=3),
        web_url=f"https://abc123-{name}.gw.chalk.ai",
        tags={"team": "ml"},
        created_at=NOW,
        updated_at=NOW,
    )
    return dataclasses.replace(group, **changes)


class MemoryClient:
    """Groups in a dict.

    Attributes:
        groups: Live groups by name.
        deleted: Groups that were deleted.
        settings: Keywords of every client that was made.
        fail: Verb to the exception that it raises.
        specs: Every spec that was applied or rendered.
        images: The `Image` of each, or None.
        contents: What went with each.
        environ: The environment that `Secret.from_env` reads.
        reports: What is used and served, one for each look; the last stays.
    """

    def __init__(self) -> None:
        self.groups: dict[str, ScalingGroupInfo] = {}
        self.deleted: list[ScalingGroupInfo] = []
        self.settings: list[dict[str, Any]] = []
        self.fail: dict[str, BaseException] = {}
        self.specs: list[ScalingGroupSpec] = []
        self.images: list[Image | None] = []
        self.contents: list[Content | None] = []
        self.environ: dict[str, str] = {}
        self.reports: list[UsageReport] = [UsageReport(NOW, "abc123")]
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def connect(self, **settings: Any) -> MemoryClient:
        self.settings.append(settings)
        return self

    def _called(self, verb: str, **arguments: Any) -> None:
        self.calls.append((verb, arguments))
        if verb in self.fail:
            raise self.fail[verb]

    def target(self) -> Target:
        self._called("target")
        return Target(server="https://10.0.0.1:6443", context="kind-dev", namespace="abc123")

    def list_scaling_groups(
        self, *, include_deleted: bool = False, tags: Mapping[str, str] | None = None
    ) -> ListScalingGroupsResponse:
        self._called("list", include_deleted=include_deleted, tags=tags)
        groups = sorted(self.groups.values(), key=lambda group: group.name)
        wanted = set((tags or {}).items())
        found = [*groups, *self.deleted] if include_deleted else groups
        return ListScalingGroupsResponse(tuple(g for g in found if wanted <= set(g.tags.items())))

    def get_scaling_group(self, name: str | None = None, *, id: str | None = None) -> ScalingGroupInfo:  # noqa: A002
        self._called("get", name=name, id=id)
        for group in self.groups.values():
            if group.name == name or group.id == id:
                return group
        raise NotFoundError(
            f"scaling group `{name or id}` not found in namespace `abc123`",
            hint="list what exists with `chalk scaling-group list`",
        )

    def scaling_group_usage(self, name: str | None = None) -> UsageReport:
        self._called("usage", name=name)
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    def read_secrets(self, secrets: Sequence[Secret], *, names_only: bool = False) -> Content:
        return resolve(secrets, self.environ, names_only=names_only)

    def create_scaling_group(
        self,
        spec: ScalingGroupSpec,
        *,
        image: Image | None = None,
        content: Content | None = None,
        update: bool = True,
        dry_run: bool = False,
        wait_timeout: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> DeployResult:
        self._called("create", update=update, dry_run=dry_run, wait_timeout=wait_timeout)
        self.specs.append(spec)
        self.images.append(image)
        self.contents.append(content)
        if on_progress is not None:
            on_progress(Progress("applying", "Deployment"))
        before = self.groups.get(spec.name)
        if before is not None and not update:
            raise ConflictError(f"scaling group `{spec.name}` exists")
        info = a_group(
            spec.name,
            status=Status.PENDING,
            image=spec.image,
            port=spec.port,
            tags=dict(spec.tags),
            spec=spec.to_dict(),
            replicas=ReplicaCounts(spec.min_replicas, 0, 0, spec.min_replicas, spec.max_replicas),
            revision=1 if before is None else before.revision + 1,
        )
        warnings = ("10 % CPU target without --cpu",) if spec.target_cpu_utilization_percentage == 10 else ()
        if before is None:
            result = DeployResult(Action.CREATED, info, warnings=warnings)
        else:
            changes = spec.changes(ScalingGroupSpec.from_dict(dict(before.spec)))
            if not changes:
                return DeployResult(Action.UNCHANGED, before, before.revision)
            result = DeployResult(Action.UPDATED, info, before.revision, changes, warnings)
        if not dry_run:
            self.groups[spec.name] = info
        return result

    def wait_scaling_group(
        self,
        name: str,
        *,
        timeout: float = 300,
        on_progress: OnProgress | None = None,
        deployed: ScalingGroupInfo | None = None,
    ) -> ScalingGroupInfo:
        self._called("wait", name=name, timeout=timeout)
        group = self.groups[name]
        wanted = group.replicas.min
        if on_progress is not None:
            on_progress(Progress("starting", "waiting for replicas", 0, wanted, 0.5))
            on_progress(Progress("ready", "every replica is ready", wanted, wanted, 2.25))
        counts = ReplicaCounts(wanted, wanted, wanted, wanted, group.replicas.max)
        self.groups[name] = dataclasses.replace(group, status=Status.AVAILABLE, replicas=counts)
        return self.groups[name]

    def delete_scaling_group(
        self,
        name: str | None = None,
        *,
        id: str | None = None,  # noqa: A002
        timeout: float = 120,
        on_progress: OnProgress | None = None,
    ) -> DeleteResult:
        group = self.get_scaling_group(name, id=id)
        self._called("delete", name=name, id=id, timeout=timeout)
        del self.groups[group.name]
        self.deleted.append(dataclasses.replace(group, status=Status.DELETED, deleted_at=NOW))
        if on_progress is not None:
            on_progress(Progress("deleting", "1 object left", elapsed=0.1))
        return DeleteResult(
            id=group.id,
            name=group.name,
            removed=(f"HTTPRoute/{group.name}", f"Deployment/{group.name}"),
            kept=(f"ConfigMap/chalk-sg-hist-{group.id}: history",),
        )

    def render_manifests(
        self, spec: ScalingGroupSpec, *, image: Image | None = None, content: Content | None = None
    ) -> tuple[Manifest, ...]:
        self._called("manifests")
        self.specs.append(spec)
        self.images.append(image)
        self.contents.append(content)
        labels = {"chalk.ai/scaling-group": spec.name}
        return (
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": spec.name, "labels": labels}},
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": spec.name, "labels": labels},
                "spec": {"env": dict(spec.env)},
            },
        )


_: type[Client] = MemoryClient
