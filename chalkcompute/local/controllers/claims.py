"""PersistentVolumeClaims: each is bound at once to a folder of this machine, which goes with it.

Three parts of a real cluster in one: the provisioner (rancher's `local-path-provisioner`), the binding
controller (`pkg/controller/volume/persistentvolume`) and the one that keeps a claim while a Pod uses it
(`pkg/controller/volume/pvcprotection`). There are no PersistentVolumes: `spec.volumeName` is only a name.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from chalkcompute.local.apimachinery.names import dns_subdomain_problem
from chalkcompute.local.controllers.actions import MANAGER, Recorder
from chalkcompute.local.controllers.controller import find
from chalkcompute.local.controllers.objects import Key, is_deleting, key_of
from chalkcompute.local.ports import Api, Change, Manifest
from chalkcompute.local.state import remove_tree

__all__ = ["LOCAL_PATH", "PROTECTION", "ClaimController", "bound", "claims_of", "obstacle", "with_status"]

LOCAL_PATH = "chalk.ai/local-path"
"""Annotation of a bound claim: its folder."""
PROTECTION = "kubernetes.io/pvc-protection"
_BOUND = {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
_REMOVED = ".removed"  # no namespace is called so
_RETRY_SECONDS = 15.0

log = logging.getLogger(__name__)


def claims_of(pod: Manifest) -> list[str]:
    """Names of the claims that a Pod mounts."""
    sources = (volume.get("persistentVolumeClaim") for volume in pod["spec"].get("volumes") or ())
    return [source["claimName"] for source in sources if source]


def obstacle(claim: Manifest) -> str | None:
    """Why no folder can stand for a claim, as a provisioner words it; None when one can. Pure."""
    spec = claim["spec"]
    if spec.get("volumeMode") == "Block":
        return "block volumes are not supported by the local cluster, only file systems are"
    if spec.get("selector"):
        return "claim Selector is not supported"
    for field in ("dataSource", "dataSourceRef"):
        if spec.get(field):
            return f"{field} is not supported by the local cluster: a volume begins empty"
    return None


def bound(claim: Manifest, folder: Path) -> Manifest:
    """The claim with all that binding writes beside its status. Pure."""
    meta = claim["metadata"]
    finalizers = meta.get("finalizers") or []
    annotations = {**(meta.get("annotations") or {}), **_BOUND, LOCAL_PATH: str(folder)}
    return {
        **claim,
        "metadata": {
            **meta,
            "annotations": annotations,
            "finalizers": finalizers if PROTECTION in finalizers else [*finalizers, PROTECTION],
        },
        "spec": {**claim["spec"], "volumeName": f"pvc-{meta['uid']}"},
    }


def with_status(claim: Manifest) -> Manifest:
    """The claim with the status of a bound one: a folder has whatever room was asked for. Pure."""
    spec = claim["spec"]
    status: dict[str, Any] = {
        **(claim.get("status") or {}),
        "phase": "Bound",
        "accessModes": spec["accessModes"],
        "capacity": {"storage": spec["resources"]["requests"]["storage"]},
    }
    return {**claim, "status": status}


def _unprotected(claim: Manifest) -> Manifest:
    meta = dict(claim["metadata"])
    kept = [finalizer for finalizer in meta.get("finalizers") or () if finalizer != PROTECTION]
    if kept:
        meta["finalizers"] = kept
    else:
        meta.pop("finalizers", None)
    return {**claim, "metadata": meta}


class ClaimController:
    """Makes, keeps and removes the folders of claims, `<folder>/<namespace>/<name>`.

    Args:
        api: The API server from the inside.
        recorder: For what is told of claims.
        folder: Where the folders are, absolute.
    """

    name = "persistentvolumeclaim"
    kinds = ("PersistentVolumeClaim", "Pod")

    def __init__(self, api: Api, recorder: Recorder, folder: Path) -> None:
        self._api = api
        self._recorder = recorder
        self._folder = folder
        self._sweep()

    def keys(self, change: Change) -> Iterator[Key]:
        """The claim; those of a Pod that is gone, and so does not use them any more."""
        if change.kind == "PersistentVolumeClaim":
            yield key_of(change.obj)
        elif change.type == "DELETED":
            namespace = change.obj["metadata"]["namespace"]
            # A Pod may name anything; what no claim can be called must not become the path of a folder.
            names = (name for name in claims_of(change.obj) if dns_subdomain_problem(name) is None)
            yield from ((namespace, name) for name in names)

    def sync(self, key: Key) -> float | None:
        claim = find(self._api, "PersistentVolumeClaim", key)
        folder = self._folder / key[0] / key[1]
        if claim is None:  # it went without waiting for us
            self._discard(folder)
            return None
        if is_deleting(claim):
            if PROTECTION in (claim["metadata"].get("finalizers") or ()) and not self._used(claim):
                self._discard(folder)
                self._api.update(_unprotected(claim), manager=MANAGER)
            return None
        # A name in the claim: it asks for a PersistentVolume that somebody else made, and waits for it.
        wanted = claim["spec"].get("volumeName")
        if wanted and wanted != f"pvc-{claim['metadata']['uid']}":
            return None
        return self._bind(claim, folder)

    def _bind(self, claim: Manifest, folder: Path) -> float | None:
        why = obstacle(claim)
        if why is not None:
            self._failed(claim, why)
            return None
        if not claim["spec"].get("volumeName"):
            text = f'External provisioner is provisioning volume for claim "{"/".join(key_of(claim))}"'
            self._recorder.event(claim, "Normal", "Provisioning", text)
            try:
                self._discard(folder)  # of an earlier claim of this name: a new volume is empty
                folder.mkdir(parents=True)
                folder.chmod(0o777)  # as local-path does: replicas may run as any user
            except OSError as error:
                self._failed(claim, f"{folder}: {error.strerror or error}")
                return _RETRY_SECONDS
        written = bound(claim, folder)
        if written != claim:
            claim = self._api.update(written, manager=MANAGER)
        written = with_status(claim)
        if written != claim:
            is_new = (claim.get("status") or {}).get("phase") != "Bound"
            claim = self._api.update(written, manager=MANAGER, subresource="status")
            if is_new:
                text = f"Successfully provisioned volume {claim['spec']['volumeName']}"
                self._recorder.event(claim, "Normal", "ProvisioningSucceeded", text)
        return None

    def _failed(self, claim: Manifest, why: str) -> None:
        storage_class = claim["spec"].get("storageClassName") or ""
        text = f'failed to provision volume with StorageClass "{storage_class}": {why}'
        self._recorder.event(claim, "Warning", "ProvisioningFailed", text)

    def _used(self, claim: Manifest) -> bool:
        """Whether a Pod that has a node mounts it; the scheduler places none on a claim that is going."""
        meta = claim["metadata"]
        pods = self._api.list("Pod", meta["namespace"])
        return any(pod["spec"].get("nodeName") and meta["name"] in claims_of(pod) for pod in pods)

    def _discard(self, folder: Path) -> None:
        """Put a folder out of the way at once, and remove it beside: it may be large."""
        removed = self._folder / _REMOVED
        if not folder.is_dir():
            return
        removed.mkdir(exist_ok=True)
        moved = folder.rename(removed / uuid.uuid4().hex)
        with contextlib.suppress(OSError):  # other claims are in that namespace
            folder.parent.rmdir()
        _remove_beside([moved])

    def _sweep(self) -> None:
        """What an earlier run did not get to."""
        removed = self._folder / _REMOVED
        if removed.is_dir():
            _remove_beside(removed.iterdir())


def _remove_beside(folders: Iterable[Path]) -> None:
    def work(waiting: list[Path]) -> None:
        for folder in waiting:
            try:
                remove_tree(folder)
            except OSError as error:  # the next start tries again
                log.warning("the folder of a claim that is gone cannot be removed: %s", error)

    # Not a daemon thread: the interpreter's end would cut it off in the middle.
    threading.Thread(target=work, args=(list(folders),), name="remove volumes").start()
