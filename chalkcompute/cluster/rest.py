"""`Cluster` over the Kubernetes API: every verb is one request built from the table of kinds."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from chalkcompute.cluster.kinds import kind_named
from chalkcompute.cluster.protocol import Applied, Capabilities, WatchEvent
from chalkcompute.cluster.reasons import api_error
from chalkcompute.cluster.transport import Request, Response, Transport
from chalkcompute.errors import ObjectConflictError, ObjectNotFoundError
from chalkcompute.types import Manifest

__all__ = ["RestCluster"]

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_ONLY_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE = "500"
_MANAGER = "chalk"
# Asked one by one where the server lacks aggregated discovery (before 1.30).
_GROUPS_OF_INTEREST = frozenset(
    {
        "gateway.networking.k8s.io",
        "keda.sh",
        "http.keda.sh",
        "metrics.k8s.io",
        "custom.metrics.k8s.io",
        "autoscaling",
    }
)


_Objects: TypeAlias = list[Manifest]  # inside the class, `list` is a method


class RestCluster:
    """The Kubernetes API as the calls of `cluster.protocol.Cluster`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._capabilities: Capabilities | None = None

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._transport.server

    def capabilities(self) -> Capabilities:
        """One aggregated discovery call, kept for the life of the object."""
        if self._capabilities is None:
            answer = self._send("GET", "/apis", about="discover the API groups", accept=_AGGREGATED).json()
            if answer.get("kind") == "APIGroupDiscoveryList":
                found = _from_aggregated(answer)
            else:
                found = self._group_by_group(answer)
            self._capabilities = Capabilities(frozenset(found))
        return self._capabilities

    def get(
        self, kind: str, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Manifest:
        """GET one object, or what is below it."""
        path = kind_named(kind).path(name, namespace, subresource)
        return _object(self._send("GET", path, about=_about("get", kind, name, namespace, subresource)))

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> list[Manifest]:
        """LIST in pages of 500; begun anew, in one piece, when the snapshot of the pages expires."""
        selectors = _selectors(labels, fields)
        accept = _METADATA_ONLY_LIST if metadata_only else "application/json"
        try:
            return self._pages(kind, namespace, (*selectors, ("limit", _PAGE)), accept)
        except ObjectConflictError as error:
            if error.status != 410:
                raise
            return self._pages(kind, namespace, selectors, accept)

    def create(self, obj: Manifest, *, dry_run: bool = False) -> Manifest:
        """POST with strict field validation."""
        kind, name, namespace = _identity(obj)
        return _object(
            self._send(
                "POST",
                kind_named(kind).path(None, namespace),
                about=_about("create", kind, name, namespace),
                query=_write_query(dry_run=dry_run),
                body=obj,
            )
        )

    def replace(self, obj: Manifest) -> Manifest:
        """PUT; the `metadata.resourceVersion` in it is a precondition."""
        kind, name, namespace = _identity(obj)
        return _object(
            self._send(
                "PUT",
                kind_named(kind).path(name, namespace),
                about=_about("update", kind, name, namespace),
                query=_write_query(dry_run=False),
                body=obj,
            )
        )

    def apply(
        self, obj: Manifest, *, manager: str = _MANAGER, force: bool = True, dry_run: bool = False
    ) -> Applied:
        """Server-side apply; of a Secret only the metadata comes back, so that no value travels."""
        kind, name, namespace = _identity(obj)
        query = [("fieldManager", manager), ("force", str(force).lower()), ("fieldValidation", "Strict")]
        if dry_run:
            query.append(("dryRun", "All"))
        response = self._send(
            "PATCH",
            kind_named(kind).path(name, namespace),
            about=_about("apply", kind, name, namespace),
            query=tuple(query),
            body=obj,
            content_type="application/apply-patch+yaml",
            accept=_METADATA_ONLY if kind == "Secret" else "application/json",
        )
        return Applied(_object(response), created=response.status == 201, warnings=response.warnings)

    def merge(
        self,
        kind: str,
        name: str,
        patch: Mapping[str, object],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        manager: str = _MANAGER,
    ) -> Manifest:
        """PATCH `application/merge-patch+json`; a `metadata.resourceVersion` in it is a precondition."""
        return _object(
            self._send(
                "PATCH",
                kind_named(kind).path(name, namespace, subresource),
                about=_about("patch", kind, name, namespace, subresource),
                query=_write_query(dry_run=False, manager=manager),
                body=dict(patch),
                content_type="application/merge-patch+json",
            )
        )

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
        """DELETE, or with `dry_run` the question whether it may be; False when it was already gone."""
        options: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
        }
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        if dry_run:
            options["dryRun"] = ["All"]
        try:
            self._send(
                "DELETE",
                kind_named(kind).path(name, namespace),
                about=_about("delete", kind, name, namespace),
                body=options,
            )
        except ObjectNotFoundError:
            return False
        return True

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
        """Watch until `timeout` seconds have passed or the caller stops."""
        seconds = max(1, math.ceil(timeout))
        query = [
            *_selectors(labels, fields),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("timeoutSeconds", str(seconds)),
        ]
        if resource_version is not None:
            query.append(("resourceVersion", resource_version))
        about = _about("watch", kind, None, namespace)
        request = Request("GET", kind_named(kind).path(None, namespace), tuple(query), about=about)
        with contextlib.closing(self._transport.lines(request, read_timeout=seconds + 5.0)) as lines:
            for line in lines:
                event = Response(200, line).json()
                obj = event.get("object") or {}
                if event.get("type") == "ERROR":
                    raise api_error(int(obj.get("code") or 500), json.dumps(obj), request=about)
                yield WatchEvent(str(event.get("type")), obj)

    def logs(
        self,
        pod: str,
        namespace: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int | None = None,
    ) -> str:
        """The text of a container's log; bytes that are not UTF-8 become U+FFFD."""
        query: list[tuple[str, str]] = []
        if container is not None:
            query.append(("container", container))
        if previous:
            query.append(("previous", "true"))
        if tail_lines is not None:
            query.append(("tailLines", str(tail_lines)))
        response = self._send(
            "GET",
            kind_named("Pod").path(pod, namespace, "log"),
            about=_about("get", "Pod", pod, namespace, "log"),
            query=tuple(query),
            accept="*/*",
        )
        return response.body.decode("utf-8", "replace")

    def _send(
        self,
        method: str,
        path: str,
        *,
        about: str,
        query: tuple[tuple[str, str], ...] = (),
        body: object | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Response:
        return self._transport.send(Request(method, path, query, body, content_type, accept, about))

    def _pages(
        self, kind: str, namespace: str | None, query: tuple[tuple[str, str], ...], accept: str
    ) -> _Objects:
        entry = kind_named(kind)
        about = _about("list", kind, None, namespace)
        items: _Objects = []
        token: str | None = ""
        while token is not None:
            here = (*query, ("continue", token)) if token else query
            path = entry.path(None, namespace)
            page = self._send("GET", path, about=about, query=here, accept=accept).json()
            # Items of a list come without these two, or as `PartialObjectMetadata`; everything downstream
            # reads `kind`.
            items += [
                {**item, "apiVersion": entry.api_version, "kind": kind} for item in page.get("items") or ()
            ]
            token = (page.get("metadata") or {}).get("continue") or None
        return items

    def _group_by_group(self, groups: Mapping[str, Any]) -> set[tuple[str, str, str]]:
        found: set[tuple[str, str, str]] = set()
        for group in groups.get("groups") or ():
            if group.get("name") not in _GROUPS_OF_INTEREST:
                continue
            for version in group.get("versions") or ():
                path = f"/apis/{version['groupVersion']}"
                answer = self._send("GET", path, about=f"discover `{version['groupVersion']}`").json()
                found.update(
                    (group["name"], version["version"], resource["name"])
                    for resource in answer.get("resources") or ()
                    if "/" not in resource["name"]
                )
        return found


def _from_aggregated(answer: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (group["metadata"]["name"], version["version"], resource["resource"])
        for group in answer.get("items") or ()
        for version in group.get("versions") or ()
        # What another server answers for (metrics-server) is still listed when that one is away.
        if version.get("freshness") != "Stale"
        for resource in version.get("resources") or ()
    }


def _write_query(*, dry_run: bool, manager: str = _MANAGER) -> tuple[tuple[str, str], ...]:
    query = (("fieldManager", manager), ("fieldValidation", "Strict"))
    return (*query, ("dryRun", "All")) if dry_run else query


def _selectors(labels: str | None, fields: str | None) -> tuple[tuple[str, str], ...]:
    pairs = (("labelSelector", labels), ("fieldSelector", fields))
    return tuple((key, value) for key, value in pairs if value)


def _identity(obj: Manifest) -> tuple[str, str, str | None]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("name") or metadata.get("generateName", ""), metadata.get("namespace")


def _object(response: Response) -> Manifest:
    obj: Manifest = response.json()
    return obj


def _about(
    verb: str, kind: str, name: str | None, namespace: str | None, subresource: str | None = None
) -> str:
    plural = kind_named(kind).plural
    what = f"{plural}/{subresource}" if subresource else plural
    words = [verb, what]
    if name:
        words.append(f"`{name}`")
    if namespace:
        words.append(f"in namespace `{namespace}`")
    return " ".join(words)
