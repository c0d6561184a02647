"""Literal text in places where the kubelet would expand `$(NAME)`."""

from __future__ import annotations

import re

__all__ = ["literal"]

# Kubernetes, third_party/forked/golang/expansion: `$(` begins a reference, `$$` is an escaped `$`.
_EXPANDED = re.compile(r"\$(?=[$(])")


def literal(text: str) -> str:
    """The text that reaches the process as `text`, in `env[].value` and `command[]`."""
    return _EXPANDED.sub("$$", text)
