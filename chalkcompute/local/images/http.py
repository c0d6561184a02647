"""The registry of the local cluster: the OCI Distribution API over plain HTTP on loopback.

It takes what is built here and serves it again; asked with `?ns=HOST`, it passes another registry through
(OCI Distribution Specification, Registry Proxying), and says so with `OCI-Namespace: HOST`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from aiohttp import web

from chalkcompute.errors import RegistryError
from chalkcompute.local.images.answers import RefusedError, error_response
from chalkcompute.local.images.catalog import Catalog, Found
from chalkcompute.local.images.peers import is_own_peer
from chalkcompute.local.images.store import OWN, StoredManifest, is_digest
from chalkcompute.local.images.uploads import Uploads, require_digest
from chalkcompute.registry import INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES, digest_of, parse_reference

__all__ = ["RegistryServer"]

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SHUTDOWN_SECONDS = 1.0
_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_NAME_LENGTH = 255
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_HOST = re.compile(r"(?:localhost|127\.0\.0\.1)(?::\d+)?", re.IGNORECASE)  # of requests to this registry
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CODES = {404: "NAME_UNKNOWN", 405: "UNSUPPORTED", 413: "SIZE_INVALID"}


class RegistryServer:
    """Serves a `Catalog`."""

    def __init__(
        self, catalog: Catalog, *, is_own: Callable[[tuple[str, int], tuple[str, int]], bool] = is_own_peer
    ) -> None:
        """Make it.

        Args:
            catalog: What to serve.
            is_own: Whether a connection, by its peer's and its own address, is of the user who runs this.
        """
        self._catalog = catalog
        self._store = catalog.store
        self._uploads = Uploads(catalog.store)
        self._is_own = is_own
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port (0 asks for any free one).

        Raises:
            OSError: The address is in use or not ours.
        """
        application = web.Application(middlewares=[self._guarded], client_max_size=MANIFEST_LIMIT + 1)
        application.router.add_get("/v2/", self._version)
        named = "/v2/{name:.+}"
        for method, path, handler in (
            ("POST", "/blobs/uploads/", self._begin_upload),
            ("GET", "/blobs/uploads/{session}", self._upload_status),
            ("PATCH", "/blobs/uploads/{session}", self._upload_piece),
            ("PUT", "/blobs/uploads/{session}", self._finish_upload),
            ("DELETE", "/blobs/uploads/{session}", self._cancel_upload),
            ("HEAD", "/blobs/{digest}", self._blob_size),
            ("GET", "/blobs/{digest}", self._blob),
            ("HEAD", "/manifests/{reference}", self._manifest),
            ("GET", "/manifests/{reference}", self._manifest),
            ("PUT", "/manifests/{reference}", self._put_manifest),
            ("GET", "/tags/list", self._tags),
        ):
            application.router.add_route(method, named + path, handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        bound: int = runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        """Close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # Who may ask, and how failures look -----------------------------------------------------

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            self._require_own(request)
            if "name" in request.match_info:
                _require_name(request.match_info["name"])
            if asked := request.query.get("ns"):
                _require_host(asked)
            return await handler(request)
        except RefusedError as failure:
            return error_response(failure)
        except RegistryError as error:
            return error_response(_of_upstream(error, _namespace(request)))
        except OSError as error:
            if error.errno not in _FULL:
                raise
            text = f"the local registry cannot keep it: {error.strerror}"
            return error_response(RefusedError(507, "UNKNOWN", text))
        except web.HTTPException as error:
            code = _CODES.get(error.status, "UNSUPPORTED")
            headers = {name: value for name, value in error.headers.items() if name == "Allow"}
            return error_response(RefusedError(error.status, code, error.reason, headers))

    def _require_own(self, request: web.Request) -> None:
        """Refuse other users of this machine, and pages in a browser of this one.

        Raises:
            RefusedError: 403 DENIED.
        """
        transport = request.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        own = None if transport is None else transport.get_extra_info("sockname")
        if not peer or not own or not self._is_own(peer[:2], own[:2]):
            raise RefusedError(403, "DENIED", "this registry serves the user who runs it, and no other")
        # An image or a script of a page is asked for without `Origin`.
        is_page = any(name in request.headers for name in ("Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode"))
        if is_page or not _HOST.fullmatch(request.host):
            raise RefusedError(403, "DENIED", "this registry serves programs, and no pages of a browser")

    async def _version(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response({}, headers={"Docker-Distribution-Api-Version": "registry/2.0"})

    # Blobs ----------------------------------------------------------------------------------

    async def _blob_size(self, request: web.Request) -> web.StreamResponse:
        digest = require_digest(request.match_info["digest"])
        size = self._catalog.blob_size(digest)
        if size is None:
            raise _no_blob(digest)
        return web.Response(headers={**self._blob_headers(request, digest), "Content-Length": str(size)})

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = require_digest(request.match_info["digest"])
        path = await self._catalog.blob(digest)
        if path is None:
            raise _no_blob(digest)
        return web.FileResponse(path, headers=self._blob_headers(request, digest))

    def _blob_headers(self, request: web.Request, digest: str) -> dict[str, str]:
        return {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            **_namespace(request),
        }

    # Uploads --------------------------------------------------------------------------------

    async def _begin_upload(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        mount, digest = request.query.get("mount"), request.query.get("digest")
        if mount is not None and self._catalog.blob_size(require_digest(mount)) is not None:
            return self._created(name, mount)
        session = self._uploads.begin()
        if digest is not None:
            await self._uploads.append(session, request)
            await self._uploads.finish(session, require_digest(digest))
            return self._created(name, digest)
        return self._accepted(name, session, 0)

    async def _upload_piece(self, request: web.Request) -> web.StreamResponse:
        session = request.match_info["session"]
        held = await self._uploads.append(session, request)
        return self._accepted(request.match_info["name"], session, held)

    async def _upload_status(self, request: web.Request) -> web.StreamResponse:
        session = request.match_info["session"]
        held = self._uploads.size(session)
        return self._accepted(request.match_info["name"], session, held, status=204)

    async def _finish_upload(self, request: web.Request) -> web.StreamResponse:
        session = request.match_info["session"]
        digest = require_digest(request.query.get("digest", ""))
        await self._uploads.append(session, request)
        await self._uploads.finish(session, digest)
        return self._created(request.match_info["name"], digest)

    async def _cancel_upload(self, request: web.Request) -> web.StreamResponse:
        self._uploads.cancel(request.match_info["session"])
        return web.Response(status=204)

    def _created(self, name: str, digest: str) -> web.Response:
        headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
        return web.Response(status=201, headers=headers)

    def _accepted(self, name: str, session: str, held: int, *, status: int = 202) -> web.Response:
        headers = {
            "Location": f"/v2/{name}/blobs/uploads/{session}",
            "Range": f"0-{max(0, held - 1)}",
            "Docker-Upload-UUID": session,
        }
        return web.Response(status=status, headers=headers)

    # Manifests ------------------------------------------------------------------------------

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        host = request.query.get("ns") or self._catalog.own.name
        reference = _require_reference(request.match_info["reference"])
        found = await self._catalog.manifest(host, request.match_info["name"], reference)
        headers = {
            "Content-Type": found.manifest.media_type,
            "Docker-Content-Digest": found.manifest.digest,
            **_namespace(request),
            **_warning(found),
        }
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(found.manifest.raw))})
        return web.Response(body=found.manifest.raw, headers=headers)

    async def _put_manifest(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        reference = _require_reference(request.match_info["reference"])
        if "ns" in request.query:
            raise RefusedError(405, "UNSUPPORTED", "nothing can be pushed through to another registry")
        raw = await request.read()
        digest = digest_of(raw)
        if is_digest(reference) and reference != digest:
            raise RefusedError(400, "DIGEST_INVALID", f"the manifest's digest is `{digest}`")
        require_whole(self._catalog, name, raw, request.content_type)
        tag = None if is_digest(reference) else reference
        self._store.put_manifest(OWN, name, raw, request.content_type, tag=tag)
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        return web.Response(status=201, headers=headers)

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        name, host = request.match_info["name"], request.query.get("ns") or ""
        own = not host or self._catalog.own.are_now(host)
        tags = self._store.tags(OWN if own else host, name)
        if tags is None:
            raise RefusedError(404, "NAME_UNKNOWN", f"there is no repository `{name}`")
        last = request.query.get("last", "")
        rest = [tag for tag in tags if tag > last]
        number = request.query.get("n", "")
        page = rest[: int(number)] if number.isdecimal() else rest
        headers = dict(_namespace(request))
        if page and len(page) < len(rest):
            query = urlencode({"n": number, "last": page[-1]})
            headers["Link"] = f'</v2/{name}/tags/list?{query}>; rel="next"'
        return web.json_response({"name": name, "tags": page}, headers=headers)


def require_whole(catalog: Catalog, name: str, raw: bytes, media_type: str) -> None:
    """Check that a manifest is one, and that all it names is here or can be fetched.

    Raises:
        RefusedError: 400 MANIFEST_INVALID, or 404 MANIFEST_BLOB_UNKNOWN.
    """
    manifest = StoredManifest("", media_type, raw)
    if media_type in INDEX_TYPES:
        parts, is_there = manifest.body.get("manifests"), catalog.has_own_manifest
    elif media_type in MANIFEST_TYPES:
        layers = manifest.body.get("layers")
        parts = [manifest.body.get("config"), *layers] if isinstance(layers, list) else None
        is_there = catalog.has_blob
    else:
        raise RefusedError(400, "MANIFEST_INVALID", f"manifests of type `{media_type}` are not kept")
    if not isinstance(parts, list):
        raise RefusedError(400, "MANIFEST_INVALID", "the manifest names no content")
    for part in parts:
        digest = part.get("digest") if isinstance(part, dict) else None
        if not isinstance(digest, str) or not is_digest(digest):
            raise RefusedError(400, "MANIFEST_INVALID", "a descriptor of the manifest has no SHA-256 digest")
        if not is_there(name, digest):
            raise RefusedError(404, "MANIFEST_BLOB_UNKNOWN", f"`{digest}` has not been pushed")


def _require_name(name: str) -> None:
    if len(name) > _NAME_LENGTH or not _NAME.fullmatch(name):
        raise RefusedError(400, "NAME_INVALID", f"`{name}` is no name of a repository")


def _require_host(host: str) -> None:
    """Refuse what cannot be the registry of a reference: it becomes an address, and the name of a folder."""
    try:
        is_one = len(host) <= _NAME_LENGTH and parse_reference(f"{host}/a").domain == host
    except ValueError:
        is_one = False
    if not is_one:
        raise RefusedError(400, "NAME_INVALID", f"`{host}` is no registry")


def _require_reference(reference: str) -> str:
    if not is_digest(reference) and not _TAG.fullmatch(reference):
        raise RefusedError(404, "MANIFEST_UNKNOWN", f"`{reference}` is neither a tag nor a digest")
    return reference


def _no_blob(digest: str) -> RefusedError:
    return RefusedError(404, "BLOB_UNKNOWN", f"there is no blob `{digest}`")


def _namespace(request: web.Request) -> dict[str, str]:
    asked = request.query.get("ns")
    # An answer of ours is printed as it came: nothing that a header cannot hold.
    return {"OCI-Namespace": asked} if asked and asked.isascii() and asked.isprintable() else {}


def _warning(found: Found) -> dict[str, str]:
    if found.warning is None:
        return {}
    # RFC 9110 leaves only this form to registries: code 299, no agent, a quoted string of ASCII.
    text = found.warning.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
    return {"Warning": f'299 - "{text}"'}


def _of_upstream(error: RegistryError, headers: dict[str, str]) -> RefusedError:
    """What another registry said, or that it said nothing."""
    if error.status == 404:
        return RefusedError(404, error.code or "MANIFEST_UNKNOWN", error.message, headers)
    if error.status in (401, 403):
        # Of 401 the client would make that we want its credential.
        return RefusedError(403, "DENIED", error.message, headers)
    if error.status == 429:
        return RefusedError(429, "TOOMANYREQUESTS", error.message, headers)
    return RefusedError(502, "UNKNOWN", error.message, headers)
