"""Objects walked by their schema: which fields they set, how two differ, how one is merged into another.

Source: sigs.k8s.io/structured-merge-diff `typed/` (tofieldset.go, compare.go, merge.go, remove.go).
Granular objects, maps and keyed lists are walked; atomic ones and scalars are leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.apimachinery.fieldset import FieldSet, Path, field_element, item_element
from chalkcompute.local.apimachinery.schema import Schema

__all__ = ["ABSENT", "Comparison", "compare", "field_set", "merge", "named_parents", "remove"]

ABSENT: Any = object()
_ANY = Schema("any", open=True)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one object became another: paths only the new one has, that differ, only the old one has."""

    added: FieldSet
    modified: FieldSet
    removed: FieldSet


def field_set(schema: Schema, value: Any) -> FieldSet:
    """Every field that an object sets."""
    found: set[Path] = set()
    _collect(schema, value, (), found)
    return frozenset(found)


def _collect(schema: Schema, value: Any, path: Path, found: set[Path]) -> None:
    if not _walked(schema, value):
        if path and value is not None:
            found.add(path)
        return
    if isinstance(value, list):
        for item in value:
            below = (*path, item_element(schema, item))
            found.add(below)
            if schema.list_type == "map":
                _collect(schema.element or _ANY, item, below, found)
        return
    for name, child in value.items():
        below = (*path, field_element(name))
        _collect(schema.child(name) or _ANY, child, below, found)
        if child is None or child == {} or (not schema.has(name)):
            found.add(below)


def _walked(schema: Schema, value: Any) -> bool:
    """Whether a value is owned piece by piece."""
    if isinstance(value, dict):
        return not schema.atomic
    return isinstance(value, list) and schema.type == "array" and schema.list_type != "atomic"


def compare(schema: Schema, old: Any, new: Any) -> Comparison:
    """How `new` differs from `old`."""
    differences: tuple[set[Path], set[Path], set[Path]] = (set(), set(), set())
    _compare(schema, old, new, (), differences)
    added, modified, removed = differences
    return Comparison(frozenset(added), frozenset(modified), frozenset(removed))


def _compare(
    schema: Schema, old: Any, new: Any, path: Path, out: tuple[set[Path], set[Path], set[Path]]
) -> None:
    added, modified, removed = out
    if old is not ABSENT and new is not ABSENT and type(old) is type(new) and old == new:
        return
    if not _descends(schema, old, new):
        if old is ABSENT:
            added.add(path)
        elif new is ABSENT:
            removed.add(path)
        elif old != new or type(old) is not type(new):
            modified.add(path)
        return
    for element, child, before, after in _pairs(schema, old, new):
        _compare(child, before, after, (*path, element), out)
    if path and old is ABSENT:
        added.add(path)
    elif path and new is ABSENT:
        removed.add(path)


def _descends(schema: Schema, old: Any, new: Any) -> bool:
    """Whether two values are compared piece by piece: both empty counts as a leaf."""
    present = [value for value in (old, new) if value is not ABSENT and value is not None]
    if not any(present):
        return False
    if not all(_walked(schema, value) for value in present):
        return False
    return all(isinstance(value, type(present[0])) for value in present)


def _pairs(schema: Schema, old: Any, new: Any) -> Iterator[tuple[str, Schema, Any, Any]]:
    sample = next(value for value in (new, old) if value is not ABSENT and value is not None)
    if isinstance(sample, dict):
        before: Mapping[str, Any] = old if isinstance(old, dict) else {}
        after: Mapping[str, Any] = new if isinstance(new, dict) else {}
        for name in {**before, **after}:
            child = schema.child(name) or _ANY
            yield field_element(name), child, before.get(name, ABSENT), after.get(name, ABSENT)
        return
    first = _indexed(schema, old if isinstance(old, list) else [])
    second = _indexed(schema, new if isinstance(new, list) else [])
    child = (schema.element or _ANY) if schema.list_type == "map" else Schema("any", atomic=True)
    for element in {**first, **second}:
        yield element, child, first.get(element, ABSENT), second.get(element, ABSENT)


def _indexed(schema: Schema, items: list[Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for item in items:
        out.setdefault(item_element(schema, item), item)
    return out


def merge(schema: Schema, live: Any, applied: Any) -> Any:
    """`live` with what `applied` sets; keyed lists keep the live order where they can."""
    if applied is ABSENT:
        return live
    if live is ABSENT or live is None or not _descends(schema, live, applied):
        return applied
    if applied is None:
        return live
    if isinstance(live, dict):
        out = dict(live)
        for name, value in applied.items():
            out[name] = merge(schema.child(name) or _ANY, live.get(name, ABSENT), value)
        return out
    return _merge_items(schema, live, applied)


def _merge_items(schema: Schema, live: list[Any], applied: list[Any]) -> list[Any]:
    left = [item_element(schema, item) for item in live]
    right = [item_element(schema, item) for item in applied]
    before, after = _indexed(schema, live), _indexed(schema, applied)
    shared = iter([element for element in right if element in before])
    wanted = next(shared, None)
    merged: set[str] = set()
    out: list[Any] = []

    def take(element: str) -> None:
        child = (schema.element or _ANY) if schema.list_type == "map" else _ANY
        out.append(merge(child, before.get(element, ABSENT), after.get(element, ABSENT)))
        merged.add(element)

    i = j = 0
    while i < len(left) or j < len(right):
        if i < len(left) and j < len(right):
            if left[i] == right[j]:
                take(left[i])
                i, j, wanted = i + 1, j + 1, next(shared, None)
                continue
            if left[i] in after and wanted is not None and wanted != left[i]:
                i += 1
                continue
        if i < len(left):
            if left[i] not in after:
                out.append(live[i])
                i += 1
                continue
            if left[i] in merged:
                i += 1
        if j < len(right):
            take(right[j])
            if wanted == right[j]:
                wanted = next(shared, None)
            j += 1
    return out


def remove(schema: Schema, value: Any, paths: FieldSet) -> Any:
    """`value` without the fields of `paths`; None when nothing is left of it."""
    tree: dict[str, Any] = {}
    for path in paths:
        node = tree
        for element in path:
            node = node.setdefault(element, {})
        node["."] = {}
    return _remove(schema, value, tree)


def _remove(schema: Schema, value: Any, tree: Mapping[str, Any]) -> Any:
    if not _walked(schema, value) or not value:
        return value if not isinstance(value, dict | list) or not value else None
    if isinstance(value, dict):
        out = {}
        for name, child in value.items():
            below = tree.get(field_element(name))
            if below is None:
                out[name] = child
            elif "." not in below:
                out[name] = _remove(schema.child(name) or _ANY, child, below)
        return out or None
    items = []
    for item in value:
        below = tree.get(item_element(schema, item))
        if below is None:
            items.append(item)
        elif "." not in below:
            items.append(_remove(schema.element or _ANY, item, below))
    return items or None


def named_parents(schema: Schema, paths: FieldSet) -> FieldSet:
    """`paths` and every declared object field above one of them (not map keys, not list items)."""
    out = set(paths)
    for path in paths:
        node: Schema | None = schema
        for depth, element in enumerate(path[:-1]):
            if node is None:
                break
            if element.startswith("f:"):
                name = element[2:]
                if node.has(name):
                    out.add(path[: depth + 1])
                node = node.child(name)
            else:
                node = node.element
    return frozenset(out)
