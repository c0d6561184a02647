"""What the orchestration needs of a cluster: the one seam between pure code and the network.

`cluster.rest.RestCluster` is the real thing; tests wrap it in one that injects faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from chalkcompute.types import Manifest

__all__ = ["Applied", "Capabilities", "Cluster", "WatchEvent"]


@dataclass(frozen=True, slots=True)
class Applied:
    """Answer of a server-side apply.

    Attributes:
        obj: The object as the server now has it (metadata only for a Secret).
        created: True on HTTP 201: it did not exist before (also in a dry run).
        warnings: Texts of the HTTP `Warning` headers (RFC 7234, section 5.5).
    """

    obj: Manifest
    created: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch: `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, and the object."""

    type: str
    obj: Manifest


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the API server serves: `(group, version, plural)` of every resource."""

    resources: frozenset[tuple[str, str, str]]

    def serves(self, group: str, plural: str, version: str | None = None) -> bool:
        """Whether a resource is served, in any version unless one is named."""
        return any(
            g == group and p == plural and (version is None or v == version) for g, v, p in self.resources
        )


class Cluster(Protocol):
    """The Kubernetes API as calls over plain dicts. Errors are those of `chalkcompute.errors`.

    `kind` is a Kubernetes kind of the static table in `cluster.kinds` (`Deployment`, `HTTPRoute`, …).
    `namespace` is None for cluster-scoped kinds and for lists over all namespaces.
    """

    @property
    def server(self) -> str:
        """URL of the API server."""
        ...

    def capabilities(self) -> Capabilities:
        """One aggregated discovery call, cached for the life of the object."""
        ...

    def get(
        self, kind: str, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Manifest:
        """GET one object, or what is below it if named; `ObjectNotFoundError` if absent."""
        ...

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> list[Manifest]:
        """LIST by label and field selector, following `continue` in pages of 500.

        With `metadata_only` nothing but `metadata` travels (`PartialObjectMetadataList`).
        """
        ...

    def create(self, obj: Manifest, *, dry_run: bool = False) -> Manifest:
        """POST; `ObjectExistsError` if the name is taken."""
        ...

    def replace(self, obj: Manifest) -> Manifest:
        """PUT; `ObjectConflictError` when `metadata.resourceVersion` is stale."""
        ...

    def apply(
        self, obj: Manifest, *, manager: str = "chalk", force: bool = True, dry_run: bool = False
    ) -> Applied:
        """Server-side apply (PATCH `application/apply-patch+yaml`)."""
        ...

    def merge(
        self,
        kind: str,
        name: str,
        patch: Mapping[str, object],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        manager: str = "chalk",
    ) -> Manifest:
        """PATCH `application/merge-patch+json` (RFC 7386), on a subresource such as `scale` if named.

        A `metadata.resourceVersion` in it is a precondition: `ObjectConflictError` when stale.
        """
        ...

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> bool:
        """DELETE with an optional uid precondition; False when it was already gone.

        `dry_run` asks only whether it may be.
        """
        ...

    def watch(
        self,
        kind: str,
        namespace: str,
        *,
        fields: str | None = None,
        labels: str | None = None,
        resource_version: str | None = None,
        timeout: float = 60.0,
    ) -> Iterator[WatchEvent]:
        """Watch until `timeout` seconds have passed or the caller stops; 410 raises `ObjectConflictError`."""
        ...

    def logs(
        self,
        pod: str,
        namespace: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int | None = None,
    ) -> str:
        """The text of a container's log."""
        ...
