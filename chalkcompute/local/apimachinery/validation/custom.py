"""Validity of custom kinds: the bounds of their schemas, and the rules beyond them.

Source: the CustomResourceDefinitions of the Gateway API, of KEDA and of its HTTP add-on; their CEL rules
that concern what the embedded cluster serves are in `rules.py` and `rules_keda.py`.
"""

from __future__ import annotations

import re
from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.schema import Schema, field_schema
from chalkcompute.local.apimachinery.validation.problems import Problems
from chalkcompute.local.apimachinery.validation.rules import check_rules

__all__ = ["check_custom"]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def check_custom(kind: Kind, obj: dict[str, Any], problems: Problems) -> None:
    """A custom object against its schema, then against its rules."""
    schema = field_schema(kind)
    for name in schema.required:
        if name not in obj:
            problems.required(name)
    for name, child in schema.fields.items():
        if name in obj and name not in ("metadata", "status"):
            _check(child, obj[name], name, problems)
    if not problems.causes:
        check_rules(kind.kind, obj, problems)


def _check(schema: Schema, value: Any, field: str, problems: Problems) -> None:
    types = _TYPES.get(schema.type)
    if types is not None and (
        not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
    ):
        problems.wrong_type(field, value, schema.type)
        return
    if isinstance(value, dict):
        _check_object(schema, value, field, problems)
    elif isinstance(value, list):
        _check_items(schema, value, field, problems)
    elif isinstance(value, str):
        _check_text(schema, value, field, problems)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _check_number(schema, value, field, problems)
    choices = schema.rules.get("enum")
    if choices is not None and value not in choices:
        problems.unsupported(field, value, tuple(str(choice) for choice in choices))


def _check_object(schema: Schema, value: dict[str, Any], field: str, problems: Problems) -> None:
    for name in schema.required:
        if name not in value:
            problems.required(f"{field}.{name}")
    most = schema.rules.get("maxProperties")
    if most is not None and len(value) > most:
        problems.invalid(field, value, f"must have at most {most} properties")
    for name, child in value.items():
        declared = schema.child(name)
        if declared is not None:
            _check(declared, child, f"{field}.{name}", problems)


def _check_items(schema: Schema, value: list[Any], field: str, problems: Problems) -> None:
    least, most = schema.rules.get("minItems"), schema.rules.get("maxItems")
    if least is not None and len(value) < least:
        problems.invalid(field, len(value), f"{field} in body should have at least {least} items")
    if most is not None and len(value) > most:
        problems.too_many(field, len(value), most)
    seen: list[Any] = []
    for index, item in enumerate(value):
        if schema.element is not None:
            _check(schema.element, item, f"{field}[{index}]", problems)
        if schema.list_type in ("map", "set"):
            key = {k: item.get(k) for k in schema.keys} if schema.keys and isinstance(item, dict) else item
            if key in seen:
                problems.duplicate(f"{field}[{index}]", key)
            seen.append(key)


def _check_text(schema: Schema, value: str, field: str, problems: Problems) -> None:
    least, most = schema.rules.get("minLength"), schema.rules.get("maxLength")
    if least is not None and len(value) < least:
        problems.invalid(field, value, f"{field} in body should be at least {least} chars long")
    if most is not None and len(value) > most:
        problems.too_long(field, most)
    pattern = schema.rules.get("pattern")
    if pattern is not None and not _matches(pattern, value):
        problems.invalid(field, value, f"{field} in body should match '{pattern}'")


def _matches(pattern: str, value: str) -> bool:
    """Go's `$` does not match before a final newline, Python's does; no pattern here wants one."""
    return not value.endswith("\n") and re.search(pattern, value) is not None


def _check_number(schema: Schema, value: float, field: str, problems: Problems) -> None:
    least, most = schema.rules.get("minimum"), schema.rules.get("maximum")
    if least is not None and value < least:
        problems.invalid(field, value, f"{field} in body should be greater than or equal to {least}")
    if most is not None and value > most:
        problems.invalid(field, value, f"{field} in body should be less than or equal to {most}")
