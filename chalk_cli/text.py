"""Words for terminals: text from a cluster made safe to print, and the evidence behind a verdict."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chalkcompute.types import Evidence, Verdict

__all__ = ["FLAGS", "flag_of", "printable", "verdict_evidence", "with_flags"]

FLAGS = {
    "target_cpu_utilization_percentage": "--target-cpu",
    "scaling_interval_seconds": "--scaling-interval",
    "shutdown_delay_seconds": "--shutdown-delay",
    "startup_timeout_seconds": "--startup-timeout",
    "idle_timeout_seconds": "--idle-timeout",
    "readiness_probe": "--readiness-path",
    "min_replicas": "--min-replicas",
    "max_replicas": "--max-replicas",
}
"""Fields of the spec whose name nobody uses for anything else, and their flags."""
_ADVISED = re.compile(r"\b(set|raise|without) `(cpu|memory|gpu)`")
"""Fields whose name may be anything else too, an image or a group: where advice tells them from that."""
_ONE_EACH = {"secrets": "--secret", "volumes": "--volume"}  # words that cluster and messages use, too

# C0 but for tab and newline, DEL, C1: log lines and events are written by strangers' containers, and an
# escape sequence in them must not reach the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    r"""The text with control characters spelled out (`\x1b`); a carriage return becomes nothing."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r", ""))


def flag_of(field: str) -> str:
    """The flag of a field of the spec."""
    return FLAGS.get(field) or _ONE_EACH.get(field) or f"--{field.replace('_', '-')}"


def with_flags(text: str, field: str | None = None) -> str:
    """The text with flags for the fields of the spec that it names in backticks.

    Args:
        text: What the SDK says.
        field: The field that it is about: replaced once, since a value may be the same word.
    """
    for name, flag in FLAGS.items():
        text = text.replace(f"`{name}` (`{flag}`)", f"`{flag}`")  # of who names both
        text = text.replace(f"`{name}`", f"`{flag}`").replace(f"`{name}=", f"`{flag}=")
    text = _ADVISED.sub(lambda match: f"{match[1]} `{flag_of(match[2])}`", text)
    return text.replace(f"`{field}`", f"`{flag_of(field)}`", 1) if field is not None else text


def verdict_evidence(verdict: Verdict) -> list[str]:
    """Lines that show what a verdict was concluded from."""
    lines: list[str] = []
    for evidence in verdict.evidence:
        lines.append(_heading(evidence) + (":" if evidence.lines else " (empty)" * (evidence.kind == "log")))
        for text in evidence.lines:
            lines.extend(f"  {line}" for line in printable(text).splitlines())
    return lines


def _heading(evidence: Evidence) -> str:
    parts = [evidence.kind]
    if evidence.pod:
        parts.append(f"of pod `{evidence.pod}`")
    facts = [evidence.reason] if evidence.reason else []
    if evidence.exit_code is not None:
        facts.append(f"exit code {evidence.exit_code}")
    if facts:
        parts.append(f"({', '.join(facts)})")
    return printable(" ".join(parts))
