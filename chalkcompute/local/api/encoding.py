"""Bodies in and out: JSON and YAML, and which form of an answer the client asked for.

`Accept` chooses between the object itself, a server-printed Table, and metadata only; `kubectl`
asks for Tables, garbage collectors and our own status reads ask for metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from chalkcompute.local.api import protobuf
from chalkcompute.local.api.failures import bad_request, not_acceptable
from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.ports import Manifest

__all__ = ["Accepted", "accepted", "answer_read", "dumps", "metadata_only", "parse_body"]

JSON = "application/json"
YAML = "application/yaml"
AGGREGATED_DISCOVERY = "APIGroupDiscoveryList"
_FORMS = ("Table", "PartialObjectMetadata", "PartialObjectMetadataList", AGGREGATED_DISCOVERY)
_YAML_TYPES = (YAML, "application/x-yaml", "text/yaml")

# libyaml is ten times as fast; PyYAML comes without it on some platforms.
_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _NoTimestamps(_YamlLoader):  # type: ignore[misc]  # a base chosen at run time
    """YAML as Kubernetes reads it: a date is a string."""


_NoTimestamps.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _YamlLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """The form of an answer.

    Attributes:
        media_type: `application/json` or `application/yaml`.
        form: "" for the object itself, or the `as=` parameter.
        version: Version of the form (`v1`, `v2`), "" when `form` is "".
    """

    media_type: str = JSON
    form: str = ""
    version: str = ""


def accepted(header: str, *, forms: tuple[str, ...] = _FORMS) -> Accepted:
    """The first entry of an `Accept` header that can be served.

    Raises:
        StatusError: 406 NotAcceptable when there is none.
    """
    if not header:
        return Accepted()
    for named, parameters in _entries(header):
        media_type = JSON if named in ("*/*", "application/*") else named
        if media_type not in (JSON, YAML):
            continue
        form, version = parameters.get("as", ""), parameters.get("v", "")
        if not form:
            return Accepted(media_type)
        if form in forms and version in ("v1", "v2") and (version == "v2") == (form == AGGREGATED_DISCOVERY):
            return Accepted(media_type, form, version)
    raise not_acceptable()


def _entries(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for entry in header.split(","):
        media_type, *rest = (part.strip() for part in entry.split(";"))
        yield media_type.lower(), dict(part.split("=", 1) for part in rest if "=" in part)


def parse_body(raw: bytes, content_type: str, kind: str) -> Any:
    """A request's body: YAML when the type says so, else JSON. Empty is None.

    Raises:
        StatusError: 400 for what cannot be parsed, 415 for another media type.
    """
    media_type = content_type.split(";", maxsplit=1)[0].strip().lower()
    if not raw:
        return None
    try:
        if media_type in _YAML_TYPES or media_type.endswith("+yaml"):
            return yaml.load(raw, Loader=_NoTimestamps)
        if media_type in ("", JSON, "*/*") or media_type.endswith("+json"):
            return json.loads(raw)
        if media_type == protobuf.MEDIA_TYPE:
            return protobuf.decode_protobuf(raw)
    except (ValueError, yaml.YAMLError) as exc:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"{'yaml' if 'yaml' in media_type else 'json'} parse error: {exc}"
        ) from exc
    raise unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json, application/yaml"
    )


def unsupported_media_type(message: str) -> StatusError:
    return StatusError(415, "UnsupportedMediaType", message)


def dumps(value: Any, media_type: str = JSON) -> bytes:
    """A body as bytes."""
    if media_type == YAML:
        return yaml.safe_dump(value, sort_keys=False).encode()
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def answer_read(
    header: str,
    kind: str,
    api_version: str,
    found: list[Manifest],
    *,
    one: bool,
    table: Callable[[], Manifest],
) -> tuple[bytes, str]:
    """The answer to a read of objects that are made when they are asked for: its body and media type.

    Args:
        header: `Accept`.
        kind: Kind of the objects, which do not name it.
        api_version: Their `apiVersion`.
        found: The objects.
        one: Whether one was asked for by name, which is there.
        table: Makes the table of them.

    Raises:
        StatusError: 406.
    """
    wanted = accepted(header)
    answer: Manifest
    if wanted.form == "Table":
        answer = table()
    elif wanted.form:
        raise not_acceptable()
    elif one:
        answer = {"kind": kind, "apiVersion": api_version, **found[0]}
    else:
        answer = {"kind": f"{kind}List", "apiVersion": api_version, "metadata": {}, "items": found}
    return dumps(answer, wanted.media_type), wanted.media_type


def metadata_only(obj: Manifest) -> Manifest:
    """`PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def presented(kind: Kind, obj: Manifest, api_version: str) -> Manifest:
    """A stored object as served under an API version."""
    return {**obj, "kind": obj.get("kind") or kind.kind, "apiVersion": api_version}
