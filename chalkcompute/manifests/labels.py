"""Every label, annotation, object name and field manager that this project writes, each once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = [
    "CA_ANNOTATION",
    "CONTENT",
    "CONTENT_ENV",
    "CONTENT_FILES",
    "ENVIRONMENT",
    "ENVIRONMENT_ANNOTATION",
    "FIELD_MANAGER",
    "GATEWAY_ANNOTATION",
    "GROUP",
    "GROUP_ID",
    "MANAGED_BY",
    "MANAGED_BY_CHALK",
    "NOTE_ANNOTATION",
    "OUTCOME_ANNOTATION",
    "OUTCOME_MANAGER",
    "POST_MORTEM_ANNOTATION",
    "RECORD",
    "RECORD_GROUP",
    "RECORD_REVISION",
    "REGISTRY_ANNOTATION",
    "REPLICAS_MANAGER",
    "REVISION",
    "REVISION_ANNOTATION",
    "SALT_ANNOTATION",
    "SECRETS_ANNOTATION",
    "STATE",
    "STATE_ACTIVE",
    "STATE_DELETED",
    "STATE_DELETING",
    "SUBSTITUTED_ANNOTATION",
    "TAG_PREFIX",
    "active_records",
    "contents_named",
    "deleted_records",
    "grant_name",
    "group_id_of",
    "group_labels",
    "is_owned_by",
    "managed",
    "objects_of",
    "pod_labels",
    "record_name",
    "records",
    "records_named",
    "revision_name",
    "revisions_of",
    "selector",
    "shared_labels",
    "tag_labels",
    "tombstone_name",
    "vip_name",
]

FIELD_MANAGER = "chalk"
REPLICAS_MANAGER = "chalk-replicas"
"""Holds `spec.replicas` of a Deployment while it passes from us to an autoscaler."""
OUTCOME_MANAGER = "chalk-outcome"
"""Writes on a record how the wait for its revision ended, which is no deploy."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGED_BY_CHALK = "chalk"
GROUP = "chalk.ai/scaling-group"
GROUP_ID = "chalk.ai/scaling-group-id"
ENVIRONMENT = "chalk.ai/environment"
TAG_PREFIX = "chalk.ai/tag-"

RECORD = "chalk.ai/record"
RECORD_GROUP = "scaling-group"
RECORD_REVISION = "revision"
REVISION = "chalk.ai/revision"
CONTENT = "chalk.ai/content"
"""On what holds the values of secrets, or local files, of a group: which of the two."""
CONTENT_ENV = "env"
CONTENT_FILES = "files"
STATE = "chalk.ai/state"
STATE_ACTIVE = "active"
STATE_DELETING = "deleting"
STATE_DELETED = "deleted"

ENVIRONMENT_ANNOTATION = "chalk.ai/environment-id"
GATEWAY_ANNOTATION = "chalk.ai/gateway"
REGISTRY_ANNOTATION = "chalk.ai/registry"
REVISION_ANNOTATION = "chalk.ai/revision"
SALT_ANNOTATION = "chalk.ai/salt"
"""On a Secret: the key of the hash in its name."""
SECRETS_ANNOTATION = "chalk.ai/secret-versions"
"""On the pods: the versions of Secrets that are not the group's own, so that a changed one rolls them."""
NOTE_ANNOTATION = "chalk.ai/note"
SUBSTITUTED_ANNOTATION = "chalk.ai/image-substituted"
"""On a Pod: its node runs something else in the place of the image, and what."""
CA_ANNOTATION = "chalk.ai/ca-certificate"
"""On a Gateway: the authority behind its certificate, PEM."""
OUTCOME_ANNOTATION = "chalk.ai/outcome"
POST_MORTEM_ANNOTATION = "chalk.ai/post-mortem"

_LIKE_DERIVED = re.compile(r"-r[0-9]+$|^hist-")


def record_name(name: str) -> str:
    """ConfigMap of the record of a group, which owns all its objects: `chalk-sg-<name>`.

    A group may itself be called `deepseek-r1`, as revision 1 of `deepseek` is, or `hist-…`, as tombstones
    are: its record is `chalk-sg.<name>`, with the `.` that no group's name can have.
    """
    return f"chalk-sg{'.' if _LIKE_DERIVED.search(name) else '-'}{name}"


def revision_name(name: str, revision: int) -> str:
    """ConfigMap of one revision."""
    return f"chalk-sg-{name}-r{revision}"


def tombstone_name(group_id: str) -> str:
    """ConfigMap that remembers a deleted group."""
    return f"chalk-sg-hist-{group_id}"


def vip_name(name: str) -> str:
    """ClusterIP Service beside the headless one, for KEDA's interceptor."""
    return f"{name}-vip"


def grant_name(namespace: str) -> str:
    """ReferenceGrant in KEDA's namespace, one for each of ours."""
    return f"chalk-{namespace}"


def tag_labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as labels."""
    return {f"{TAG_PREFIX}{key}": tags[key] for key in sorted(tags)}


def group_labels(*, name: str, group_id: str, environment: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Labels of every object of a group."""
    return {
        **shared_labels(environment),
        GROUP: name,
        GROUP_ID: group_id,
        **tag_labels(tags),
    }


def pod_labels(name: str, group_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Labels of the pods: what may change without a restart (the environment) is not among them."""
    return {MANAGED_BY: MANAGED_BY_CHALK, GROUP: name, GROUP_ID: group_id, **tag_labels(tags)}


def shared_labels(environment: str | None) -> dict[str, str]:
    """Labels of what all groups of an environment share; None where it is not known yet."""
    known = {ENVIRONMENT: environment} if environment is not None else {}
    return {MANAGED_BY: MANAGED_BY_CHALK, **known}


def selector(group_id: str) -> dict[str, str]:
    """What Deployment and Services select pods by.

    The id alone: it is unique to one incarnation, so a group made again never gets dying pods of the old one,
    and it never changes, which an immutable selector needs.
    """
    return {GROUP_ID: group_id}


def objects_of(group_id: str) -> str:
    """Label selector of every object of a group."""
    return f"{GROUP_ID}={group_id}"


def objects_of_any(group_ids: list[str]) -> str:
    """Label selector of every object of these groups."""
    return f"{GROUP_ID} in ({','.join(group_ids)})"


def managed() -> str:
    """Label selector of everything that chalk made."""
    return f"{MANAGED_BY}={MANAGED_BY_CHALK}"


def records() -> str:
    """Label selector of all records and tombstones."""
    return f"{RECORD}={RECORD_GROUP}"


def active_records() -> str:
    """Label selector of the records of groups that are not deleted."""
    return f"{RECORD}={RECORD_GROUP},{STATE}!={STATE_DELETED}"


def deleted_records() -> str:
    """Label selector of the tombstones."""
    return f"{RECORD}={RECORD_GROUP},{STATE}={STATE_DELETED}"


def records_named(name: str) -> str:
    """Label selector of the record and the tombstones of one name."""
    return f"{RECORD}={RECORD_GROUP},{GROUP}={name}"


def contents_named(name: str, content: str) -> str:
    """Label selector of what holds secrets, or files, of groups of one name."""
    return f"{CONTENT}={content},{GROUP}={name}"


def revisions_of(group_id: str) -> str:
    """Label selector of the revisions of a group."""
    return f"{RECORD}={RECORD_REVISION},{GROUP_ID}={group_id}"


def group_id_of(obj: Mapping[str, Any]) -> str | None:
    """The id of the group an object belongs to, or None."""
    labels = obj.get("metadata", {}).get("labels") or {}
    value = labels.get(GROUP_ID)
    return value if isinstance(value, str) else None


def is_owned_by(obj: Mapping[str, Any], group_id: str) -> bool:
    """Whether a live object is this group's, so that it may be changed or deleted."""
    return group_id_of(obj) == group_id
