"""Which resource a request's path is about.

    /api/v1/namespaces/NS/pods/NAME/log
    /apis/GROUP/VERSION/namespaces/NS/PLURAL/NAME/SUBRESOURCE

Source: k8s.io/apiserver `pkg/endpoints/request/requestinfo.go`.
"""

from __future__ import annotations

from dataclasses import dataclass

from chalkcompute.local.api.failures import unknown_resource
from chalkcompute.local.apimachinery.kinds import KINDS, Kind, by_plural

__all__ = ["Target", "UnknownGroupVersionError", "group_versions", "parse_target"]

_NAMESPACE_SUBRESOURCES = ("status", "finalize")


class UnknownGroupVersionError(Exception):
    """No resource of that API group and version is served: a plain 404, as for any unknown path."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names.

    Attributes:
        group: API group, "" for the core group.
        version: API version in the path.
        plural: Resource in the path.
        kind: Its kind; None for the reviews, which are not stored.
        namespace: "" for cluster-scoped kinds and lists over all namespaces.
        name: "" for the collection.
        subresource: "" for the object itself.
    """

    group: str
    version: str
    plural: str
    kind: Kind | None
    namespace: str
    name: str
    subresource: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


def group_versions(kind: Kind) -> tuple[tuple[str, str], ...]:
    """The group and versions that a kind is served under, preferred first."""
    return tuple((kind.group, version) for version in kind.versions)


def parse_target(segments: list[str], reviews: frozenset[tuple[str, str, str]]) -> Target:
    """The target of a path below `/api` or `/apis`.

    Args:
        segments: The path's parts, the first being `api` or `apis`.
        reviews: Group, version and plural of what is answered but not stored.

    Raises:
        UnknownGroupVersionError: Nothing is served there.
        StatusError: 404 for a resource that is not served.
    """
    if segments[0] == "api":
        group, version, rest = "", segments[1], segments[2:]
    else:
        group, version, rest = segments[1], segments[2], segments[3:]
    served = {pair for kind in KINDS for pair in group_versions(kind)} | {(g, v) for g, v, _ in reviews}
    if (group, version) not in served:
        raise UnknownGroupVersionError
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] not in _NAMESPACE_SUBRESOURCES:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = rest[0], "".join(rest[1:2]), "/".join(rest[2:])
    kind = by_plural(group, version, plural)
    if kind is None and (group, version, plural) not in reviews:
        raise unknown_resource()
    if kind is not None and bool(namespace) > kind.namespaced:
        raise unknown_resource()
    if kind is not None and kind.namespaced and name and not namespace:
        raise unknown_resource()
    return Target(group, version, plural, kind, namespace, name, subresource)
