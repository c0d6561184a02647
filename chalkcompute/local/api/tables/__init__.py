"""Server-printed tables: the columns that `kubectl get` shows, one module a group of kinds."""

from chalkcompute.local.api.tables.printer import TablePrinter

__all__ = ["TablePrinter"]
