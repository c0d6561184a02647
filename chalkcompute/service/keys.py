"""Secrets as the replicas get them: the group's own, by its values, and those of others, by their keys."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ForbiddenError, ObjectNotFoundError, SpecError
from chalkcompute.manifests import labels
from chalkcompute.manifests.secret import secret_name
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content
from chalkcompute.spec.environment import is_variable
from chalkcompute.spec.secrets import SecretRef, check_unique_variables
from chalkcompute.types import Manifest

__all__ = ["OwnSecret", "resolve"]


@dataclass(frozen=True, slots=True)
class OwnSecret:
    """The Secret that holds the values of a group.

    Attributes:
        name: Its name.
        salt: Key of the hash in its name.
        values: Variables to values.
    """

    name: str
    salt: str = field(repr=False)
    values: Mapping[str, str] = field(repr=False)


def resolve(
    cluster: Cluster,
    namespace: str,
    spec: ScalingGroupSpec,
    content: Content,
    *,
    group_id: str | None,
    new_salt: Callable[[], str],
) -> tuple[tuple[SecretRef, ...], OwnSecret | None]:
    """References to all that the replicas get, and the Secret of the group's own values, if it has any.

    Equal values keep the Secret that is there, so that they make no new revision.

    Raises:
        SpecError: A Secret or a key that the spec names is not there, or a variable is given twice.
        ForbiddenError: The credential may not see Secrets.
    """
    values = content.secret_values
    names = [*(ref.env for ref in spec.secrets), *values]
    check_unique_variables(names, spec.env)
    ours = re.compile(rf"{re.escape(spec.name)}-env-[0-9a-f]+")
    live: dict[str, Manifest] = {}
    if values or any(ours.fullmatch(ref.secret) for ref in spec.secrets):
        live = _own(cluster, namespace, spec.name, group_id)
    others: dict[str, _Foreign] = {}
    refs: list[SecretRef] = []
    for ref in spec.secrets:
        if ref.secret in live:
            refs.append(SecretRef(ref.env, ref.secret, ref.key))
            continue
        if ref.secret not in others:
            hint = _RECORDED if ours.fullmatch(ref.secret) else _FOREIGN
            others[ref.secret] = _foreign(cluster, namespace, ref.secret, hint)
        others[ref.secret].require(ref.key)
        refs.append(SecretRef(ref.env, ref.secret, ref.key, others[ref.secret].version))
    for name in content.whole_secrets:
        refs += _foreign(cluster, namespace, name, _FOREIGN).all()
    own = None
    if values:
        own = _matching(spec.name, live, values)
        if own is None:
            salt = new_salt()
            own = OwnSecret(secret_name(spec.name, values, salt), salt, values)
        refs += [SecretRef(variable, own.name, variable) for variable in values]
    return tuple(refs), own


_FOREIGN = "create it first (`kubectl create secret generic`), or correct the name"
_RECORDED = (
    "its values are not recorded: deploy from the description that has them, as `secrets` or with `--secret`"
)


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A Secret that is not the group's: what may be known of it."""

    name: str
    version: str
    keys: tuple[str, ...]

    def require(self, key: str) -> None:
        if key not in self.keys:
            raise SpecError(
                f"Secret `{self.name}` has no key `{key}`",
                field="secrets",
                hint=f"it has {', '.join(f'`{k}`' for k in self.keys)}" if self.keys else "it has none",
            )

    def all(self) -> list[SecretRef]:
        for key in self.keys:
            if not is_variable(key):
                raise SpecError(
                    f"the key `{key}` of Secret `{self.name}` cannot be the name of an environment variable",
                    field="secrets",
                    hint="name the keys that are wanted, each with an alias: "
                    f"`Secret.from_kubernetes({self.name!r}, {key!r}, alias=…)`",
                )
        return [SecretRef(key, self.name, key, self.version) for key in self.keys]


def _foreign(cluster: Cluster, namespace: str, name: str, hint: str) -> _Foreign:
    with _may_read(namespace):
        try:
            obj = cluster.get("Secret", name, namespace)
        except ObjectNotFoundError:
            raise SpecError(
                f"there is no Secret `{name}` in namespace `{namespace}`", field="secrets", hint=hint
            ) from None
    return _Foreign(name, obj["metadata"]["resourceVersion"], tuple(sorted(obj.get("data") or ())))


def _own(cluster: Cluster, namespace: str, name: str, group_id: str | None) -> dict[str, Manifest]:
    if group_id is None:
        return {}
    with _may_read(namespace):
        selector = labels.contents_named(name, labels.CONTENT_ENV)
        found = cluster.list("Secret", namespace, labels=selector, metadata_only=True)
    return {
        obj["metadata"]["name"]: obj
        for obj in found
        if labels.is_owned_by(obj, group_id) and not obj["metadata"].get("deletionTimestamp")
    }


def _matching(group: str, live: Mapping[str, Manifest], values: Mapping[str, str]) -> OwnSecret | None:
    for name, obj in sorted(live.items()):
        salt = (obj["metadata"].get("annotations") or {}).get(labels.SALT_ANNOTATION)
        if salt and secret_name(group, values, salt) == name:
            return OwnSecret(name, salt, values)
    return None


@contextlib.contextmanager
def _may_read(namespace: str) -> Iterator[None]:
    try:
        yield
    except ForbiddenError as error:
        error.hint = (
            "a group with secrets needs the verbs get, list, create, patch and delete on `secrets` in "
            f"namespace `{namespace}`"
        )
        raise
