"""The sandbox tiers, which of them a machine gets, and what each cannot do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chalkcompute.local.runtime.probe import Capabilities

__all__ = ["FILES_COUNT", "ONE_ADDRESS", "TIERS", "Tier", "choose_tier", "obstacle"]


@dataclass(frozen=True, slots=True)
class Tier:
    """One way of running replicas.

    Attributes:
        name: `ns-root`, `ns-user`, `notify` or `plain`.
        namespaces: Own mount and pid namespaces, made as root or in a user namespace; "" for none.
        filter: Addresses are given by seccomp user notification.
        limitations: What it cannot do, one sentence each.
    """

    name: str
    namespaces: Literal["", "root", "user"]
    filter: bool
    limitations: tuple[str, ...]


_SHARED = "Replicas share this machine's kernel, network and time: the sandbox is no security boundary"
_ONE_USER = "Replicas run as the one user that you are, whatever user their image names; inside it is root"
_ONLY_PYTHON = "Only images based on an official `python` image run: others take a root of their own"
_PATHS = (
    "Replicas see the whole file system of this machine with your rights, and share its /tmp",
    "Mounted volumes appear only where a path to them stands in the command line or the environment",
)

TIERS: dict[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier("ns-root", "root", True, (_SHARED,)),
        Tier("ns-user", "user", True, (_SHARED, _ONE_USER)),
        Tier("notify", "", True, (_SHARED, _ONLY_PYTHON, *_PATHS)),
        Tier(
            "plain",
            "",
            False,
            (
                _SHARED,
                "Only Python servers get an address of their own: two replicas of another program collide",
                _ONLY_PYTHON,
                *_PATHS,
            ),
        ),
    )
}


FILES_COUNT = "Files that a replica writes outside its volumes are in memory, and count towards its limit"

ONE_ADDRESS = "This system has one loopback address: two replicas that listen on the same port collide"


def choose_tier(capabilities: Capabilities) -> Tier:
    """The best tier that a machine allows."""
    # `TIERS` has the best first, and nothing stands in the way of the last.
    return next(tier for tier in TIERS.values() if obstacle(tier, capabilities) is None)


def obstacle(tier: Tier, capabilities: Capabilities) -> str | None:
    """Why a machine does not allow a tier, None if it does."""
    if tier.filter and capabilities.notification is not None:
        return f"seccomp user notification: {capabilities.notification}"
    needs = {"root": capabilities.root_namespaces, "user": capabilities.user_namespaces, "": None}
    found = needs[tier.namespaces]
    return None if found is None else f"namespaces: {found}"
