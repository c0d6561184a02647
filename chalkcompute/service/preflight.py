"""What the server itself says before anything is changed: its dry run."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    ApiError,
    ChalkError,
    ForbiddenError,
    InvalidObjectError,
)
from chalkcompute.manifests.causes_cluster import refused_pods
from chalkcompute.service import grants
from chalkcompute.service.ownership import is_shared
from chalkcompute.types import Cause, Manifest, Verdict

__all__ = ["DryRun", "dry_run", "dry_run_pod"]

_NO_UID = "00000000-0000-0000-0000-000000000000"
# What admission says until the controllers have seen to a new namespace or quota (plugin/pkg/admission:
# serviceaccount, resourcequota). A Deployment gets over it by itself.
_PASSING = re.compile(r"error looking up service account|status unknown for quota")
_PASSING_TRIES = 3
_PASSING_SECONDS = 1.0


@dataclass(slots=True)
class DryRun:
    """What the server said to each object.

    Attributes:
        results: The objects as they would be, by `Kind/name`.
        created: `Kind/name` of those that do not exist yet.
        withheld: `Kind/name` of those that we may not apply, and that others have seen to or will.
        warnings: `Warning` headers, and what could not be checked.
    """

    results: dict[str, Manifest] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    withheld: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)


def dry_run(
    cluster: Cluster, manifests: Sequence[Manifest], *, skip: Set[str], early: Set[str] = frozenset()
) -> DryRun:
    """Apply every object with `dryRun=All`.

    Args:
        cluster: The cluster.
        manifests: The objects.
        skip: `Kind/name` of those to leave out.
        early: `Kind/name` of those that a webhook may refuse for what goes before they are applied: only
            whether we may write them is asked.

    Raises:
        InvalidObjectError: The server refuses an object.
        ForbiddenError: The credential may not write it, or admission refuses it. Of a grant in another
            namespace only if there is none that would do.
    """
    found = DryRun()
    for manifest in manifests:
        key = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if key in skip:
            continue
        try:
            applied = cluster.apply(manifest, dry_run=True)
        except ForbiddenError as error:
            if key in early and _is_denied(error):
                continue
            if not is_shared(manifest):
                raise
            found.warnings += grants.check(cluster, manifest, error)
            found.withheld.add(key)
            continue
        except InvalidObjectError as error:
            if not _is_dry_run_refusal(error):
                raise
            found.warnings.append(f"{key} could not be checked in advance: {error.message}")
            continue
        found.results[key] = applied.obj
        if applied.created:
            found.created.add(key)
        found.warnings += applied.warnings
    return found


def dry_run_pod(
    cluster: Cluster, deployment: Manifest, *, exists: bool, sleep: Callable[[float], None]
) -> tuple[tuple[str, ...], Verdict | None]:
    """Ask at once for what a Deployment shows only later: may such a pod be, by policy and quota?

    Args:
        cluster: The cluster.
        deployment: The rendered Deployment.
        exists: It exists already; its own pods then use up quota, so that a refusal over quota may be
            a false alarm and becomes a warning.
        sleep: Wait that many seconds: a namespace that was only just made is not ready for pods yet.

    Returns:
        Warnings, and the verdict that no such pod may be, or None.

    Raises:
        InvalidObjectError: The pod cannot be.
    """
    template = deployment["spec"]["template"]
    meta = deployment["metadata"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": f"{meta['name']}-preflight",
            "namespace": meta["namespace"],
            # As the real ones will be: many a policy refuses pods that nothing looks after.
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "ReplicaSet",
                    "name": f"{meta['name']}-preflight",
                    "uid": _NO_UID,
                    "controller": True,
                }
            ],
        },
        "spec": template["spec"],
    }
    try:
        _create_patiently(cluster, pod, sleep)
    except (ForbiddenError, InvalidObjectError) as error:
        if _is_dry_run_refusal(error) or _PASSING.search(error.message):
            return (f"the pods could not be checked in advance: {error.message}",), None
        if not _is_by_admission(error):
            if isinstance(error, InvalidObjectError):
                raise
            return (), None  # no right to create pods, which a deploy does not need
        verdict = refused_pods(error.message, reason=error.reason, terminal=True)
        if exists and verdict.cause is Cause.QUOTA_EXCEEDED:
            return (f"a rollout may not fit the quota: {error.message}",), None
        return (), verdict
    except ChalkError as error:
        return (f"the pods could not be checked in advance: {error.message}",), None
    return (), None


def _create_patiently(cluster: Cluster, pod: Manifest, sleep: Callable[[float], None]) -> None:
    for _ in range(_PASSING_TRIES):
        try:
            cluster.create(pod, dry_run=True)
        except ForbiddenError as error:
            if not _PASSING.search(error.message):
                raise
            sleep(_PASSING_SECONDS)
        else:
            return
    cluster.create(pod, dry_run=True)


def _is_by_admission(error: ApiError) -> bool:
    """Whether admission refuses the pod, rather than the authorizer the request or validation the object.

    The authorizer refuses before there is an object, so it names none. Built-in admission names the pod;
    webhooks and policies have their fixed words, with whatever code they were given.
    """
    if _is_denied(error):
        return True
    return isinstance(error, ForbiddenError) and bool(error.details.get("name"))


def _is_denied(error: ApiError) -> bool:
    """Whether a webhook or a policy refuses what the authorizer has let through."""
    return re.search(r"denied (the )?request", error.message) is not None


def _is_dry_run_refusal(error: ApiError) -> bool:
    """Whether a webhook with side effects refuses every dry run (400 BadRequest, no causes)."""
    return error.status == 400 and "dry run" in error.message.replace("-", " ")
