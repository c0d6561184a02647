"""One registry, by the OCI Distribution Specification: manifests and blobs, to and fro."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from chalkcompute.errors import RegistryAuthError, RegistryError
from chalkcompute.registry.connection import Answer, Connection
from chalkcompute.registry.credentials import CredentialSource
from chalkcompute.registry.descriptors import (
    ACCEPT,
    MANIFEST_LIMIT,
    Descriptor,
    FetchedManifest,
    digest_of,
    hasher_for,
    parse_manifest,
)
from chalkcompute.registry.download import download
from chalkcompute.registry.failures import corrupt
from chalkcompute.registry.reference import check_digest, check_repository, check_tag
from chalkcompute.registry.upload import upload

__all__ = ["Registry"]

# `299 AGENT "TEXT"`, as the distribution specification has registries warn.
_WARNING = re.compile(r'299[ \t]+\S+[ \t]+"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


class Registry:
    """One registry; threads may share it.

    A registry on this machine (`localhost`, 127.0.0.0/8, `::1`) is spoken to over plain http unless it
    speaks only TLS, and never through a proxy. All others are spoken to over https, by the proxy and
    certificate settings of the environment. A connect takes at most 5 s.

    Args:
        host: As in a reference: `docker.io`, `ghcr.io`, `localhost:5000`.
        credentials: Where its credentials are; None is anonymous.
        ca_file: PEM file of certificate authorities to trust besides the usual ones; None reads the
            environment variable `CHALK_REGISTRY_CA_FILE`.
        transport: httpx transport instead of the network.
    """

    def __init__(
        self,
        host: str,
        *,
        credentials: CredentialSource | None = None,
        ca_file: Path | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(host, credentials=credentials, ca_file=ca_file, transport=transport)
        self._host = self._connection.host

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Registry({self._host!r})"

    @property
    def host(self) -> str:
        """The registry as references name it: `docker.io`, `localhost:5000`."""
        return self._host

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def manifest(self, repository: str, reference: str, *, namespace: str | None = None) -> FetchedManifest:
        """A manifest or an index, its digest verified.

        Args:
            repository: Such as `library/python`.
            reference: A tag or a digest.
            namespace: The registry that this one is to pass through (query `ns`), None for itself.

        Raises:
            ImageNotFoundError: There is none.
            RegistryError: It cannot be had, has more than 4 MiB, or is not what its digest says.
        """
        what = _manifest_name(repository, reference)
        answer = self._connection.request(
            "GET",
            f"/v2/{repository}/manifests/{reference}",
            what,
            scopes=_pull(repository),
            expect=(200,),
            query=_namespace(namespace),
            headers={"Accept": ACCEPT},
            limit=MANIFEST_LIMIT,
        )
        said = answer.headers.get("docker-content-digest", "")
        digest = reference if ":" in reference else said or digest_of(answer.body)
        self._verify(answer.body, digest, what)
        _, media_type = parse_manifest(answer.body, answer.headers.get("content-type", ""), what)
        return FetchedManifest(
            Descriptor(media_type, digest, len(answer.body)),
            answer.body,
            warnings=_warnings(answer),
            proxied_for=answer.headers.get("oci-namespace") or None,
        )

    def resolve(self, repository: str, reference: str, *, namespace: str | None = None) -> Descriptor:
        """What a tag points to now, without fetching it; arguments and errors are those of `manifest`."""
        what = _manifest_name(repository, reference)
        answer = self._connection.request(
            "HEAD",
            f"/v2/{repository}/manifests/{reference}",
            what,
            scopes=_pull(repository),
            expect=(200, 405),
            query=_namespace(namespace),
            headers={"Accept": ACCEPT},
        )
        digest = answer.headers.get("docker-content-digest", "")
        length = answer.headers.get("content-length", "")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
        if answer.status == 200 and digest and length.isascii() and length.isdigit() and media_type:
            self._check_answered(digest, what)
            if ":" in reference and digest != reference:
                raise corrupt(self._host, what, "its digest is another")
            return Descriptor(media_type, digest, int(length))
        return self.manifest(repository, reference, namespace=namespace).descriptor

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether the repository has a blob, as far as the registry tells.

        Raises:
            RegistryError: The registry cannot be asked.
        """
        return self._has_blob(repository, digest, _pull(repository))

    def _has_blob(self, repository: str, digest: str, scopes: Sequence[str]) -> bool:
        what = f"blob `{digest}`"
        answer = self._connection.request(
            "HEAD", _blob_path(repository, digest), what, scopes=scopes, expect=(200, 403, 404, 405)
        )
        # A store that the registry redirects to may allow GET only: then nobody can tell.
        if answer.status in (403, 405) and self._connection.is_ours(answer.url):
            raise self._connection.failure(answer, what, scopes)
        return answer.status == 200

    def read_blob(self, repository: str, digest: str, *, limit: int, namespace: str | None = None) -> bytes:
        """A small blob, verified.

        Args:
            repository: Where it is.
            digest: Which.
            limit: Bytes; more is an error.
            namespace: As of `manifest`.

        Raises:
            ImageNotFoundError: There is none.
            RegistryError: It cannot be had, is larger, or is not what its digest says.
        """
        what = f"blob `{digest}`"
        answer = self._connection.request(
            "GET",
            _blob_path(repository, digest),
            what,
            scopes=_pull(repository),
            expect=(200,),
            query=_namespace(namespace),
            limit=limit,
        )
        self._verify(answer.body, digest, what)
        return answer.body

    def download_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        into: Path,
        *,
        namespace: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """A blob into a file, which comes to be whole and verified or not at all.

        It is written to `into` + `.part`, which stays when the connection breaks for good, so that the
        next call goes on from there. One file is to be downloaded by one caller at a time.

        Args:
            repository: Where it is.
            digest: Which.
            size: Its bytes, by its descriptor.
            into: The file; its folder must exist.
            namespace: As of `manifest`.
            on_bytes: Called with the number of bytes added, those of an earlier call first; a negative
                number when it begins anew.

        Raises:
            ImageNotFoundError: There is none.
            RegistryError: It cannot be had, or is not what its digest says.
            OSError: The file cannot be written.
        """
        path = _blob_path(repository, digest)
        download(
            self._connection,
            path,
            digest,
            size,
            into,
            scopes=_pull(repository),
            query=_namespace(namespace),
            on_bytes=on_bytes,
        )

    def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        """Have a blob of another repository of this registry, without sending it.

        Args:
            repository: Where it is to be.
            digest: Which.
            source: Repository that has it.

        Returns:
            Whether the registry did it; if not, push it.

        Raises:
            RegistryError: The registry cannot be reached, or fails.
        """
        check_repository(source)
        check_digest(digest)
        what = f"the mount of blob `{digest}` from `{source}` to `{check_repository(repository)}`"
        scopes = [*_push(repository), *_pull(source)]
        try:
            answer = self._connection.request(
                "POST",
                f"/v2/{repository}/blobs/uploads/",
                what,
                scopes=scopes,
                # A registry that may not or cannot mount says so in many ways; the push says what is wrong.
                expect=(201, 202, 400, 403, 404, 405),
                query=[("mount", digest), ("from", source)],
                headers={"Content-Length": "0"},
            )
        except RegistryAuthError:
            return False
        location = answer.headers.get("location")
        if answer.status == 202 and location:
            self._cancel(self._connection.join(answer.url, location), scopes)
        return answer.status == 201

    def _cancel(self, location: httpx.URL, scopes: Sequence[str]) -> None:
        """Tell the registry that the upload it began is not wanted; it forgets it by itself, too."""
        try:
            self._connection.request(
                "DELETE", location, "an upload", scopes=scopes, expect=(200, 202, 204), repeat=False
            )
        except RegistryError:
            return

    def push_blob(
        self,
        repository: str,
        digest: str,
        size: int,
        source: Path,
        *,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """Push a blob, unless the repository has it.

        Large ones go in chunks, and go on after a broken connection from where the registry got to.

        Args:
            repository: Where it goes.
            digest: What the file is.
            size: Its bytes.
            source: The file; it must not change meanwhile.
            on_bytes: Called with the number of bytes added; a negative number when it begins anew.

        Raises:
            RegistryError: It cannot be pushed, or the file is not what `digest` and `size` say.
            OSError: The file cannot be read.
        """
        scopes = _push(repository)
        if self._has_blob(repository, digest, scopes):
            if on_bytes is not None:
                on_bytes(size)
            return
        upload(self._connection, repository, digest, size, source, scopes=scopes, on_bytes=on_bytes)

    def push_manifest(self, repository: str, reference: str, media_type: str, raw: bytes) -> str:
        """Push a manifest or an index, whose blobs are there already.

        Args:
            repository: Where it goes.
            reference: The tag it gets, or its digest.
            media_type: Its media type.
            raw: Its bytes.

        Returns:
            Its digest.

        Raises:
            RegistryError: The registry does not take it, or stored something else.
        """
        what = f"the push of {_manifest_name(repository, reference)}"
        if len(raw) > MANIFEST_LIMIT:
            raise RegistryError(f"the manifest for `{repository}` has more than {MANIFEST_LIMIT} bytes")
        digest = reference if ":" in reference else digest_of(raw)
        self._verify(raw, digest, what)
        answer = self._connection.request(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            what,
            scopes=_push(repository),
            expect=(200, 201, 202),
            headers={"Content-Type": media_type, "Content-Length": str(len(raw))},
            content=lambda: [raw],
        )
        stored = answer.headers.get("docker-content-digest", "")
        if stored:
            self._check_answered(stored, what)
            self._verify(raw, stored, what)
        return digest

    def _verify(self, raw: bytes, digest: str, what: str) -> None:
        self._check_answered(digest, what)
        hasher = hasher_for(digest)
        hasher.update(raw)
        if hasher.hexdigest() != digest.partition(":")[2]:
            raise corrupt(self._host, what, "its digest is another")

    def _check_answered(self, digest: str, what: str) -> None:
        try:
            check_digest(digest)
        except ValueError:
            raise corrupt(self._host, what, "what should be its digest is none") from None


def _pull(repository: str) -> list[str]:
    return [f"repository:{check_repository(repository)}:pull"]


def _push(repository: str) -> list[str]:
    return [f"repository:{check_repository(repository)}:pull,push"]


def _namespace(namespace: str | None) -> list[tuple[str, str]]:
    return [("ns", namespace)] if namespace is not None else []


def _manifest_name(repository: str, reference: str) -> str:
    """The words for a manifest; both names are checked, as they stand in a path next."""
    check_repository(repository)
    if ":" in reference:
        return f"manifest `{check_digest(reference)}` of `{repository}`"
    return f"manifest `{check_tag(reference)}` of `{repository}`"


def _blob_path(repository: str, digest: str) -> str:
    return f"/v2/{check_repository(repository)}/blobs/{check_digest(digest)}"


def _warnings(answer: Answer) -> tuple[str, ...]:
    texts = [
        _ESCAPED.sub(r"\1", text)
        for header in answer.headers.get_list("warning")
        for text in _WARNING.findall(header)
    ]
    # They are printed on terminals: no control characters.
    return tuple("".join(c if c.isprintable() else " " for c in text) for text in texts)
