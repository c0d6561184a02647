"""CPU and memory: Kubernetes quantities, kept in one canonical text so that equal amounts compare equal."""

from __future__ import annotations

import re
from decimal import Decimal

from chalkcompute.errors import SpecError
from chalkcompute.spec.checks import check_text, quoted

__all__ = ["memory_bytes", "millicores", "normalize_cpu", "normalize_memory"]

_CPU_CORES = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")
_CPU_MILLI = re.compile(r"([0-9]{1,12})m")
_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)(Ki|Mi|Gi|Ti|k|M|G|T)")
_NEARLY_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt])(i?)(b?)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")

_UNITS = {
    "Ti": 1 << 40,
    "T": 10**12,
    "Gi": 1 << 30,
    "G": 10**9,
    "Mi": 1 << 20,
    "M": 10**6,
    "Ki": 1 << 10,
    "k": 10**3,
}
_MILLICORES_MAX = 10**9  # a million cores: beyond it, a unit was surely mistaken
_MEMORY_MIN = 4 << 20  # below it no container starts
_MEMORY_MAX = 1 << 50
_MEBIBYTES_FROM = 128  # who writes `512` without a unit means Mi, who writes `8` means Gi

_CPU_RULE = "write cores such as `2` or `0.5`, or thousandths such as `500m`"
_MEMORY_RULE = "write a number with Mi or Gi, such as `512Mi` or `8Gi`"


def normalize_cpu(cpu: object) -> str:
    """CPU per replica in canonical text: `2`, or `500m` for what is not whole cores.

    Kubernetes: `resources.requests.cpu` and `resources.limits.cpu`.

    Raises:
        SpecError: Not an amount, zero, or more than any machine has.
    """
    text = check_text("cpu", cpu, number=_cpu_in_quotes)
    amount = millicores(text)
    if not 1 <= amount <= _MILLICORES_MAX:
        size = "is no CPU at all" if amount < 1 else "is more than any machine has"
        raise SpecError(f"`cpu` {quoted(text)} {size}", field="cpu", hint=_CPU_RULE)
    return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"


def millicores(text: str) -> int:
    """Thousandths of a core of a CPU quantity."""
    if milli := _CPU_MILLI.fullmatch(text):
        return int(milli[1])
    if _CPU_CORES.fullmatch(text):
        return int(Decimal(text) * 1000)
    raise SpecError(f"`cpu` cannot be {quoted(text)}", field="cpu", hint=_CPU_RULE)


def normalize_memory(memory: object) -> str:
    """Memory per replica in canonical text: the unit that needs the smallest number, `8Gi` for `8192Mi`.

    Kubernetes: `resources.requests.memory` and `resources.limits.memory`.

    Raises:
        SpecError: Not an amount, or one that Kubernetes would take for something else than was meant.
    """
    text = check_text("memory", memory, number=lambda number: _did_you_mean(number, '"'))
    if not _MEMORY.fullmatch(text):
        raise _memory_error(text)
    size = memory_bytes(text)
    if not _MEMORY_MIN <= size <= _MEMORY_MAX:
        limit = "less than the 4Mi a container" if size < _MEMORY_MIN else "more than any machine"
        tail = "needs to start" if size < _MEMORY_MIN else "has"
        raise SpecError(f"`memory` {quoted(text)} is {limit} {tail}", field="memory", hint=_MEMORY_RULE)
    number, unit = min((size // factor, unit) for unit, factor in _UNITS.items() if size % factor == 0)
    return f"{number}{unit}"


def memory_bytes(text: str) -> int:
    """Bytes of a quantity that `normalize_memory` accepts; a fraction rounds up to a whole Ki or k."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise _memory_error(text)
    exact = Decimal(match[1]) * _UNITS[match[2]]
    step = 1024 if match[2].endswith("i") else 1000
    return -int(-exact // step) * step


def _cpu_in_quotes(number: str) -> str:
    cores = bool(_CPU_CORES.fullmatch(number)) and 1 <= int(Decimal(number) * 1000) <= _MILLICORES_MAX
    return f'write it in quotes: `"{number}"`' if cores else _CPU_RULE


def _did_you_mean(number: str, quote: str = "") -> str:
    """The hint for a number without a unit: what was probably meant, as it can be written."""
    amount = Decimal(number) if _NUMBER.fullmatch(number) else Decimal(0)
    if not 0 < amount <= _MEMORY_MAX:
        return _MEMORY_RULE
    if amount >= _MEMORY_MIN:  # bytes, as other interfaces have them
        decimal = amount % 1000 == 0 and amount % 1024 != 0
        meant = f"{int(amount) // 1000}k" if decimal else f"{int(amount) // 1024}Ki"
    else:
        meant = f"{number}{'Gi' if amount < _MEBIBYTES_FROM else 'Mi'}"
    if not _MEMORY.fullmatch(meant) or memory_bytes(meant) < _MEMORY_MIN:
        return _MEMORY_RULE
    return f"did you mean `{quote}{normalize_memory(meant)}{quote}`?"


def _memory_error(text: str) -> SpecError:
    if _CPU_MILLI.fullmatch(text):
        number = text[:-1]
        return SpecError(
            f"`memory` {quoted(text)} is thousandths of a byte: `m` means milli"
            + (", so that is half a byte" if number == "500" else ""),
            field="memory",
            hint=f"did you mean `{number}Mi`?",
        )
    if _NUMBER.fullmatch(text):
        return SpecError(
            f"`memory` {quoted(text)} would be that many bytes",
            field="memory",
            hint=_did_you_mean(text),
        )
    if near := _NEARLY_MEMORY.fullmatch(text):
        unit = near[2].upper() + "i"
        return SpecError(
            f"`memory` {quoted(text)} has no unit that Kubernetes knows",
            field="memory",
            hint=f"did you mean `{near[1]}{unit}`?",
        )
    return SpecError(f"`memory` cannot be {quoted(text)}", field="memory", hint=_MEMORY_RULE)
