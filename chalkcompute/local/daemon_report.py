"""What the daemon tells whoever started it: ready, or why not, as one line of JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from chalkcompute.errors import LocalClusterError

__all__ = ["Report"]


class Report:
    """What `lifecycle.up` waits for."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """Say so.

        Raises:
            LocalClusterError: Nobody listens: whoever started us has given up, and may not know our pid.
        """
        if not self._send({"ready": True}):
            raise LocalClusterError("nobody waits for this daemon to be ready any more")

    def failed(self, message: str, hint: str | None, *, again: bool = False) -> None:
        self._send({"ready": False, "error": message, "hint": hint, "again": again})

    def _send(self, report: Mapping[str, Any]) -> bool:
        """Whether it was heard, where somebody was to hear it."""
        if self._descriptor is None:
            return True
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.write(descriptor, json.dumps(report).encode() + b"\n")
        except BrokenPipeError:
            return False
        finally:
            os.close(descriptor)
        return True
