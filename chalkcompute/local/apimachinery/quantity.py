"""Kubernetes quantities: parsing and the canonical form that an API server answers with.

Source: k8s.io/apimachinery `pkg/api/resource` (quantity.go, suffix.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import ROUND_UP, Context, Decimal

__all__ = ["PATTERN_MESSAGE", "canonical_quantity", "parse_quantity", "total_quantity"]

PATTERN_MESSAGE = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
_NUMBER = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_LARGEST = Decimal(2**63 - 1)
_EXACT = Context(prec=100)
_NANO = Decimal(1).scaleb(-9)
_EXPONENT_MAX = 99


def parse_quantity(text: str) -> Decimal:
    """The value of a quantity.

    Raises:
        ValueError: It is not a quantity.
    """
    return _parse(text)[0]


def canonical_quantity(text: str) -> str:
    """The quantity as an API server writes it: `1000m` as `1`, `0.5` as `500m`, `1024Mi` as `1Gi`.

    Raises:
        ValueError: It is not a quantity.
    """
    return _written(*_parse(text))


def total_quantity(texts: Iterable[str]) -> str:
    """The sum, written in the form of the first that is not zero, as `Quantity.Add` keeps it.

    Raises:
        ValueError: One is not a quantity.
    """
    total, form = Decimal(0), ""
    for text in texts:
        value, suffix = _parse(text)
        if total == 0:
            form = suffix
        total += value
    return _written(total, form)


def _written(value: Decimal, suffix: str) -> str:
    """A value in the form that the suffix belongs to: binary, decimal or with an exponent."""
    if value == 0:
        return "0"
    if suffix in _BINARY and abs(value) >= 1024 and value == value.to_integral_value():
        power = max(p for p in range(7) if value % (1024**p) == 0)
        name = next((n for n, p in _BINARY.items() if p == power), "")
        return f"{_plain(value / 1024**power)}{name}"
    exponent = max(e for e in _DECIMAL.values() if _is_whole(value.scaleb(-e, _EXACT)))
    mantissa = _plain(value.scaleb(-exponent, _EXACT))
    if suffix[:1] in "eE" and len(suffix) > 1 and suffix not in _BINARY:
        return f"{mantissa}e{exponent}" if exponent else mantissa
    return mantissa + next(name for name, power in _DECIMAL.items() if power == exponent)


def _parse(text: str) -> tuple[Decimal, str]:
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise ValueError(PATTERN_MESSAGE)
    sign, whole, fraction, suffix = match[1], match[2], match[3] or "", match[4] or ""
    number = Decimal(f"{sign}{whole or '0'}.{fraction or '0'}")
    if suffix in _BINARY:
        value = _EXACT.multiply(number, Decimal(1024 ** _BINARY[suffix]))
    elif suffix in _DECIMAL:
        value = number.scaleb(_DECIMAL[suffix], _EXACT)
    else:
        power = int(suffix[1:])
        if abs(power) > _EXPONENT_MAX:
            raise ValueError(PATTERN_MESSAGE)
        value = number.scaleb(power, _EXACT)
    if abs(value) > _LARGEST:
        return _LARGEST.copy_sign(value), suffix
    return value.quantize(_NANO, rounding=ROUND_UP, context=_EXACT), suffix


def _is_whole(value: Decimal) -> bool:
    return value == value.to_integral_value()


def _plain(value: Decimal) -> str:
    return str(int(value))
