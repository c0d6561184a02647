"""The runtime: replicas as sandboxed processes of this machine."""

from chalkcompute.local.runtime.runtime import LocalRuntime, create_runtime

__all__ = ["LocalRuntime", "create_runtime"]
