"""What `call()` asks the cluster while the gateway refuses: is there hope, and how new is the group to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ChalkError, NotFoundError
from chalkcompute.manifests.pods import condition
from chalkcompute.manifests.record import Record
from chalkcompute.manifests.times import parse_time
from chalkcompute.service.read import get_group
from chalkcompute.service.scope import Scope, World
from chalkcompute.types import Manifest, Status

__all__ = ["YOUTH", "is_asleep", "is_hopeless", "youth_left"]

YOUTH = 15.0
"""Seconds that a gateway is given to learn of a route and of its replicas."""


def is_hopeless(cluster: Cluster, scope: Scope, name: str, *, world: World) -> bool:
    """Whether waiting for a replica of the group is in vain: it is Failed, being deleted, or gone."""
    try:
        return get_group(cluster, scope, name, world=world).status in (Status.FAILED, Status.DELETING)
    except NotFoundError:
        return True
    except ChalkError:
        return False  # the cluster does not tell; the gateway may recover all the same


def is_asleep(cluster: Cluster, record: Record) -> bool:
    """Whether a request to the group waits for its first replica. One request, of groups that may sleep."""
    if record.spec.min_replicas > 0:
        return False
    try:
        status = cluster.get("Deployment", record.name, record.namespace).get("status") or {}
    except ChalkError:
        return False  # it is gone, or the cluster does not tell: the request finds out
    return not status.get("readyReplicas")


def youth_left(cluster: Cluster, record: Record, *, world: World) -> float:
    """Seconds for which the gateway may still be catching up with the group, 0 for one that has long served.

    They count from the last of: the deploy, the route accepted (which speaks of the control plane only), the
    group available (from then on its replicas are endpoints). Two requests.
    """
    changes = [record.updated_at]
    with contextlib.suppress(ChalkError):
        changes += _turned_true(cluster.get("Deployment", record.name, record.namespace), "Available")
    with contextlib.suppress(ChalkError):
        route = cluster.get("HTTPRoute", record.name, record.namespace)
        for parent in (route.get("status") or {}).get("parents") or ():
            changes += _turned_true({"status": parent}, "Accepted")
    # Clocks differ: a change that lies ahead is as far from now as one behind.
    return max(0.0, YOUTH - abs((world.now() - max(changes)).total_seconds()))


def _turned_true(obj: Manifest, kind: str) -> Iterator[datetime]:
    found = condition(obj, kind)
    when = parse_time(found.get("lastTransitionTime"))
    if found.get("status") == "True" and when is not None:
        yield when
