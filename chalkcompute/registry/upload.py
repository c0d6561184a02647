"""A blob from a file to a registry: in chunks, going on after broken connections, anew when all is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from chalkcompute.errors import RegistryError
from chalkcompute.registry.connection import PASSING, PAUSES, Answer, Connection, Content, pause
from chalkcompute.registry.download import file_matches
from chalkcompute.registry.progress import OnBytes, Progress

__all__ = ["CHUNK", "upload"]

# A multiple of 256 KiB, as Google's registries demand, and above the 5 MiB that parts of S3 must have.
CHUNK = 16 * 1024 * 1024

_PIECE = 1024 * 1024
_SESSIONS = 4
_STALLS = 5
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
# How registries say that they do not take a blob in chunks.
_NO_CHUNKS = frozenset({400, 405, 411, 415, 501})


def upload(
    connection: Connection,
    repository: str,
    digest: str,
    size: int,
    source: Path,
    *,
    scopes: Sequence[str],
    on_bytes: OnBytes | None,
) -> None:
    """Push a blob that the registry does not have.

    Args:
        connection: To the registry.
        repository: Where it goes.
        digest: What the file is.
        size: Its bytes.
        source: The file.
        scopes: What a token must allow.
        on_bytes: Told of each difference.

    Raises:
        RegistryError: It cannot be pushed, or the file is not what `digest` and `size` say.
        OSError: The file cannot be read.
    """
    if source.stat().st_size != size:
        raise _changed(source, digest)
    _Upload(connection, repository, digest, size, source, scopes, Progress(on_bytes)).run()


class _SessionLostError(Exception):
    """The registry forgot the upload; `failure` is what to say when beginning anew does not help either."""

    def __init__(self, failure: RegistryError) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Upload:
    def __init__(
        self,
        connection: Connection,
        repository: str,
        digest: str,
        size: int,
        source: Path,
        scopes: Sequence[str],
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._blobs = f"/v2/{repository}/blobs"
        self._digest = digest
        self._size = size
        self._source = source
        self._scopes = scopes
        self._progress = progress
        self._what = f"the push of blob `{digest}` to `{repository}`"
        self._chunk = CHUNK
        self._whole = False
        self._stalls = 0

    def run(self) -> None:
        for session in range(_SESSIONS):
            try:
                self._session()
            except _SessionLostError as lost:
                if self._is_there():
                    break
                if session == _SESSIONS - 1:
                    raise lost.failure from None
                self._progress.at(0)
                pause(PAUSES[min(session, len(PAUSES) - 1)])
            else:
                break
        self._progress.at(self._size)

    def _session(self) -> None:
        location = self._start()
        if self._whole or self._size <= self._chunk:
            self._finish(location, 0)
            return
        offset = 0
        while offset < self._size:
            location, offset = self._patch(location, offset)
            self._progress.at(offset)
        self._finish(location, self._size)

    def _start(self) -> httpx.URL:
        answer = self._connection.request(
            "POST",
            f"{self._blobs}/uploads/",
            self._what,
            scopes=self._scopes,
            expect=(202,),
            headers={"Content-Length": "0"},
        )
        least = answer.headers.get("oci-chunk-min-length", "")
        if least.isascii() and least.isdigit():
            self._chunk = max(CHUNK, int(least))
        return self._location(answer, None)

    def _location(self, answer: Answer, before: httpx.URL | None) -> httpx.URL:
        location = answer.headers.get("location")
        if location:
            return self._connection.join(answer.url, location)
        if before is None:
            raise RegistryError(f"`{self._connection.host}` begins {self._what} and does not say where")
        return before

    def _patch(self, location: httpx.URL, offset: int) -> tuple[httpx.URL, int]:
        """Send a chunk; where the upload goes on, and at which byte."""
        end = min(offset + self._chunk, self._size)
        try:
            answer = self._connection.request(
                "PATCH",
                location,
                self._what,
                scopes=self._scopes,
                expect=(201, 202, 204),
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(end - offset),
                    "Content-Range": f"{offset}-{end - 1}",
                },
                content=self._content(offset, end),
                repeat=False,
            )
        except RegistryError as failure:
            if failure.status is None or failure.status == 416 or failure.status in PASSING:
                return self._ask(location, offset, failure)
            if failure.status in _NO_CHUNKS:
                self._whole = True
            elif failure.status != 404:
                raise
            raise _SessionLostError(failure) from failure
        reached = _reached(answer, end)
        if not offset < reached <= self._size:
            self._whole = True
            odd = RegistryError(
                f"`{self._connection.host}` loses count in {self._what}", status=answer.status
            )
            raise _SessionLostError(odd)
        self._stalls = 0
        return self._location(answer, location), reached

    def _ask(self, location: httpx.URL, offset: int, failure: RegistryError) -> tuple[httpx.URL, int]:
        """Ask the registry how much it has, until it answers; it may be starting anew."""
        while self._stalls < _STALLS:
            pause(PAUSES[min(self._stalls, len(PAUSES) - 1)])
            self._stalls += 1
            try:
                answer = self._connection.request(
                    "GET", location, self._what, scopes=self._scopes, expect=(200, 202, 204), repeat=False
                )
            except RegistryError as error:
                if error.status is None or error.status in PASSING:
                    continue
                raise _SessionLostError(failure) from error
            reached = _reached(answer, 0)
            if reached > self._size:
                raise _SessionLostError(failure)
            if failure.status == 416 and reached == offset:
                # It has what we think it has, and refuses the range all the same.
                self._whole = True
                raise _SessionLostError(failure)
            return self._location(answer, location), reached
        raise failure

    def _finish(self, location: httpx.URL, offset: int) -> None:
        """Send the rest and the digest."""
        text = str(location)
        url = httpx.URL(f"{text}{'&' if '?' in text else '?'}digest={self._digest}")
        try:
            answer = self._connection.request(
                "PUT",
                url,
                self._what,
                scopes=self._scopes,
                expect=(201, 202, 204),
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(self._size - offset),
                },
                content=self._content(offset, self._size),
                repeat=False,
            )
        except RegistryError as failure:
            if failure.status == 400 and not file_matches(self._source, self._digest):
                raise _changed(self._source, self._digest) from failure
            if failure.status in (None, 400, 404, 416) or failure.status in PASSING:
                raise _SessionLostError(failure) from failure
            raise
        stored = answer.headers.get("docker-content-digest", self._digest)
        if stored.partition(":")[0] == self._digest.partition(":")[0] and stored != self._digest:
            raise RegistryError(f"`{self._connection.host}` stored something else in {self._what}")

    def _content(self, start: int, end: int) -> Content:
        def read() -> Iterator[bytes]:
            self._progress.at(start)
            with self._source.open("rb") as stream:
                stream.seek(start)
                left = end - start
                while left:
                    piece = stream.read(min(_PIECE, left))
                    if not piece:
                        raise _changed(self._source, self._digest)
                    left -= len(piece)
                    yield piece
                    self._progress.add(len(piece))

        return read

    def _is_there(self) -> bool:
        """Whether the blob came to be although its last answer did not reach us."""
        answer = self._connection.request(
            "HEAD",
            f"{self._blobs}/{self._digest}",
            self._what,
            scopes=self._scopes,
            expect=(200, 404),
        )
        return answer.status == 200


def _reached(answer: Answer, otherwise: int) -> int:
    """Bytes that the registry has by its `Range` header; `0-0` is how Docker's registry says none."""
    found = _RANGE.fullmatch(answer.headers.get("range", ""))
    if found is None:
        return otherwise
    last = int(found[1])
    return last + 1 if last else 0


def _changed(source: Path, digest: str) -> RegistryError:
    return RegistryError(
        f"`{source}` is not `{digest}`: it was changed or cut off meanwhile", code="DIGEST_INVALID"
    )
