"""What `call()` sends: checked before anything is sent, built anew for every attempt."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chalkcompute.errors import SpecError

if TYPE_CHECKING:
    import httpx

__all__ = ["Call", "join"]

_LONGEST = 7 * 24 * 3600  # far below what a socket's timeout cannot hold
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_HEADER_VALUE = re.compile(r"([!-~]([ \t!-~]*[!-~])?)?")  # section 5.5, of ASCII only, as httpx sends it


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What to send.

    Attributes:
        path: Path below the group's URL; a query in it is kept.
        method: HTTP method.
        json: Body as JSON.
        data: Form fields.
        content: Raw body.
        headers: Request headers.
        params: Query parameters.
        timeout: Seconds for each attempt, besides those that it may be held for a first replica.
        cold_start_timeout: Seconds to go on trying, or to be held, while there is no replica; 0 tries once.

    Raises:
        SpecError: It can be no request; `field` names the argument.
    """

    path: str = "/"
    method: str = "POST"
    json: Any = None
    data: Mapping[str, Any] | None = None
    content: str | bytes | Iterable[bytes] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] | None = None
    timeout: float = 30.0
    cold_start_timeout: float = 300.0

    def __post_init__(self) -> None:
        bodies = [name for name in ("json", "data", "content") if getattr(self, name) is not None]
        if len(bodies) > 1:
            raise SpecError(
                f"{' and '.join(f'`{name}`' for name in bodies)} are both given: a request has one body",
                field=bodies[1],
            )
        if not isinstance(self.path, str):
            raise SpecError(f"`path` must be a string, not {_type(self.path)}", field="path")
        if not isinstance(self.method, str) or not _TOKEN.fullmatch(self.method):
            raise SpecError(
                f"`method` {self.method!r} is no HTTP method", field="method", hint="for example GET or POST"
            )
        _check_headers(self.headers)
        if self.content is not None and not isinstance(self.content, str | bytes):
            if not isinstance(self.content, Iterable):
                raise SpecError(
                    f"`content` must be text or bytes, not {_type(self.content)}", field="content"
                )
            object.__setattr__(self, "content", _only_bytes(self.content))
        _check_fields("params", self.params)
        _check_fields("data", self.data)
        _check_seconds("timeout", self.timeout, zero=False)
        _check_seconds("cold_start_timeout", self.cold_start_timeout, zero=True)

    @property
    def replayable(self) -> bool:
        """Whether the body can be sent a second time."""
        return self.content is None or isinstance(self.content, str | bytes)

    def build(self, client: httpx.Client, web_url: str, *, held: float = 0.0) -> httpx.Request:
        """The request.

        Args:
            client: Whose request it is.
            web_url: The group's URL.
            held: Seconds that it may be held for a first replica, on top of `timeout`.

        Raises:
            SpecError: It cannot be made of this: a body that is no JSON, a path that is no part of a URL.
        """
        import httpx

        content: str | bytes | Iterable[bytes] | AsyncIterable[bytes] | None = self.content
        try:
            url = httpx.URL(join(web_url, self.path))
            if self.params:
                url = url.copy_merge_params(dict(self.params))
            usual, longest = client.timeout, self.timeout + held
            return client.build_request(
                self.method,
                url,
                json=self.json,
                data=self.data,
                content=content,
                headers=self.headers,
                # Writing may wait as well: of what is held, the body is read in part only.
                timeout=httpx.Timeout(connect=usual.connect, pool=usual.pool, read=longest, write=longest),
            )
        except httpx.InvalidURL as error:
            raise SpecError(f"`path` cannot be part of a URL: {error}", field="path") from error
        except (TypeError, ValueError) as error:
            given = (
                name for name in ("json", "content", "data", "params") if getattr(self, name) is not None
            )
            body = next(given, "path")
            raise SpecError(f"`{body}` cannot be sent: {error}", field=body) from error


def _only_bytes(chunks: Iterable[object]) -> Iterator[bytes]:
    """The chunks as they are sent; whatever is no bytes ends the request."""
    for chunk in chunks:
        if not isinstance(chunk, bytes):
            raise SpecError(f"`content`: each item must be bytes, not {_type(chunk)}", field="content")
        yield chunk


def join(web_url: str, path: str) -> str:
    """`web_url` and `path` with exactly one slash between them."""
    return f"{web_url.rstrip('/')}/{path.lstrip('/')}"


def _check_headers(headers: object) -> None:
    for name, value in _mapping("headers", headers).items():
        if not _TOKEN.fullmatch(name):
            raise SpecError(f"`headers`: {name!r} is no name of a header", field="headers")
        if not isinstance(value, str):
            raise SpecError(f"`headers`: `{name}` must be a string, not {_type(value)}", field="headers")
        if not _HEADER_VALUE.fullmatch(value):  # not shown: it may be a credential
            raise SpecError(
                f"`headers`: the value of `{name}` has characters that a header cannot have",
                field="headers",
                hint="printable ASCII, without a line break and without a space at either end",
            )


def _check_fields(argument: str, fields: object) -> None:
    for name, value in _mapping(argument, fields if fields is not None else {}).items():
        for each in value if isinstance(value, list | tuple) else (value,):
            if each is not None and not isinstance(each, str | int | float):
                raise SpecError(
                    f"`{argument}`: `{name}` must be text, a number, a truth value, or a list of these, "
                    f"not {_type(each)}",
                    field=argument,
                )


def _mapping(argument: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SpecError(f"`{argument}` must be a dictionary with names as keys", field=argument)
    return value


def _check_seconds(argument: str, value: object, *, zero: bool) -> None:
    fits = isinstance(value, int | float) and (0 < value <= _LONGEST or (zero and value == 0))
    if not fits:
        least = f"{'0 or more' if zero else 'more than 0'} and at most {_LONGEST}"
        raise SpecError(f"`{argument}` must be a number of seconds, {least}, not {value!r}", field=argument)


def _type(value: object) -> str:
    return f"`{type(value).__name__}`"
