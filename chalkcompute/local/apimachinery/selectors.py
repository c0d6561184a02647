"""Label and field selectors: the text of a query, and the LabelSelector of an object.

Source: k8s.io/apimachinery `pkg/labels/selector.go` and `pkg/fields/selector.go`; the fields each
kind can be selected by are those of its registry strategy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chalkcompute.local.apimachinery.kinds import Kind
from chalkcompute.local.apimachinery.names import label_key_problem, label_value_problem
from chalkcompute.local.apimachinery.status import StatusError

__all__ = [
    "FieldSelector",
    "LabelSelector",
    "Requirement",
    "match_label_selector",
    "parse_fields",
    "parse_labels",
]

_TOKEN = re.compile(r"\s*(==|!=|=|!|\(|\)|,|<|>|[^\s=!(),<>]+)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label.

    Attributes:
        key: Label key.
        operator: `in`, `notin`, `exists`, `!exists`, `gt` or `lt`.
        values: What to compare with.
    """

    key: str
    operator: str
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it; an absent label meets `notin`."""
        value = labels.get(self.key)
        if self.operator == "exists":
            return value is not None
        if self.operator == "!exists":
            return value is None
        if self.operator == "in":
            return value is not None and value in self.values
        if self.operator == "notin":
            return value is None or value not in self.values
        return value is not None and _compares(value, next(iter(self.values)), self.operator)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Conditions that must all hold; none matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels is selected."""
        return all(r.matches(labels or {}) for r in self.requirements)


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """Conditions on fields of an object: `(path, whether equal, value)`, all of which must hold."""

    conditions: tuple[tuple[str, bool, str], ...] = ()

    def matches(self, obj: Mapping[str, Any]) -> bool:
        """Whether the object is selected; an absent field is an empty one."""
        return all((_field(obj, path) == value) is equal for path, equal, value in self.conditions)


def parse_labels(text: str) -> LabelSelector:
    """A label selector such as `app=web,tier in (a, b),!canary`.

    Raises:
        StatusError: 400 where the text does not follow the grammar.
    """
    return LabelSelector(_LabelParser(text).parse())


def parse_fields(kind: Kind, text: str) -> FieldSelector:
    """A field selector such as `metadata.name=web,status.phase!=Running`.

    Raises:
        StatusError: 400 for a malformed one, and for a field that this kind is not selected by.
    """
    conditions: list[tuple[str, bool, str]] = []
    for term in _split_terms(text):
        if not term:
            continue
        path, equal, value = _split_term(term, text)
        if path not in _selectable(kind):
            raise _unknown_field(kind, path)
        conditions.append((path, equal, value))
    return FieldSelector(tuple(conditions))


def match_label_selector(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether an object's LabelSelector (`matchLabels`, `matchExpressions`) matches; None never does.

    Raises:
        StatusError: 400 for an operator that does not exist.
    """
    if selector is None:
        return False
    return label_selector(selector).matches(labels)


def label_selector(selector: Mapping[str, Any]) -> LabelSelector:
    """The conditions of an object's LabelSelector.

    Raises:
        StatusError: 400 for an operator that does not exist.
    """
    requirements = [
        Requirement(key, "in", frozenset({value}))
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or []:
        operator = _EXPRESSION_OPERATORS.get(expression.get("operator", ""))
        if operator is None:
            raise _bad(f'"{expression.get("operator")}" is not a valid label selector operator')
        values = frozenset(expression.get("values") or ())
        requirements.append(Requirement(expression.get("key", ""), operator, values))
    return LabelSelector(tuple(requirements))


_EXPRESSION_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!exists"}


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    def parse(self) -> tuple[Requirement, ...]:
        requirements: list[Requirement] = []
        while (token := self._peek()) is not None:
            if token == ",":
                raise _bad(f"found '{token}', expected: !, identifier, or 'end of string'")
            requirements.append(self._requirement())
            following = self._next()
            if following is None:
                break
            if following != ",":
                raise _bad(f"found '{following}', expected: ',' or 'end of string'")
            if self._peek() is None:
                raise _bad("found '', expected: identifier after ','")
        return tuple(requirements)

    def _requirement(self) -> Requirement:
        if self._peek() == "!":
            self._next()
            key = self._key()
            if self._peek() not in (None, ","):
                raise _bad(f"found '{self._peek()}', expected: ',' or 'end of string'")
            return Requirement(key, "!exists")
        key = self._key()
        operator = self._peek()
        if operator in (None, ","):
            return Requirement(key, "exists")
        self._next()
        if operator in ("=", "==", "!="):
            return Requirement(key, "notin" if operator == "!=" else "in", frozenset({self._exact_value()}))
        if operator in ("in", "notin"):
            return Requirement(key, operator, self._values())
        if operator in ("<", ">"):
            value = self._exact_value()
            if not re.fullmatch(r"[+-]?\d+", value):
                raise _bad(
                    f'values[0]: Invalid value: "{value}": '
                    "for 'Gt', 'Lt' operators, the value must be an integer"
                )
            return Requirement(key, "gt" if operator == ">" else "lt", frozenset({value}))
        raise _bad(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")

    def _key(self) -> str:
        token = self._next()
        if token is None or not _is_word(token):
            raise _bad(f"found '{token or ''}', expected: identifier")
        if problem := label_key_problem(token):
            raise _bad(f'key: Invalid value: "{token}": {problem}')
        return str(token)

    def _exact_value(self) -> str:
        token = self._peek()
        if token is None or token == ",":
            return ""
        if not _is_word(token):
            raise _bad(f"found '{token}', expected: identifier")
        self._next()
        return _label_value(token)

    def _values(self) -> frozenset[str]:
        if self._next() != "(":
            raise _bad("found '', expected: '('")
        values: set[str] = set()
        expect_value = True
        while True:
            token = self._next()
            if token is None:
                raise _bad("found '', expected: ',', ')' or identifier")
            if token == ")":
                if expect_value:
                    values.add("")
                return frozenset(values)
            if token == ",":
                if expect_value:
                    values.add("")
                expect_value = True
            elif _is_word(token) and expect_value:
                values.add(_label_value(token))
                expect_value = False
            else:
                raise _bad(f"found '{token}', expected: ',', or ')'")

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str | None:
        token = self._peek()
        self._at += 1
        return token


def _is_word(token: str) -> bool:
    return token not in ("=", "==", "!=", "!", "(", ")", ",", "<", ">")


def _label_value(token: str) -> str:
    if problem := label_value_problem(token):
        raise _bad(f'values[0][key]: Invalid value: "{token}": {problem}')
    return token


def _compares(value: str, bound: str, operator: str) -> bool:
    if not re.fullmatch(r"[+-]?\d+", value):
        return False
    return int(value) > int(bound) if operator == "gt" else int(value) < int(bound)


def _split_terms(text: str) -> list[str]:
    """Terms at unescaped commas."""
    terms, current, escaped = [], "", False
    for char in text:
        if escaped:
            current += char
            escaped = False
        elif char == "\\":
            current += char
            escaped = True
        elif char == ",":
            terms.append(current)
            current = ""
        else:
            current += char
    return [*terms, current]


def _split_term(term: str, text: str) -> tuple[str, bool, str]:
    at = 0
    while at < len(term):
        for operator in ("!=", "==", "="):
            if term.startswith(operator, at) and not (at and term[at - 1] == "\\"):
                return term[:at], operator != "!=", _unescape(term[at + len(operator) :])
        at += 1
    raise _bad(f"invalid selector: '{text}'; can't understand '{term}'")


def _unescape(value: str) -> str:
    out, escaped = "", False
    for char in value:
        if escaped:
            if char not in "\\,=":
                raise _bad(f"invalid field selector: invalid escape sequence: \\{char}")
            out += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in ",=":
            raise _bad(f"invalid field selector: invalid value: '{value}': unescaped {char}")
        else:
            out += char
    if escaped:
        raise _bad(f"invalid field selector: invalid escape at the end of '{value}'")
    return out


_METADATA_FIELDS = ("metadata.name", "metadata.namespace")
_KIND_FIELDS: dict[str, tuple[str, ...]] = {
    "Pod": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "Event": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "Namespace": ("status.phase", "name"),
    "Node": ("spec.unschedulable",),
    "ReplicaSet": ("status.replicas",),
    "Secret": ("type",),
    "Service": ("spec.clusterIP", "spec.type"),
}


def _selectable(kind: Kind) -> tuple[str, ...]:
    return _METADATA_FIELDS + _KIND_FIELDS.get(kind.kind, ())


def _unknown_field(kind: Kind, path: str) -> StatusError:
    if kind.kind in _KIND_FIELDS:
        return _bad(f"field label not supported: {path}")
    return _bad(f'"{path}" is not a known field selector: only "metadata.name", "metadata.namespace"')


_SPECIAL: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "name": lambda obj: (obj.get("metadata") or {}).get("name"),
    "source": lambda obj: (obj.get("source") or {}).get("component") or obj.get("reportingComponent"),
    "reportingComponent": lambda obj: (
        obj.get("reportingComponent") or (obj.get("source") or {}).get("component")
    ),
}


def _field(obj: Mapping[str, Any], path: str) -> str:
    value: Any = obj
    if special := _SPECIAL.get(path):
        value = special(obj)
    else:
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return _ABSENT.get(path, "")
    return str(value).lower() if isinstance(value, bool) else str(value)


_ABSENT = {"spec.unschedulable": "false", "spec.hostNetwork": "false", "status.replicas": "0"}


def _bad(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)
