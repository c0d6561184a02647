"""`from chalk.client import ChalkClient`: the name that the specification's examples use.

`chalk` has no `__init__.py` (PEP 420), so that it never shadows another package of that name.
"""

from __future__ import annotations

from chalkcompute.client import ChalkClient

__all__ = ["ChalkClient"]
