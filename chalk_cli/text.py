"""Words for terminals: text from a cluster made safe to print, and the evidence behind a verdict."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chalkcompute.types import Evidence, Verdict

__all__ = ["printable", "verdict_evidence"]

# C0 but for tab and newline, DEL, C1: log lines and events are written by strangers' containers, and an
# escape sequence in them must not reach the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    r"""The text with control characters spelled out (`\x1b`); a carriage return becomes nothing."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r", ""))


def verdict_evidence(verdict: Verdict) -> list[str]:
    """Lines that show what a verdict was concluded from."""
    lines: list[str] = []
    for evidence in verdict.evidence:
        lines.append(_heading(evidence))
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
    return printable(" ".join(parts)) + ":"
