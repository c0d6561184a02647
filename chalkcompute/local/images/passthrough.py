"""Images of other registries, passed through the store: fetched once, kept, and there when offline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

from chalkcompute.errors import RegistryError
from chalkcompute.local.images.store import BlobSource, ContentStore, StoredManifest, is_digest
from chalkcompute.local.images.threads import Threads
from chalkcompute.registry import Descriptor, FetchedManifest

__all__ = ["Passthrough", "Upstream", "is_unreachable"]

T = TypeVar("T")

TAG_SECONDS = 60.0
"""For how long a tag means what it meant when its registry was last asked."""

UNREACHABLE_SECONDS = 30.0
"""For how long a registry that did not answer is not asked again."""

_TRANSFERS = 8


class Upstream(Protocol):
    """What is asked of another registry; `chalkcompute.registry.Registry` has it."""

    def resolve(self, repository: str, reference: str) -> Descriptor: ...

    def manifest(self, repository: str, reference: str) -> FetchedManifest: ...

    def download_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        into: Path,
        *,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None: ...

    def close(self) -> None: ...


def is_unreachable(error: RegistryError) -> bool:
    """Whether there was no answer at all, rather than one that refuses or is corrupt."""
    return error.status is None and not error.code


class Passthrough:
    """Manifests and blobs of other registries, one fetch of each at a time."""

    def __init__(
        self,
        store: ContentStore,
        connect: Callable[[str], Upstream],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it, inside a running loop.

        Args:
            store: Where everything is kept.
            connect: Makes the client of a registry, by its host as in a reference.
            clock: Seconds, for how old an answer is.
        """
        self._store = store
        self._connect = connect
        self._clock = clock
        self._threads = Threads(_TRANSFERS)
        self._registries: dict[str, Upstream] = {}
        self._asked: dict[tuple[str, str, str], float] = {}
        self._unreachable: dict[str, tuple[float, RegistryError]] = {}
        self._running: dict[tuple[str, ...], asyncio.Task[Any]] = {}

    async def manifest(
        self, host: str, repository: str, reference: str, *, max_age: float = TAG_SECONDS
    ) -> StoredManifest:
        """A manifest by tag or digest, from the store where that will do.

        Args:
            host: Registry, as in a reference.
            repository: Repository there.
            reference: Tag or digest.
            max_age: Seconds since its registry was asked, up to which a tag is taken as known.

        Raises:
            RegistryError: The registry has no such thing, refuses us, or cannot be reached while the store
                has nothing.
        """
        kept = self._store.manifest(host, repository, reference)
        if kept is not None and (is_digest(reference) or self._age(host, repository, reference) <= max_age):
            return kept

        async def ask() -> StoredManifest:
            try:
                return await self._fetch_manifest(host, repository, reference)
            except RegistryError as error:
                # A registry that limits or fails is no reason to stop what ran a minute ago.
                if kept is None or not (is_unreachable(error) or (error.status or 0) >= 429):
                    raise
                return kept

        return await self._once(("manifest", host, repository, reference), ask)

    async def blob(self, digest: str) -> Path | None:
        """A blob's file, verified, fetched where a manifest that was passed through told where to.

        Returns:
            None for a blob that is not here, and of which nobody knows where it is.

        Raises:
            RegistryError: It cannot be fetched.
        """

        async def fetch() -> Path | None:
            path = await self._threads.run(lambda: self._store.blob(digest))
            if path is not None:
                return path
            source = self._store.source(digest)
            if source is None:
                return None
            await self._ask(source.host, lambda upstream: self._download(upstream, source, digest))
            return await self._threads.run(lambda: self._store.blob(digest))

        return await self._once(("blob", digest), fetch)

    async def close(self) -> None:
        """Break off what is being fetched; a part of a blob stays, and the next fetch goes on from there."""
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        for registry in self._registries.values():
            registry.close()
        self._registries.clear()

    def _age(self, host: str, repository: str, tag: str) -> float:
        asked = self._asked.get((host, repository, tag))
        return float("inf") if asked is None else self._clock() - asked

    async def _fetch_manifest(self, host: str, repository: str, reference: str) -> StoredManifest:
        def fetch(upstream: Upstream) -> StoredManifest:
            tag = None if is_digest(reference) else reference
            if tag is not None:
                # Asking for the digest only is not counted by registries that limit pulls.
                digest = upstream.resolve(repository, tag).digest
                kept = self._store.manifest(host, repository, digest) if is_digest(digest) else None
                if kept is not None:
                    self._store.tag(host, repository, tag, digest)
                    return kept
            found = upstream.manifest(repository, reference)
            return self._store.put_manifest(
                host,
                repository,
                found.raw,
                found.descriptor.media_type,
                tag=tag,
                remember_sources=True,
            )

        manifest = await self._ask(host, fetch)
        self._asked[(host, repository, reference)] = self._clock()
        return manifest

    def _download(self, upstream: Upstream, source: BlobSource, digest: str) -> None:
        into = self._store.staging / f"blob-{digest.partition(':')[2]}"
        upstream.download_blob(source.repository, digest, source.size, into)
        self._store.adopt(into, digest)

    async def _ask(self, host: str, question: Callable[[Upstream], T]) -> T:
        """Ask a registry in a thread, unless it did not answer a moment ago."""
        since, error = self._unreachable.get(host, (0.0, None))
        if error is not None and self._clock() - since < UNREACHABLE_SECONDS:
            raise error.with_traceback(None)
        if host not in self._registries:
            self._registries[host] = self._connect(host)
        upstream = self._registries[host]
        try:
            answer = await self._threads.run(lambda: question(upstream))
        except RegistryError as error:
            # On this machine a refusal comes at once, and somebody is about to start it.
            if is_unreachable(error) and not _is_here(host):
                self._unreachable[host] = (self._clock(), error)
            raise
        self._unreachable.pop(host, None)
        return answer

    async def _once(self, key: tuple[str, ...], work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do it, or wait for whoever does it already; who stops waiting does not stop the others."""
        task = self._running.get(key)
        if task is None:
            task = asyncio.create_task(work())
            self._running[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        waited: Awaitable[T] = asyncio.shield(task)
        return await waited

    def _finished(self, key: tuple[str, ...], task: asyncio.Task[Any]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # looked at, should nobody wait for it any more


def _is_here(host: str) -> bool:
    return host.startswith(("localhost:", "127.", "[::1]")) or host == "localhost"
