"""A blob into a file: goes on where a broken connection or an earlier run stopped, and verifies the whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import httpx

from chalkcompute.errors import RegistryError
from chalkcompute.registry.connection import (
    PASSING,
    PAUSES,
    Connection,
    is_too_long,
    pause,
    pieces,
    retry_after,
)
from chalkcompute.registry.descriptors import hasher_for
from chalkcompute.registry.failures import corrupt, transport_failure
from chalkcompute.registry.progress import OnBytes, Progress

__all__ = ["download", "file_matches"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


def download(
    connection: Connection,
    path: str,
    digest: str,
    size: int,
    into: Path,
    *,
    scopes: Sequence[str],
    query: Sequence[tuple[str, str]],
    on_bytes: OnBytes | None,
) -> None:
    """Download a blob to `into`, by way of `into` + `.part`.

    Args:
        connection: To its registry.
        path: Of the blob at the registry.
        digest: What it must be.
        size: Its bytes.
        into: Where it comes to be, whole or not at all.
        scopes: What a token must allow.
        query: Query parameters.
        on_bytes: Told of each difference.

    Raises:
        RegistryError: It does not come, or not what the digest says.
        OSError: The file cannot be written.
    """
    _Download(connection, path, digest, size, into, scopes, query, Progress(on_bytes)).run()


def file_matches(file: Path, digest: str) -> bool:
    """Whether a file is what a digest says."""
    hasher = hasher_for(digest)
    with file.open("rb") as stream:
        while piece := stream.read(1024 * 1024):
            hasher.update(piece)
    return hasher.hexdigest() == digest.partition(":")[2]


class _Download:
    def __init__(
        self,
        connection: Connection,
        path: str,
        digest: str,
        size: int,
        into: Path,
        scopes: Sequence[str],
        query: Sequence[tuple[str, str]],
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._path = path
        self._digest = digest
        self._size = size
        self._into = into
        self._part = into.with_name(into.name + ".part")
        self._scopes = scopes
        self._query = query
        self._progress = progress
        self._what = f"blob `{digest}`"
        self._wait: float | None = None  # that the registry asked for last

    def run(self) -> None:
        try:
            self._run()
        finally:
            # Nothing is left of a download that never began.
            if self._part.exists() and self._part.stat().st_size == 0:
                self._part.unlink()

    def _run(self) -> None:
        have = self._part_size()
        # What an earlier run left may be spoilt; what this one wrote is the registry's fault.
        is_old = have > 0
        best, failures = have, 0
        while True:
            self._progress.at(have)
            if have == self._size:
                if self._keep():
                    return
                self._progress.at(0)
                if not is_old:
                    raise corrupt(self._connection.host, self._what, "its digest is another")
                is_old, have, best = False, 0, 0
                continue
            failure = self._fetch(have)
            have = self._part_size()
            if have == self._size:
                continue
            failures = failures + 1 if have <= best else 0
            best = max(best, have)
            if failures > len(PAUSES) or (failures and _is_hopeless(failure)):
                raise failure
            pause(PAUSES[max(failures - 1, 0)] if self._wait is None else self._wait)

    def _part_size(self) -> int:
        """Bytes of the part; one that is too long is none."""
        with self._part.open("ab") as stream:
            length = stream.tell()
            if length > self._size:
                stream.truncate(0)
                return 0
            return length

    def _keep(self) -> bool:
        """Move the part to its place when it is what it should be, or else remove it."""
        if not file_matches(self._part, self._digest):
            self._part.unlink()
            return False
        self._part.replace(self._into)
        return True

    def _fetch(self, have: int) -> RegistryError:
        """Get what is missing; the failure is what to say when it did not come."""
        headers = {"Range": f"bytes={have}-"} if have else {}
        host, connection = self._connection.host, self._connection
        self._wait = None
        try:
            with connection.stream(
                "GET", self._path, self._what, scopes=self._scopes, query=self._query, headers=headers
            ) as response:
                if response.status_code in (200, 206):
                    self._write(response, have)
                    return RegistryError(f"`{host}` stopped in the middle of {self._what}", hint="try again")
                if response.status_code == 416:
                    self._part.unlink()
                answer = connection.read(response)
                failure = connection.failure(answer, self._what, self._scopes)
        except httpx.HTTPError as error:
            failure = transport_failure(host, self._what, error)
            failure.__cause__ = error
            return failure
        self._wait = retry_after(answer.headers)
        if is_too_long(self._wait) or not (answer.status in (416, 429) or answer.status in PASSING):
            raise failure
        return failure

    def _write(self, response: httpx.Response, have: int) -> None:
        offset = 0
        if response.status_code == 206:
            found = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
            offset = int(found[1]) if found else -1
            if offset != have:
                # Not the part that was asked for: nothing is known of what we have.
                self._part.unlink()
                return
        length = response.headers.get("content-length", "")
        if length.isascii() and length.isdigit() and offset + int(length) != self._size:
            self._part.unlink()
            raise self._of_other_size()
        self._progress.at(offset)
        self._part.touch()
        with self._part.open("r+b") as stream:
            stream.truncate(offset)
            stream.seek(offset)
            for piece in pieces(response):
                offset += len(piece)
                if offset > self._size:
                    self._part.unlink()
                    raise self._of_other_size()
                stream.write(piece)
                self._progress.add(len(piece))

    def _of_other_size(self) -> RegistryError:
        return corrupt(self._connection.host, self._what, f"it should have {self._size} bytes")


def _is_hopeless(failure: RegistryError) -> bool:
    """Whether waiting a moment does not help: nothing listens there, or the name or certificate is wrong."""
    return isinstance(failure.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
