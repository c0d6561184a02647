"""From a request's JSON to an object as the server holds it: types, unknown fields, canonical values.

A built-in kind goes through a Go struct: nulls and zero values disappear, quantities and times become
canonical, plain structs are always there. A custom kind keeps its JSON; only undeclared fields go.
Source: sigs.k8s.io/json, k8s.io/apimachinery `pkg/runtime/serializer`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.quantity import PATTERN_MESSAGE, canonical_quantity
from chalkcompute.local.apimachinery.schema import Schema, field_schema
from chalkcompute.local.apimachinery.status import StatusError

__all__ = ["ConversionError", "convert", "decode", "empty_struct", "find_duplicates"]

_BOUNDS = {"int32": 2**31, "int64": 2**63}
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)",
)
# Items of lists whose defaults are filled in where there is none: an empty one comes to validation as it is.
_EMPTY_REFUSED = ("HPAScalingPolicy",)
_DEPTH_MAX = 1000  # deeper than any object, shallower than the interpreter's own limit


class ConversionError(ValueError):
    """A value does not fit its field; the message is the decoder's."""


@dataclass(slots=True)
class _Walk:
    """One conversion: what was unknown on the way, and whether Go's zero values go."""

    custom: bool
    unknown: list[str] = field(default_factory=list)


def decode(
    kind: Kind, body: Any, field_validation: str = "Warn", *, duplicates: Sequence[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """A request's body as an object of the kind, and warnings to send along.

    Args:
        kind: What the path serves.
        body: The parsed JSON.
        field_validation: `Strict` refuses unknown fields, `Warn` reports them, `Ignore` drops them.
        duplicates: Fields that the text gave twice (`find_duplicates`).

    Raises:
        StatusError: 400 BadRequest, as the real decoder words it.
    """
    if not isinstance(body, dict):
        raise _bad(f"the object provided is unrecognized (must be of type {kind.kind}): not a JSON object")
    _check_kind(kind, body)
    try:
        obj, unknown = convert(kind, body)
    except ConversionError as error:
        raise _bad(_cannot(kind, str(error))) from error
    problems = [f'duplicate field "{path}"' for path in duplicates] + [
        f'unknown field "{p}"' for p in unknown
    ]
    if problems and field_validation == "Strict":
        raise _bad(_cannot(kind, "strict decoding error: " + ", ".join(problems)))
    return obj, problems if field_validation == "Warn" else []


def convert(kind: Kind, body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """An object as the server holds it, and the paths of undeclared fields that it lost.

    Raises:
        ConversionError: A value does not fit its field.
    """
    walk = _Walk(kind.custom)
    schema = field_schema(kind)
    out: dict[str, Any] = {
        "kind": body.get("kind") or kind.kind,
        "apiVersion": body.get("apiVersion") or kind.api_version,
    }
    try:
        converted = _object(
            schema, {k: v for k, v in body.items() if k not in ("kind", "apiVersion")}, "", walk
        )
    except RecursionError as error:
        raise ConversionError("exceeded max depth") from error
    out.update(converted)
    out.setdefault("metadata", {})
    if kind.kind == "Secret":
        _merge_string_data(out)
    return out, walk.unknown


def find_duplicates(text: str) -> list[str]:
    """Paths of the fields that a JSON text gives more than once; [] when it is no JSON."""
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> Any:
        seen: dict[str, Any] = {}
        repeated = []
        for name, value in items:
            if name in seen and name not in repeated:
                repeated.append(name)
            seen[name] = value
        return _Node(seen, repeated)

    try:
        root = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return []
    waiting: list[tuple[str, Any]] = [("", root)]
    while waiting:
        path, node = waiting.pop(0)
        if isinstance(node, _Node):
            found.extend(_join(path, name) for name in node.repeated)
            waiting.extend((_join(path, name), child) for name, child in node.items.items())
        elif isinstance(node, list):
            waiting.extend((f"{path}[{i}]", child) for i, child in enumerate(node))
    return found


@dataclass(slots=True)
class _Node:
    items: dict[str, Any]
    repeated: list[str]


def _check_kind(kind: Kind, body: dict[str, Any]) -> None:
    given, version = body.get("kind"), body.get("apiVersion")
    for name, value in (("kind", given), ("apiVersion", version)):
        if value is not None and not isinstance(value, str):
            problem = str(_mismatch(value, name, "string"))
            raise _bad(f"couldn't get version/kind; json parse error: {problem}")
    if kind.custom and not (given and version):
        missing = "apiVersion" if given else "Kind"
        raise _bad(f"Object '{missing}' is missing in '{json.dumps(body, sort_keys=True)[:200]}'")
    given, version = given or kind.kind, version or kind.api_version
    accepted = {f"{kind.group}/{v}" if kind.group else v for v in kind.versions}
    if given != kind.kind or version not in accepted:
        short = str(version).rpartition("/")[2]
        raise _bad(
            f'{given} in version "{short}" cannot be handled as a {kind.kind}: '
            f"converting ({short}.{given}) to "
            f"({kind.group.split('.')[0] or 'core'}.{kind.kind}): unknown conversion"
        )


def _cannot(kind: Kind, problem: str) -> str:
    return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {problem}'


def _value(schema: Schema, value: Any, path: str, walk: _Walk) -> Any:
    if schema.type == "object":
        return _object(schema, value, path, walk)
    if schema.type == "array":
        return _array(schema, value, path, walk)
    if schema.type == "any" or (walk.custom and not path.startswith("metadata")):
        return value
    return _scalar(schema, value, path)


def _object(schema: Schema, value: Any, path: str, walk: _Walk) -> Any:
    inside_custom = walk.custom and path and not path.startswith("metadata")
    if not isinstance(value, dict):
        if inside_custom:
            return value
        raise _mismatch(value, path, f"v1.{schema.name}" if schema.name else "map[string]string")
    if path.count(".") > _DEPTH_MAX:
        raise ConversionError("exceeded max depth")
    if schema.open and not schema.fields:
        return value
    if schema.element is not None and not schema.fields:
        return _map(schema.element, value, path, walk)
    out: dict[str, Any] = {}
    for name, child in value.items():
        declared = schema.fields.get(name)
        below = _join(path, name)
        if declared is None:
            if schema.open:
                out[name] = child
            elif path or name not in ("kind", "apiVersion"):
                walk.unknown.append(below)
            continue
        if child is None:
            continue
        converted = _value(declared, child, below, walk)
        if inside_custom or not _omitted(declared, converted, name in schema.required):
            out[name] = converted
    if not inside_custom:
        _complete(schema, out, walk)
    return out


def _complete(schema: Schema, out: dict[str, Any], walk: _Walk) -> None:
    """Plain structs of Go are always there."""
    for name, declared in schema.fields.items():
        if declared.always and name not in out and declared.type == "object":
            out[name] = empty_struct(declared)


def empty_struct(schema: Schema) -> dict[str, Any]:
    """A Go struct that nobody set: its own plain structs, and no more."""
    return {
        name: empty_struct(child)
        for name, child in schema.fields.items()
        if child.always and child.type == "object"
    }


def _omitted(schema: Schema, value: Any, required: bool) -> bool:
    """Whether Go's `omitempty` leaves it out."""
    if schema.element is not None and schema.element.name in _EMPTY_REFUSED:
        return False
    if value == [] or (value == {} and schema.element is not None):
        return not required
    return schema.omit_zero and value in ("", 0, False)


def _map(element: Schema, value: dict[str, Any], path: str, walk: _Walk) -> dict[str, Any]:
    out = {}
    for name, child in value.items():
        if child is None:
            zero: dict[str, Any] = {"string": "", "quantity": "0"}
            if element.type in zero:
                out[name] = zero[element.type]
            continue
        out[name] = _value(element, child, f"{path}[{name}]" if path else name, walk)
    return out


def _array(schema: Schema, value: Any, path: str, walk: _Walk) -> Any:
    if not isinstance(value, list):
        if walk.custom and not path.startswith("metadata"):
            return value
        item_type = schema.element.name if schema.element else ""
        raise _mismatch(value, path, f"[]v1.{item_type}" if item_type else "[]string")
    element = schema.element or Schema("any", open=True)
    blank: Any = {"object": {}, "string": ""}.get(element.type)
    out = []
    for index, item in enumerate(value):
        if item is None and blank is None:
            continue
        out.append(_value(element, blank if item is None else item, f"{path}[{index}]", walk))
    return out


def _scalar(schema: Schema, value: Any, path: str) -> Any:
    if schema.type == "quantity":
        return _quantity(value)
    if schema.type == "int-or-string":
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise _mismatch(value, path, "intstr.IntOrString")
        return value
    if schema.type == "boolean":
        if not isinstance(value, bool):
            raise _mismatch(value, path, "bool")
        return value
    if schema.type == "integer":
        bound = _BOUNDS.get(schema.format, 2**63)
        if isinstance(value, bool) or not isinstance(value, int) or not -bound <= value < bound:
            raise _mismatch(value, path, schema.format or "int64")
        return value
    if schema.type == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _mismatch(value, path, "float64")
        return value
    if not isinstance(value, str):
        raise _mismatch(value, path, "string")
    if schema.format == "byte":
        return _base64(value)
    return _time(value, schema) if schema.format == "date-time" else value


def _quantity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConversionError(PATTERN_MESSAGE)
    try:
        return canonical_quantity(value.strip() if isinstance(value, str) else str(value))
    except ValueError as error:
        raise ConversionError(str(error)) from error


def _base64(value: str) -> str:
    text = value.replace("\n", "").replace("\r", "")
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)).decode()
    except (binascii.Error, ValueError) as error:
        at = next((i for i, c in enumerate(text) if not re.match(r"[A-Za-z0-9+/]", c)), len(text))
        raise ConversionError(f"error decoding from json: illegal base64 data at input byte {at}") from error


def _time(value: str, schema: Schema) -> str:
    match = _TIME.fullmatch(value)
    problem = f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'
    if match is None:
        raise ConversionError(problem)
    zone = "+00:00" if match[3] == "Z" else match[3]
    micros = (match[2] or ".0")[1:7].ljust(6, "0")
    try:
        moment = datetime.fromisoformat(f"{match[1]}.{micros}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ConversionError(problem) from error
    pattern = "%Y-%m-%dT%H:%M:%S.%fZ" if schema.name == "MicroTime" else "%Y-%m-%dT%H:%M:%SZ"
    return moment.strftime(pattern)


def _merge_string_data(secret: dict[str, Any]) -> None:
    """`stringData` is write-only: it overrides `data` and is never answered."""
    given = secret.pop("stringData", None)
    if given:
        encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in given.items()}
        secret["data"] = {**(secret.get("data") or {}), **encoded}


def _mismatch(value: Any, path: str, wanted: str) -> ConversionError:
    kinds = {dict: "object", list: "array", str: "string", bool: "bool"}
    given = kinds.get(type(value)) or (f"number {value}" if isinstance(value, int | float) else "null")
    plain = re.sub(r"\[[^\]]*\]", "", path)
    return ConversionError(f"json: cannot unmarshal {given} into Go struct field .{plain} of type {wanted}")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _bad(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)
