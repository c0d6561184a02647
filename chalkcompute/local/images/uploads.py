"""Uploads of blobs: sessions that take a blob in pieces and survive broken connections and restarts."""

from __future__ import annotations

import asyncio
import re
import uuid
from pathlib import Path

from aiohttp import web

from chalkcompute.local.images.answers import RefusedError
from chalkcompute.local.images.store import ContentStore, is_digest

__all__ = ["Uploads", "require_digest"]

_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d+)-(\d+)(?:/\S+)?")
_SESSION = re.compile(r"[0-9a-f]{32}")


def require_digest(text: str) -> str:
    """A digest of the kind that is kept here.

    Raises:
        RefusedError: 400 DIGEST_INVALID.
    """
    if not is_digest(text):
        raise RefusedError(400, "DIGEST_INVALID", f"`{text}` is no SHA-256 digest")
    return text


class Uploads:
    """The sessions. Each is a file of the store's staging folder, named by its id; its size is its state."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._turns: dict[str, asyncio.Lock] = {}

    def begin(self) -> str:
        """A new session's id."""
        session = uuid.uuid4().hex
        self._path(session).touch(mode=0o600)
        return session

    def size(self, session: str) -> int:
        """Bytes that have arrived.

        Raises:
            RefusedError: 404 BLOB_UPLOAD_UNKNOWN.
        """
        try:
            return self._path(session).stat().st_size
        except FileNotFoundError:
            raise _unknown(session) from None

    def cancel(self, session: str) -> None:
        """Forget a session.

        Raises:
            RefusedError: 404 BLOB_UPLOAD_UNKNOWN.
        """
        self.size(session)
        self._path(session).unlink(missing_ok=True)
        self._turns.pop(session, None)

    async def append(self, session: str, request: web.Request) -> int:
        """Take a request's body; what arrived before a connection breaks stays.

        Returns:
            Bytes that the session holds now.

        Raises:
            RefusedError: 404 for an unknown session, 416 when the piece does not begin where the last
                one ended.
        """
        async with self._turns.setdefault(session, asyncio.Lock()):
            held = self.size(session)
            _require_start(request, held)
            with self._path(session).open("ab", buffering=0) as file:
                async for chunk in request.content.iter_any():
                    held += file.write(chunk)
        return held

    async def finish(self, session: str, digest: str) -> None:
        """Make a session's bytes the blob of this digest.

        Raises:
            RefusedError: 400 DIGEST_INVALID when they are not; the session is gone then.
        """
        async with self._turns.setdefault(session, asyncio.Lock()):
            self.size(session)
            right = await asyncio.to_thread(self._store.adopt, self._path(session), digest)
        self._turns.pop(session, None)
        if not right:
            raise RefusedError(400, "DIGEST_INVALID", f"what was uploaded is not `{digest}`")

    def _path(self, session: str) -> Path:
        if not _SESSION.fullmatch(session):
            raise _unknown(session)
        return self._store.staging / session


def _require_start(request: web.Request, held: int) -> None:
    stated = request.headers.get("Content-Range")
    if stated is None:
        return
    found = _CONTENT_RANGE.fullmatch(stated.strip())
    if found is None or int(found[1]) != held:
        raise RefusedError(
            416,
            "BLOB_UPLOAD_INVALID",
            f"the next byte is {held}, not those of `{stated}`",
            {"Range": f"0-{max(0, held - 1)}", "Location": request.path},
        )


def _unknown(session: str) -> RefusedError:
    return RefusedError(404, "BLOB_UPLOAD_UNKNOWN", f"there is no upload `{session}`")
