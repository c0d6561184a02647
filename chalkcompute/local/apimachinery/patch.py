"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386); strategic merge patch stands in `strategic.py`."""

from __future__ import annotations

from typing import Any

from chalkcompute.local.apimachinery.defaults import copied
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.apimachinery.strategic import strategic_merge_patch

__all__ = ["json_patch", "merge_patch", "strategic_merge_patch"]

_OPERATIONS_MAX = 10000  # maxJSONPatchOperations of k8s.io/apiserver


def merge_patch(doc: Any, patch: Any) -> Any:
    """RFC 7386: objects merge, null removes, anything else replaces.

    Raises:
        StatusError: 400 where the patch of an object is no object.
    """
    if not isinstance(patch, dict):
        raise _bad("the merge patch must be a JSON object")
    return _merged(doc, patch)


def _merged(doc: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return copied(patch)
    out = dict(doc) if isinstance(doc, dict) else {}
    for name, value in patch.items():
        if value is None:
            out.pop(name, None)
        else:
            out[name] = _merged(out.get(name), value)
    return out


def json_patch(doc: Any, ops: Any) -> Any:
    """RFC 6902: all operations in order, or none.

    Raises:
        StatusError: 400 for a malformed patch, 422 for an operation that cannot be done.
    """
    if not isinstance(ops, list) or not all(isinstance(op, dict) for op in ops):
        raise _bad("the JSON patch must be an array of operations")
    if len(ops) > _OPERATIONS_MAX:
        raise StatusError(
            413,
            "RequestEntityTooLarge",
            f"The allowed maximum operations in a JSON patch is {_OPERATIONS_MAX}, got {len(ops)}",
        )
    out = copied(doc)
    for op in ops:
        out = _step(out, op)
    return out


def _step(doc: Any, op: dict[str, Any]) -> Any:
    name, path = op.get("op"), op.get("path")
    if not isinstance(name, str) or not isinstance(path, str):
        raise _bad("a JSON patch operation needs `op` and `path`")
    if name in ("add", "replace", "test") and "value" not in op:
        raise _bad(f"the JSON patch operation `{name}` needs `value`")
    target = _pointer(path)
    if name == "add":
        return _add(doc, target, copied(op["value"]))
    if name == "remove":
        return _remove(doc, target)
    if name == "replace":
        _get(doc, target)
        return _add(_remove(doc, target), target, copied(op["value"])) if target else copied(op["value"])
    if name == "test":
        if not _equal(_get(doc, target, absent_is_null=op["value"] is None), op["value"]):
            raise _refused()
        return doc
    if name in ("move", "copy"):
        source = _pointer(str(op.get("from", "")))
        value = copied(_get(doc, source))
        if name == "move":
            if target[: len(source)] == source and len(target) > len(source):
                raise _refused()
            doc = _remove(doc, source)
        return _add(doc, target, value)
    raise _bad(f"unknown JSON patch operation `{name}`")


def _pointer(path: str) -> list[str]:
    if not path:
        return []
    if not path.startswith("/"):
        raise _refused()
    return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]


def _get(doc: Any, path: list[str], *, absent_is_null: bool = False) -> Any:
    for depth, part in enumerate(path):
        if isinstance(doc, dict):
            if part not in doc:
                if absent_is_null and depth == len(path) - 1:
                    return None
                raise _refused()
            doc = doc[part]
        elif isinstance(doc, list):
            doc = doc[_index(part, len(doc) - 1)]
        else:
            raise _refused()
    return doc


def _add(doc: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, last = _get(doc, path[:-1]), path[-1]
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(last, len(parent)), value)
    else:
        raise _refused()
    return doc


def _remove(doc: Any, path: list[str]) -> Any:
    if not path:
        return None
    parent, last = _get(doc, path[:-1]), path[-1]
    if isinstance(parent, dict) and last in parent:
        del parent[last]
    elif isinstance(parent, list):
        del parent[_index(last, len(parent) - 1)]
    else:
        raise _refused()
    return doc


def _index(text: str, largest: int) -> int:
    if not text.isascii() or not text.isdigit() or (text != "0" and text.startswith("0")):
        raise _refused()
    if len(text) > len(str(max(largest, 0))) or int(text) > largest:
        raise _refused()
    return int(text)


def _equal(left: Any, right: Any) -> bool:
    """JSON equality: unlike Python's, true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


def _refused() -> StatusError:
    message = "the server rejected our request due to an error in our request"
    return StatusError(422, "Invalid", message)


def _bad(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)
