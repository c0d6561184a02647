"""Loopback addresses of Pods: 127.77.x.y, one a Pod, stable for its uid and unique on this machine."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import sys

__all__ = ["AddressPool"]

_ONLY = "127.0.0.1"
_FIRST = int(ipaddress.IPv4Address("127.77.0.1"))
_COUNT = 0xFFFE  # neither 127.77.0.0 nor 127.77.255.255


class AddressPool:
    """Gives Pods their addresses.

    The first choice follows from the uid, so that a Pod finds its address again after a restart of the
    daemon. Several local clusters may run on one machine: on Linux an abstract socket named after the
    address, which the kernel frees with the process, keeps them apart. Elsewhere all Pods are on 127.0.0.1.
    """

    def __init__(self, *, platform: str = sys.platform) -> None:
        self._platform = platform
        self._by_pod: dict[str, str] = {}
        self._claims: dict[str, socket.socket] = {}

    def assign(self, pod_uid: str, preferred: str | None = None) -> str:
        """The address of a Pod, the `preferred` one if it is free.

        Raises:
            OSError: All addresses are taken.
        """
        if (known := self._by_pod.get(pod_uid)) is not None:
            return known
        if self._platform != "linux":  # only Linux has all of 127.0.0.0/8
            self._by_pod[pod_uid] = _ONLY
            return _ONLY
        start = int.from_bytes(hashlib.sha256(pod_uid.encode()).digest()[:4], "big") % _COUNT
        candidates = (str(ipaddress.IPv4Address(_FIRST + (start + step) % _COUNT)) for step in range(_COUNT))
        if preferred is not None and preferred.startswith("127.77.") and self._claim(preferred):
            self._by_pod[pod_uid] = preferred
            return preferred
        for address in candidates:
            if self._claim(address):
                self._by_pod[pod_uid] = address
                return address
        raise OSError("no free address is left in 127.77.0.0/16")

    def release(self, pod_uid: str) -> None:
        """Free the address of a Pod; unknown Pods are ignored."""
        address = self._by_pod.pop(pod_uid, None)
        if address is not None and (claim := self._claims.pop(address, None)) is not None:
            claim.close()

    def close(self) -> None:
        """Free every address."""
        for pod_uid in list(self._by_pod):
            self.release(pod_uid)

    def _claim(self, address: str) -> bool:
        if address in self._claims:
            return False
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0chalk.ai/pod/{address}")
        except OSError:
            claim.close()
            return False
        self._claims[address] = claim
        return True
