"""Replicas as containers of docker or podman, through the API that both have: `ports.Runtime` once more.

Needs the extra `engine`; nothing else of the local cluster imports this package before it is asked for.
"""

from chalkcompute.local.engine.discovery import Engine, connect
from chalkcompute.local.engine.runtime import EngineRuntime

__all__ = ["Engine", "EngineRuntime", "connect"]
