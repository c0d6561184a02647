"""Tags: they become Kubernetes labels `chalk.ai/tag-<key>`, so keys and values must be legal there."""

from __future__ import annotations

import re

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_string_map, check_text, quoted

__all__ = ["KEY_MAX", "VALUE_MAX", "validate_tags"]

KEY_MAX = 59  # the name part of a label key has 63 characters, `tag-` takes four
VALUE_MAX = 63

_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_RULE = "use letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit"


def validate_tags(tags: object) -> dict[str, str]:
    """Tags in order of their keys.

    Raises:
        SpecError: A key or value that no Kubernetes label may have.
    """
    checked = {_key(key): value for key, value in check_string_map("tags", tags).items()}
    return {key: _value(key, checked[key]) for key in sorted(checked)}


def _key(key: object) -> str:
    text = check_text("tags", key, what="a tag key")
    if not text:
        raise SpecError("a tag has an empty key", field="tags", hint="write `key=value`")
    if len(text) > KEY_MAX:
        raise SpecError(
            f"the tag key {quoted(text)} has {len(text)} characters, at most {KEY_MAX} fit into a label",
            field="tags",
        )
    if not _KEY.fullmatch(text):
        raise SpecError(f"the tag key {quoted(text)} cannot be in a label", field="tags", hint=_RULE)
    return text


def _value(key: str, value: object) -> str:
    text = check_text("tags", value, what=f"the value of tag `{key}`")
    if len(text) > VALUE_MAX:
        raise SpecError(
            f"the value of tag `{key}` has {len(text)} characters, at most {VALUE_MAX} fit into a label",
            field="tags",
        )
    if not _VALUE.fullmatch(text):
        raise SpecError(
            f"the value {quoted(text)} of tag `{key}` cannot be in a label", field="tags", hint=_RULE
        )
    return text
