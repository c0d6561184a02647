"""The content of a volume of any cluster: a short-lived Pod mounts it, and programs run in there."""

from __future__ import annotations

import contextlib
import io
import secrets
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from chalkcompute.cluster.exec import Execs, Exit
from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import ChalkError, ClusterError, ConflictError, ForbiddenError, InvalidObjectError
from chalkcompute.manifests.labels import MANAGED_BY, MANAGED_BY_CHALK
from chalkcompute.service import volume_scripts as scripts
from chalkcompute.service.scope import World
from chalkcompute.service.volume_paths import (
    UPLOAD_PREFIX,
    Kind,
    Upload,
    VolumeEntry,
    is_a_folder,
    leads_out,
    not_there,
)
from chalkcompute.types import Manifest

__all__ = ["IMAGE", "PodContent", "open_in_pod", "remove_finished", "users_of", "volume_pod"]

IMAGE = "busybox:1.37"
VOLUME = "chalk.ai/volume"
"""Label of our Pods: which volume they open."""
_CONTAINER = "volume"
_MOUNT = "/volume"
_START_SECONDS = 180.0  # a disk is attached, an image is pulled
_LIFE_SECONDS = 3600  # should we be killed outright, it ends by itself
_POLL_SECONDS = 0.5
_FINISHED = ("Succeeded", "Failed")
_TAR_BLOCK = 512
_TAR_END = bytes(2 * _TAR_BLOCK)
_RESTRICTED_USER = 65532
# What refuses a Pod for the rights that it asks for: Kubernetes itself; Gatekeeper and Kyverno; its own CEL.
_POLICIES = ("PodSecurity", "admission webhook", "ValidatingAdmissionPolicy")


def volume_pod(
    claim: Manifest, *, image: str, write: bool, node: str | None, restricted: bool, suffix: str
) -> Manifest:
    """The Pod that opens a volume. Pure.

    Args:
        claim: The PersistentVolumeClaim.
        image: Its image.
        write: Mount it to be written.
        node: The node it must be on: where the volume is attached already and can be at one node only.
        restricted: As a user that is not root, as the Pod Security Standard `restricted` demands. Otherwise
            as root with little more than the right to write what others own: most replicas write as root.
        suffix: What makes its name unique.
    """
    meta = claim["metadata"]
    labels = {MANAGED_BY: MANAGED_BY_CHALK, VOLUME: meta["name"][:63].rstrip("-.")}
    user, capabilities = _rights(restricted=restricted)
    container = {
        "name": _CONTAINER,
        "image": image,
        # It waits for the end itself: process 1 ignores SIGTERM unless it is told otherwise.
        "command": ["sh", "-c", f"trap 'exit 0' TERM; sleep {_LIFE_SECONDS} & wait"],
        "volumeMounts": [{"name": "volume", "mountPath": _MOUNT, "readOnly": not write}],
        # Both limits, in the ratio that groups have: a quota may ask for them, a LimitRange bound the ratio.
        "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": capabilities,
        },
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": _LIFE_SECONDS,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": meta["name"]}}],
    }
    if node is not None:
        names = [{"key": "metadata.name", "operator": "In", "values": [node]}]
        required = {"nodeSelectorTerms": [{"matchFields": names}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
        spec["tolerations"] = [{"operator": "Exists"}]  # a replica runs there, so a reader may
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"chalk-volume-{suffix}", "namespace": meta["namespace"], "labels": labels},
        "spec": spec,
    }


def _rights(*, restricted: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user of a Pod, and the capabilities of its container."""
    if not restricted:
        return {"runAsUser": 0}, {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]}
    user = {
        "runAsNonRoot": True,
        "runAsUser": _RESTRICTED_USER,
        "fsGroup": _RESTRICTED_USER,
        # The group of what is in the volume is changed only where its top does not have it yet.
        "fsGroupChangePolicy": "OnRootMismatch",
    }
    return user, {"drop": ["ALL"]}


@contextlib.contextmanager
def open_in_pod(
    cluster: Cluster, execs: Execs, claim: Manifest, *, image: str, write: bool, world: World
) -> Iterator[PodContent]:
    """Mount a volume into a Pod of our own, which is deleted at the end, however that comes.

    Raises:
        ClusterError: The Pod does not start; the message says what it waits for.
        ConflictError: A replica has the volume, and one Pod only can.
        ForbiddenError: The credential may not create Pods, or admission refuses this one.
    """
    remove_finished(cluster, claim)
    users = users_of(cluster, claim)
    _require_free(claim, users)
    node = _node_of(claim, users)
    suffix = secrets.token_hex(5)

    def made(*, restricted: bool) -> Manifest:
        return volume_pod(claim, image=image, write=write, node=node, restricted=restricted, suffix=suffix)

    pod = made(restricted=False)
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    try:
        try:
            cluster.create(pod)
        except (ForbiddenError, InvalidObjectError) as error:
            if not any(policy in error.message for policy in _POLICIES):
                raise
            cluster.create(made(restricted=True))
        _wait_until_running(cluster, name, claim, world)
        yield PodContent(execs, claim["metadata"]["name"], name, namespace)
    finally:
        # Also when its creation was not answered: it may have happened.
        with contextlib.suppress(ChalkError):
            cluster.delete("Pod", name, namespace)


def users_of(cluster: Cluster, claim: Manifest) -> list[Manifest]:
    """The Pods that mount a claim, finished ones left out."""
    meta = claim["metadata"]
    return [
        pod
        for pod in cluster.list("Pod", meta["namespace"])
        if (pod.get("status") or {}).get("phase") not in _FINISHED
        and any(
            (volume.get("persistentVolumeClaim") or {}).get("claimName") == meta["name"]
            for volume in pod["spec"].get("volumes") or ()
        )
    ]


def remove_finished(cluster: Cluster, claim: Manifest) -> None:
    """Remove Pods of ours that outlived a killed process: even finished they would hold the claim."""
    labels = f"{MANAGED_BY}={MANAGED_BY_CHALK},{VOLUME}"
    for pod in cluster.list("Pod", claim["metadata"]["namespace"], labels=labels):
        if (pod.get("status") or {}).get("phase") in _FINISHED:
            meta = pod["metadata"]
            cluster.delete("Pod", meta["name"], meta["namespace"], uid=meta["uid"])


def _require_free(claim: Manifest, users: list[Manifest]) -> None:
    """Say at once what the scheduler would say of every node for as long as it is waited for."""
    if users and "ReadWriteOncePod" in (claim["spec"].get("accessModes") or ()):
        raise ConflictError(
            f"pod `{users[0]['metadata']['name']}` has the volume `{claim['metadata']['name']}`, which is "
            "ReadWriteOncePod: no other pod can open it meanwhile",
            hint="stop what mounts it first",
        )


def _node_of(claim: Manifest, users: list[Manifest]) -> str | None:
    """Where a volume is that can be at one node only, None when it is free to go anywhere."""
    if {"ReadWriteMany", "ReadOnlyMany"} & set(claim["spec"].get("accessModes") or ()):
        return None
    nodes = (pod["spec"].get("nodeName") for pod in users)
    return next((str(node) for node in nodes if node), None)


def _wait_until_running(cluster: Cluster, name: str, claim: Manifest, world: World) -> None:
    volume, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
    deadline = world.monotonic() + _START_SECONDS
    while True:
        pod = cluster.get("Pod", name, namespace)
        phase = (pod.get("status") or {}).get("phase")
        if phase == "Running" and _is_started(pod):
            return
        if phase in _FINISHED or world.monotonic() > deadline:
            why = _what_it_waits_for(cluster, pod)
            raise ClusterError(
                f"the pod `{name}` that was to open volume `{volume}` does not run: {why}",
                hint="CHALK_VOLUME_IMAGE names another image for it" if "image" in why.lower() else None,
            )
        world.sleep(_POLL_SECONDS)


def _is_started(pod: Manifest) -> bool:
    """Whether our container runs: of a Pod with one that a mesh put beside it, that one may be the first."""
    found = pod["status"].get("containerStatuses") or ()
    ours = [each for each in found if each.get("name") == _CONTAINER]
    return not ours or "running" in (ours[0].get("state") or {})


def _what_it_waits_for(cluster: Cluster, pod: Manifest) -> str:
    """The last warning about it, else what its container says."""
    meta = pod["metadata"]
    events: list[Manifest] = []
    with contextlib.suppress(ForbiddenError):  # then its own status has to do
        events = cluster.list("Event", meta["namespace"], fields=f"involvedObject.name={meta['name']}")
    warnings = [event for event in events if event.get("type") == "Warning"]
    if warnings:
        last = max(warnings, key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return str(last.get("message") or last.get("reason"))
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting:
            return str(waiting.get("message") or waiting.get("reason"))
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("message"):
            return str(condition["message"])
    return str(status.get("message") or f"it is {status.get('phase') or 'Pending'}")


class PodContent:
    """Implements `volume_paths.Content`.

    Args:
        execs: Runs the programs.
        volume: Name of the volume, for messages.
        pod: The Pod that has it mounted.
        namespace: Its namespace.
        mount: Where it is mounted.
    """

    def __init__(self, execs: Execs, volume: str, pod: str, namespace: str, mount: str = _MOUNT) -> None:
        self._execs = execs
        self._volume = volume
        self._pod = pod
        self._namespace = namespace
        self._mount = mount

    def put(self, upload: Upload) -> None:
        """Write a file beside its place, then move it there."""
        part = UPLOAD_PREFIX + secrets.token_hex(8)
        folder = upload.path.rpartition("/")[0]
        arguments = (upload.path, str(upload.size), f"{upload.mode:o}", part)
        with self._swept(f"{folder}/{part}" if folder else part):
            ended = self._run(scripts.PUT, *arguments, stdin=upload.chunks())
            self._check(ended, upload.path)

    def put_all(self, folder: str, uploads: list[Upload]) -> None:
        """Send an archive, and move what was in it once it is complete."""
        part, last = UPLOAD_PREFIX + secrets.token_hex(8), UPLOAD_PREFIX + "complete"
        everything = [*uploads, Upload(last, 0, 0o600, lambda: ())]
        said = io.BytesIO()
        with self._swept(part):
            ended = self._run(
                scripts.PUT_ALL,
                str(sum(_size_in_archive(upload) for upload in everything) + len(_TAR_END)),
                part,
                last,
                stdin=_archive(everything),
                stdout=said.write,
            )
            self._check(ended, said.getvalue().decode("utf-8", "replace").strip() or folder or ".")

    def entries(self, folder: str, *, recursive: bool) -> list[VolumeEntry]:
        """What is in a folder."""
        said = io.BytesIO()
        ended = self._run(scripts.ENTRIES, folder, "" if recursive else "1", UPLOAD_PREFIX, stdout=said.write)
        self._check(ended, folder or ".")
        return [_entry(record, folder) for record in said.getvalue().split(scripts.MARK)[1:]]

    def read(self, path: str, write: Callable[[bytes], object]) -> None:
        """The content of a file."""
        self._check(self._run(scripts.READ, path, stdout=write), path)

    @contextlib.contextmanager
    def _swept(self, part: str) -> Iterator[None]:
        """Leave nothing of an upload that breaks: the program itself cannot be relied upon then."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(ChalkError):
                leftover = ["rm", "-rf", "--", f"{self._mount}/{part}"]
                self._execs.run(self._pod, self._namespace, leftover, container=_CONTAINER)
            raise

    def _run(
        self,
        script: str,
        *arguments: str,
        stdin: Iterable[bytes] | None = None,
        stdout: Callable[[bytes], object] | None = None,
    ) -> Exit:
        command: Sequence[str] = ["sh", "-c", script, "sh", self._mount, *arguments]
        return self._execs.run(
            self._pod, self._namespace, command, container=_CONTAINER, stdin=stdin, stdout=stdout
        )

    def _check(self, ended: Exit, path: str) -> None:
        if ended.code == 0:
            return
        if ended.code == scripts.NOT_THERE:
            raise not_there(self._volume, path)
        if ended.code == scripts.NOT_A_FILE:
            raise is_a_folder(self._volume, path)
        if ended.code == scripts.LEADS_OUT:
            raise leads_out(self._volume, path)
        said = ended.stderr.splitlines()
        why = said[-1] if said else f"exit code {ended.code}"
        if ended.code == scripts.TRUNCATED:
            why = f"not all of it arrived ({why})" if said else "not all of it arrived"
        raise ClusterError(f"`{path}` in volume `{self._volume}` cannot be used: {why}")


def _entry(record: bytes, folder: str) -> VolumeEntry:
    mode, size, modified, name = record.decode("utf-8", "replace").removesuffix("\n").split(" ", 3)
    bits = int(mode, 16)
    kind: Kind = "other"
    if stat.S_ISREG(bits):
        kind = "file"
    elif stat.S_ISDIR(bits):
        kind = "directory"
    elif stat.S_ISLNK(bits):
        kind = "link"
    path = folder
    if name.startswith("./"):
        path = f"{folder}/{name[2:]}" if folder else name[2:]
    moment = datetime.fromtimestamp(int(modified), UTC)
    return VolumeEntry(path, kind, int(size) if kind == "file" else 0, moment)


def _archive(uploads: Iterable[Upload]) -> Iterator[bytes]:
    for upload in uploads:
        yield _header(upload)
        yield from upload.chunks()
        yield bytes(-upload.size % _TAR_BLOCK)
    yield _TAR_END


def _size_in_archive(upload: Upload) -> int:
    return len(_header(upload)) + upload.size + -upload.size % _TAR_BLOCK


def _header(upload: Upload) -> bytes:
    info = tarfile.TarInfo(upload.path)
    info.size, info.mode = upload.size, upload.mode
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
