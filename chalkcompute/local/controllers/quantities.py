"""Kubernetes quantities as exact numbers. Pure.

Source: k8s.io/apimachinery `api/resource`.
"""

from __future__ import annotations

from fractions import Fraction

__all__ = ["parse_quantity"]

_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


def parse_quantity(text: str | int | float) -> Fraction:
    """The number that a quantity says: `500m`, `1Gi`, `2`, `1e3`.

    Raises:
        ValueError: It is no quantity (the API server lets none of those in).
    """
    value = str(text)
    for length in (2, 1):
        factor = _SUFFIXES.get(value[-length:])
        if factor is not None and len(value) > length:
            return Fraction(value[:-length]) * factor
    return Fraction(value)
