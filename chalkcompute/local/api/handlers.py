"""One resource request in, one answer out: the verbs of HTTP on the verbs of `ResourceApi`."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

from aiohttp import web

from chalkcompute.local.api import encoding, failures
from chalkcompute.local.api.deletion import DeleteOptions
from chalkcompute.local.api.discovery import REVIEWS, subresources
from chalkcompute.local.api.disruption import require_evictable
from chalkcompute.local.api.encoding import Accepted, accepted, dumps, parse_body
from chalkcompute.local.api.listing import ListQuery, Page, Selection, select
from chalkcompute.local.api.logs import LogQuery, LogSource, stream_log
from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.reviews import review
from chalkcompute.local.api.routes import Target
from chalkcompute.local.api.store import Subscription
from chalkcompute.local.api.tables import TablePrinter
from chalkcompute.local.api.watching import DEFAULT_TIMEOUT_SECONDS, UNREAD_LIMIT, WatchQuery, stream_watch
from chalkcompute.local.api.writes import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_PATCH,
    WriteOptions,
    Written,
)
from chalkcompute.local.apimachinery.decode import find_duplicates
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.scale import to_scale
from chalkcompute.local.apimachinery.status import Cause
from chalkcompute.local.ports import Manifest

__all__ = ["ResourceHandler"]

_PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_FIELD_VALIDATIONS = ("Strict", "Warn", "Ignore")
_REVIEW_KINDS = {(group, version, plural): kind for group, version, plural, kind in REVIEWS}
# Kinds whose DELETE answers with the object even when it is gone at once.
_DELETE_RETURNS_OBJECT = ("Pod", "Service", "PersistentVolumeClaim", "ServiceAccount")

_NO_SHELL = "`kubectl logs` shows the output"
_NO_TUNNEL = "the gateway and, on this machine, the Pod's own address lead there"
_STREAMS = {"exec": _NO_SHELL, "attach": _NO_SHELL, "portforward": _NO_TUNNEL, "proxy": _NO_TUNNEL}

_Verb: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ResourceHandler:
    """Answers requests below `/api/v1` and `/apis/GROUP/VERSION`.

    Args:
        api: The resources.
        logs: Where containers' output lies.
    """

    def __init__(self, api: ResourceApi, logs: LogSource) -> None:
        self._api = api
        self._logs = logs
        self._watches: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def finish_watches(self) -> None:
        """End all watches and followed logs."""
        for subscription in tuple(self._watches):
            subscription.finish()

    async def handle(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Answer a request.

        Raises:
            StatusError: The refusal, to be answered as a `Status`.
        """
        if target.kind is None:
            return await self._review(request, target)
        if target.subresource:
            return await self._subresource(request, target, target.kind)
        verbs = self._named(target.kind, target) if target.name else self._collection(target.kind, target)
        if request.method not in verbs:
            raise failures.method_not_allowed()
        return await verbs[request.method](request)

    def _collection(self, kind: Kind, target: Target) -> dict[str, _Verb]:
        verbs: dict[str, _Verb] = {"GET": lambda r: self._list_or_watch(r, target, kind, "")}
        if target.namespace or not kind.namespaced:
            verbs["POST"] = lambda r: self._create(r, target, kind)
            verbs["DELETE"] = lambda r: self._delete_all(r, target, kind)
        return verbs

    def _named(self, kind: Kind, target: Target) -> dict[str, _Verb]:
        return {
            "GET": lambda r: self._get(r, target, kind),
            "PUT": lambda r: self._put(r, target, kind),
            "PATCH": lambda r: self._patch(r, target, kind),
            "DELETE": lambda r: self._delete(r, target, kind),
        }

    async def _subresource(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        if kind.kind == "Pod" and target.subresource in _STREAMS:
            self._api.read(kind, target.namespace, target.name)
            raise failures.not_served(f"pods/{target.subresource}", _STREAMS[target.subresource])
        if not target.name or target.subresource not in subresources(kind):
            raise failures.unknown_resource()
        if target.subresource == "log" and request.method == "GET":
            return await self._log(request, target, kind)
        if target.subresource == "eviction" and request.method == "POST":
            return await self._evict(request, target, kind)
        if target.subresource == "finalize" and request.method == "PUT":
            return await self._put(request, target, kind)
        if target.subresource in ("status", "scale"):
            verbs = {"GET": self._get, "PUT": self._put, "PATCH": self._patch}
            if request.method in verbs:
                return await verbs[request.method](request, target, kind)
        raise failures.method_not_allowed()

    # Reading --------------------------------------------------------------------------------

    async def _get(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        if request.query.get("watch") in ("true", "1"):
            return await self._list_or_watch(request, target, kind, f"metadata.name={target.name}")
        obj = self._api.read(kind, target.namespace, target.name)
        if target.subresource == "scale":
            return _json(to_scale(obj))
        return self._answer(request, target, kind, obj)

    async def _list_or_watch(
        self, request: web.BaseRequest, target: Target, kind: Kind, name_field: str
    ) -> web.StreamResponse:
        query = request.query
        fields = ",".join(part for part in (name_field, query.get("fieldSelector", "")) if part)
        selection = select(kind, target.namespace, query.get("labelSelector", ""), fields)
        wanted = accepted(request.headers.get("Accept", ""))
        if query.get("watch") in ("true", "1"):
            return await self._watch(request, target, selection, wanted)
        page = self._api.page(selection, _list_query(request))
        return self._answer_page(request, target, kind, page, wanted)

    async def _watch(
        self, request: web.BaseRequest, target: Target, selection: Selection, wanted: Accepted
    ) -> web.StreamResponse:
        kind, query = selection.kind, request.query
        watch = WatchQuery(
            resource_version=query.get("resourceVersion", ""),
            timeout_seconds=float(_integer(request, "timeoutSeconds", 0)) or DEFAULT_TIMEOUT_SECONDS,
            bookmarks=query.get("allowWatchBookmarks") in ("true", "1"),
            initial_events=query.get("sendInitialEvents") in ("true", "1"),
        )
        subscription = self._api.store.subscribe([kind.kind], limit=UNREAD_LIMIT)
        self._watches.add(subscription)
        printer = self._printer(request, kind)
        present: Callable[[Manifest], Manifest]
        if wanted.form == "Table":
            present = printer.event
        elif wanted.form:
            present = encoding.metadata_only
        else:
            present = partial(_in_version, target.api_version)

        def bookmark(revision: int, annotations: dict[str, str]) -> Manifest:
            metadata: dict[str, Any] = {"resourceVersion": str(revision), "creationTimestamp": None}
            if annotations:
                metadata["annotations"] = annotations
            if wanted.form == "Table":
                return printer.bookmark(metadata)
            bare = {"kind": kind.kind, "apiVersion": target.api_version, "metadata": metadata}
            return encoding.metadata_only(bare) if wanted.form else bare

        return await stream_watch(request, self._api.store, subscription, selection, watch, present, bookmark)

    async def _log(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        pod = self._api.read(kind, target.namespace, target.name)
        subscription = self._api.store.subscribe(["Pod"])
        self._watches.add(subscription)
        query = LogQuery.parse(request.query)
        return await stream_log(
            request, self._api.store, self._logs, pod, query, subscription, self._api.now()
        )

    # Writing --------------------------------------------------------------------------------

    async def _create(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        body, duplicates = await _body(request, kind)
        options = _write_options(request, target, duplicates)
        written = self._api.post(kind, target.namespace, body, options)
        return self._answer_written(request, target, kind, written)

    async def _put(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        body, duplicates = await _body(request, kind)
        options = _write_options(request, target, duplicates)
        written = self._api.put(kind, target.namespace, target.name, body, options)
        return self._answer_written(request, target, kind, written)

    async def _patch(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        content_type = request.headers.get("Content-Type", "")
        media_type = content_type.split(";")[0].strip()
        patch_types = [t for t in _PATCH_TYPES if not (kind.custom and t == STRATEGIC_PATCH)]
        if media_type not in patch_types:
            raise encoding.unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: "
                + ", ".join(patch_types)
            )
        patch = parse_body(await request.read(), content_type, kind.kind)
        options = _write_options(request, target)
        written = self._api.patch(kind, target.namespace, target.name, patch, media_type, options)
        return self._answer_written(request, target, kind, written)

    async def _delete(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        options = await _delete_options(request)
        obj, gone = self._api.remove(kind, target.namespace, target.name, options)
        if not gone or kind.kind in _DELETE_RETURNS_OBJECT:
            return self._answer(request, target, kind, obj)
        details = {"name": target.name}
        if kind.group:
            details["group"] = kind.group
        return _json(_success(details | {"kind": kind.plural, "uid": obj["metadata"]["uid"]}))

    async def _delete_all(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        query = request.query
        selection = select(
            kind, target.namespace, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )
        page = self._api.remove_all(selection, _list_query(request), await _delete_options(request))
        return self._answer_page(request, target, kind, page, accepted(request.headers.get("Accept", "")))

    async def _evict(self, request: web.BaseRequest, target: Target, kind: Kind) -> web.StreamResponse:
        body = parse_body(await request.read(), request.headers.get("Content-Type", ""), "Eviction")
        options = body.get("deleteOptions", {}) if isinstance(body, dict) else None
        if not isinstance(options, dict):
            raise failures.bad_request("the object provided is unrecognized (must be of type Eviction)")
        require_evictable(self._api.read(kind, target.namespace, target.name), self._api.list)
        self._api.remove(
            kind, target.namespace, target.name, DeleteOptions.parse(options, dict(request.query))
        )
        return _json(_success(None), status=201)

    async def _review(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        kind = _REVIEW_KINDS[target.group, target.version, target.plural]
        if request.method != "POST" or target.name:
            raise failures.method_not_allowed()
        body = parse_body(await request.read(), request.headers.get("Content-Type", ""), kind)
        return _json(review(kind, target.api_version, body), status=201)

    # Answers --------------------------------------------------------------------------------

    def _printer(self, request: web.BaseRequest, kind: Kind) -> TablePrinter:
        return TablePrinter(kind, self._api.now, include=request.query.get("includeObject", "Metadata"))

    def _answer(
        self, request: web.BaseRequest, target: Target, kind: Kind, obj: Manifest, *, status: int = 200
    ) -> web.Response:
        wanted = accepted(request.headers.get("Accept", ""))
        presented = _in_version(target.api_version, obj)
        if wanted.form == "Table":
            presented = self._printer(request, kind).table([obj], obj["metadata"].get("resourceVersion", ""))
        elif wanted.form:
            presented = encoding.metadata_only(obj)
        return _json(presented, status=status, media_type=wanted.media_type)

    def _answer_written(
        self, request: web.BaseRequest, target: Target, kind: Kind, written: Written
    ) -> web.Response:
        status = 201 if written.created else 200
        if target.subresource == "scale":
            response = _json(written.obj, status=status)
        else:
            response = self._answer(request, target, kind, written.obj, status=status)
        for warning in written.warnings:
            escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
            response.headers.add("Warning", f'299 - "{escaped}"')
        return response

    def _answer_page(
        self, request: web.BaseRequest, target: Target, kind: Kind, page: Page, wanted: Accepted
    ) -> web.Response:
        metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
        if page.token:
            metadata["continue"] = page.token
            if page.remaining is not None:
                metadata["remainingItemCount"] = page.remaining
        answer: Manifest = {
            "kind": f"{kind.kind}List",
            "apiVersion": target.api_version,
            "metadata": metadata,
        }
        if wanted.form == "Table":
            answer = self._printer(request, kind).table(page.items, str(page.revision)) | {
                "metadata": metadata
            }
        elif wanted.form:
            answer |= {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1"}
            answer["items"] = [encoding.metadata_only(obj) for obj in page.items]
        elif kind.custom:  # lists of custom resources repeat kind and apiVersion in every item
            answer["items"] = [_in_version(target.api_version, obj) for obj in page.items]
        else:
            answer["items"] = [
                {key: value for key, value in obj.items() if key not in ("kind", "apiVersion")}
                for obj in page.items
            ]
        return _json(answer, media_type=wanted.media_type)


def _json(value: Any, *, status: int = 200, media_type: str = encoding.JSON) -> web.Response:
    return web.Response(body=dumps(value, media_type), status=status, content_type=media_type)


def _success(details: dict[str, Any] | None) -> Manifest:
    status: Manifest = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return status | ({"details": details} if details else {"code": 201})


async def _body(request: web.BaseRequest, kind: Kind) -> tuple[Manifest, tuple[str, ...]]:
    """The body, and the fields that its text gives twice."""
    raw = await request.read()
    body = parse_body(raw, request.headers.get("Content-Type", ""), kind.kind)
    if not isinstance(body, dict):
        raise failures.bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): couldn't get version/kind"
        )
    return body, tuple(find_duplicates(raw.decode(errors="replace")))


async def _delete_options(request: web.BaseRequest) -> DeleteOptions:
    body = parse_body(await request.read(), request.headers.get("Content-Type", ""), "DeleteOptions")
    if body is not None and not isinstance(body, dict):
        raise failures.bad_request("the object provided is unrecognized (must be of type DeleteOptions)")
    return DeleteOptions.parse(body or {}, dict(request.query))


def _write_options(
    request: web.BaseRequest, target: Target, duplicates: tuple[str, ...] = ()
) -> WriteOptions:
    query = request.query
    validation = query.get("fieldValidation") or "Warn"
    if validation not in _FIELD_VALIDATIONS:
        message = f'Unsupported value: "{validation}": supported values: "Ignore", "Strict", "Warn"'
        raise failures.invalid(
            "WriteOptions", "meta.k8s.io", "", Cause("fieldValidation", message, "FieldValueNotSupported")
        )
    dry_run = query.getall("dryRun", [])
    if any(value not in ("", "All") for value in dry_run):
        message = f'Unsupported value: "{dry_run[0]}": supported values: "All"'
        raise failures.invalid(
            "WriteOptions", "meta.k8s.io", "", Cause("dryRun", message, "FieldValueNotSupported")
        )
    agent = request.headers.get("User-Agent", "").split("/")[0]
    return WriteOptions(
        manager=query.get("fieldManager", ""),
        default_manager=agent[:128] or "unknown",
        api_version=target.api_version,
        subresource=target.subresource,
        dry_run="All" in dry_run,
        force=query.get("force") in ("true", "1"),
        field_validation=validation,
        duplicates=duplicates,
    )


def _in_version(api_version: str, obj: Manifest) -> Manifest:
    """An object as it is served in the version that was asked for."""
    return {**obj, "apiVersion": api_version}


def _integer(request: web.BaseRequest, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    try:
        return int(text)
    except ValueError as exc:
        raise failures.bad_request(f'unable to parse {name} "{text}": must be an integer') from exc


def _list_query(request: web.BaseRequest) -> ListQuery:
    query = request.query
    return ListQuery(
        limit=_integer(request, "limit", 0),
        token=query.get("continue", ""),
        resource_version=query.get("resourceVersion", ""),
        match=query.get("resourceVersionMatch", ""),
    )
