"""GPUs of a replica: `type:count`, or a count alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_text, quoted

__all__ = ["Gpu"]

_TYPE = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"  # a label value: NVIDIA's operator writes `NVIDIA-L4`
_GPU = re.compile(rf"(?:(?P<type>{_TYPE}):)?(?P<count>[1-9][0-9]?)")
_TYPE_ALONE = re.compile(rf"(?=.*[A-Za-z]){_TYPE}")
_TYPE_MAX = 63  # it becomes a label value
_RULE = "write `type:count` such as `nvidia-l4:1`, or a count from 1 to 99"


@dataclass(frozen=True, slots=True)
class Gpu:
    """GPUs of one replica.

    Attributes:
        count: How many, 1 to 99: request and limit of `nvidia.com/gpu`.
        type: Value of the node selector (`nvidia-l4`), or None for any node that has GPUs.
    """

    count: int
    type: str | None = None

    @classmethod
    def parse(cls, text: object) -> Gpu:
        """Read `nvidia-l4:1` or `1`.

        Raises:
            SpecError: It is neither; the hint completes a type without a count.
        """
        value = check_text("gpu", text, number=_in_quotes)
        match = _GPU.fullmatch(value)
        if match is None:
            hint = f"give the count too: `{value}:1`" if _TYPE_ALONE.fullmatch(value) else _RULE
            raise SpecError(f"`gpu` cannot be {quoted(value)}", field="gpu", hint=hint)
        if match["type"] is not None and len(match["type"]) > _TYPE_MAX:
            raise SpecError(
                f"the GPU type in {quoted(value)} has more than {_TYPE_MAX} characters",
                field="gpu",
                hint=_RULE,
            )
        return cls(count=int(match["count"]), type=match["type"])

    def __str__(self) -> str:
        return str(self.count) if self.type is None else f"{self.type}:{self.count}"


def _in_quotes(number: str) -> str:
    return f'write it in quotes: `"{number}"`' if _GPU.fullmatch(number) else _RULE
