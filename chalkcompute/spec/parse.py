"""The command line's comma forms: `a=1,b=2`, `python,-m,x`; CSV quoting (RFC 4180) for a comma inside."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import quoted
from chalkcompute.spec.environment import is_variable, validate_entrypoint, validate_env
from chalkcompute.spec.mounts import VolumeMount
from chalkcompute.spec.tags import validate_tags

__all__ = [
    "bad_dotenv_line",
    "parse_entrypoint",
    "parse_env",
    "parse_tag",
    "parse_tags",
    "parse_volume",
]


def parse_tags(text: str) -> dict[str, str]:
    """Read `team=ml,version=2.1`; empty text is no tags.

    Raises:
        SpecError: An item without `=`, a key given twice, or a key or value no label may have.
    """
    if not text.strip():
        return {}
    return _unique(parse_tag(item) for item in _split(text, "tags"))


def parse_tag(text: str) -> tuple[str, str]:
    """Read one `key=value`; the value may be empty.

    Raises:
        SpecError: No `=` in it, or a key or value no label may have.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise SpecError(f"the tag {quoted(text)} is not `key=value`", field="tags")
    key, value = key.strip(), value.strip()
    validate_tags({key: value})
    return key, value


def parse_env(text: str) -> tuple[str, str]:
    """Read one `NAME=value`; the value is literal, white space and all.

    Raises:
        SpecError: No `=` in it, or a name no shell could read. The value is never in the message.
    """
    name, equals, value = text.partition("=")
    if not equals:
        # What was typed may be a bare secret.
        raise SpecError("an environment variable is not `NAME=value`: it has no `=`", field="env")
    validate_env({name: value})
    return name, value


def parse_volume(text: str) -> VolumeMount:
    """Read one `NAME:/path`, or `NAME:/path:ro`.

    Raises:
        SpecError: It has another form, or a name or a path that cannot be.
    """
    name, colon, rest = text.partition(":")
    path, ends, access = rest.partition(":")
    if not colon or (ends and access not in ("ro", "rw")):
        raise SpecError(
            f"the volume {quoted(text)} is not `NAME:/path` or `NAME:/path:ro`",
            field="volumes",
            hint="for example `training-data:/data`",
        )
    return VolumeMount(name, path, read_only=access == "ro")


def bad_dotenv_line(text: str, *, strict: bool = False) -> int | None:
    """The number of the first line of a dotenv file that python-dotenv cannot read, or None.

    Args:
        text: The file.
        strict: Count as such a line a variable without `=` and value, and a name that no variable can have:
            of a key that was pasted over several lines, one that ends in `=` looks like that.
    """
    from dotenv.parser import parse_stream

    for binding in parse_stream(io.StringIO(text)):
        name = binding.key
        if binding.error or (
            strict and name is not None and (binding.value is None or not is_variable(name))
        ):
            source = binding.original.string
            return binding.original.line + source[: len(source) - len(source.lstrip())].count("\n")
    return None


def parse_entrypoint(text: str) -> tuple[str, ...]:
    """Read `python,-m,http.server,8000`, or a JSON array of texts.

    Raises:
        SpecError: Nothing in it, an empty item, or quoting or JSON that does not end.
    """
    if text.lstrip().startswith("["):
        return validate_entrypoint(_json_array(text))
    return validate_entrypoint(_split(text, "entrypoint"))


def _json_array(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(
            f"`entrypoint` {quoted(text)} starts like a JSON array and is not one: {error}",
            field="entrypoint",
            hint='write `["python", "-m", "http.server"]`, or items with commas between',
        ) from error


def _split(text: str, field: str) -> list[str]:
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise SpecError(
            f"`{field}` {quoted(text)} has quotes that do not match",
            field=field,
            hint='quote a whole item, `"a,b"`, and double a quote inside it',
        ) from error
    return rows[0] if rows else []


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in pairs:
        if key in tags:
            raise SpecError(f"the tag `{key}` is given twice", field="tags")
        tags[key] = value
    return tags
