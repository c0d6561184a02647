"""Amounts as the API server answers them, in their base unit."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["amount"]

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([KMGTPE]i)|([numkMGTPE]))?")
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def amount(value: object) -> float | None:
    """The value of a `resource.Quantity` (`250m`, `1500000n`, `64Mi`, `2e3`); None if it is none."""
    match = _QUANTITY.fullmatch(str(value)) if isinstance(value, (str, int, float)) else None
    if match is None:
        return None
    number, exponent, binary, decimal = match.groups()
    if exponent:
        return float(number + exponent)
    if binary:
        return float(Decimal(number) * 1024 ** _BINARY[binary])
    return float(Decimal(number).scaleb(_DECIMAL.get(decimal, 0)))
