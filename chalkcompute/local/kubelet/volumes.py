"""Volumes as folders of this node: ConfigMaps, Secrets, projected ones, the downward API, emptyDir, claims.

Source: `pkg/volume/{configmap,secret,projected,downwardapi,emptydir}`, `pkg/kubelet/volumemanager` (claims),
`pkg/kubelet/kubelet_pods.go` makeMounts and `pkg/volume/util/subpath`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from chalkcompute.local.kubelet.environment import (
    ContainerConfigError,
    Lookup,
    PodFacts,
    field_value,
    object_data,
)
from chalkcompute.local.ports import Manifest, Mount

__all__ = ["VolumeError", "VolumeFolders"]

_DEFAULT_MODE = 0o644
_SUPPORTED = "configMap, secret, projected, downwardAPI, emptyDir and persistentVolumeClaim"


class VolumeError(Exception):
    """A volume cannot be set up (yet); the text is the kubelet's for a `FailedMount` Event."""


class VolumeFolders:
    """Makes the volumes of Pods below one folder, and removes them with the Pod.

    Args:
        folder: Where the volumes of Pods are.
        claims: Where the folders of claims are, `<namespace>/<name>`; they outlive Pods.
    """

    def __init__(self, folder: Path, *, claims: Path) -> None:
        self._folder = folder
        self._claims = claims

    def set_up(self, pod: Manifest, facts: PodFacts, lookup: Lookup) -> None:
        """Make every volume of a Pod.

        Raises:
            VolumeError: One of them cannot be had now.
        """
        for volume in pod["spec"].get("volumes") or ():
            folder = self._volume(pod, volume)
            if "emptyDir" in volume:
                folder.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o777)
                continue
            if "persistentVolumeClaim" in volume:
                self._check_claim(pod, volume, lookup)
                continue
            try:
                files = _files(pod, volume, facts, lookup)
            except (VolumeError, ContainerConfigError) as error:
                raise VolumeError(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                ) from None
            _write(folder, files)

    def mounts(
        self, pod: Manifest, container: Mapping[str, Any], expand: Callable[[str], str]
    ) -> tuple[Mount, ...]:
        """The mounts of a container.

        Raises:
            ContainerConfigError: A `subPath` that cannot be had.
        """
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        mounts = []
        for mount in container.get("volumeMounts") or ():
            volume = volumes[mount["name"]]
            source = self._volume(pod, volume)
            sub_path = expand(mount.get("subPathExpr") or "") or mount.get("subPath") or ""
            if sub_path:
                source = _inside(source, sub_path, mount["name"], container["name"])
            writable = _is_writable(volume) and not mount.get("readOnly")
            mounts.append(Mount(source, mount["mountPath"], read_only=not writable))
        return tuple(mounts)

    def termination_message(self, pod: Manifest, container: str, run: int) -> Path:
        """A fresh file for the termination message of one run."""
        folder = self._pod(pod) / "containers" / container
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / str(run)
        path.write_bytes(b"")
        path.chmod(0o666)
        return path

    def remove(self, pod: Manifest) -> None:
        """The Pod is gone, and its volumes with it."""
        shutil.rmtree(self._pod(pod), ignore_errors=True)

    def keep_only(self, pod_uids: Collection[str]) -> None:
        """Remove the volumes of Pods that went while nobody looked."""
        if self._folder.is_dir():
            for folder in self._folder.iterdir():
                if folder.name not in pod_uids:
                    shutil.rmtree(folder, ignore_errors=True)

    def _pod(self, pod: Manifest) -> Path:
        return self._folder / str(pod["metadata"]["uid"])

    def _volume(self, pod: Manifest, volume: Mapping[str, Any]) -> Path:
        if (source := volume.get("persistentVolumeClaim")) is not None:
            # By its name, not by the annotation that says where it is: anybody may write that.
            return self._claims / str(pod["metadata"]["namespace"]) / str(source["claimName"])
        return self._pod(pod) / "volumes" / str(volume["name"])

    def _check_claim(self, pod: Manifest, volume: Mapping[str, Any], lookup: Lookup) -> None:
        name = volume["persistentVolumeClaim"]["claimName"]
        full = f"{pod['metadata']['namespace']}/{name}"
        claim = lookup("PersistentVolumeClaim", name)
        if claim is None:
            raise _not_mounted(
                volume,
                full,
                f'failed to fetch PVC from API server: persistentvolumeclaims "{name}" not found',
            )
        if claim["metadata"].get("deletionTimestamp"):
            raise _not_mounted(volume, full, "PVC is being deleted")
        phase = (claim.get("status") or {}).get("phase") or "Pending"
        volume_name = claim["spec"].get("volumeName") or ""
        if phase != "Bound" or not volume_name:
            why = f'PVC {full} has non-bound phase ("{phase}") or empty pvc.Spec.VolumeName ("{volume_name}")'
            raise _not_mounted(volume, full, why)
        folder = self._volume(pod, volume)
        if not folder.is_dir():
            raise VolumeError(
                f'MountVolume.NewMounter initialization failed for volume "{volume_name}" : '
                f'path "{folder}" does not exist'
            )


def _not_mounted(volume: Mapping[str, Any], claim: str, why: str) -> VolumeError:
    name = volume["name"]
    return VolumeError(
        f"Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[], failed to "
        f"process volumes=[{name}]: error processing PVC {claim}: {why}"
    )


def _is_writable(volume: Mapping[str, Any]) -> bool:
    """What comes from objects is read-only, whatever a mount says."""
    if (claim := volume.get("persistentVolumeClaim")) is not None:
        return not claim.get("readOnly")
    return "emptyDir" in volume


def _inside(volume: Path, sub_path: str, mount: str, container: str) -> Path:
    """A file or folder inside a volume, free of links; a folder is made where there is nothing.

    Links are followed as long as they stay inside: what a container has put there must not lead to the host's
    files. The messages tell nothing of those, as the kubelet's do not.
    """
    about = f'for volumeMount "{mount}" of container "{container}"'
    if sub_path.startswith("/"):
        raise ContainerConfigError(f"error SubPath `{sub_path}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise ContainerConfigError(f"unable to provision SubPath `{sub_path}`: must not contain '..'")
    top = Path(os.path.realpath(volume))
    found = Path(os.path.realpath(top / sub_path))
    if not found.is_relative_to(top):
        raise ContainerConfigError(f"failed to prepare subPath {about}")
    if found.exists():
        return found
    try:
        for folder in (*reversed(found.parents), found):
            if folder.is_relative_to(top) and not folder.exists():
                folder.mkdir()
                folder.chmod(top.stat().st_mode & 0o777)
    except OSError:
        raise ContainerConfigError(f"failed to create subPath directory {about}") from None
    return found


def _files(
    pod: Manifest, volume: Mapping[str, Any], facts: PodFacts, lookup: Lookup
) -> dict[str, tuple[bytes, int]]:
    for field in ("configMap", "secret", "downwardAPI"):
        if (source := volume.get(field)) is not None:
            mode = source.get("defaultMode") or _DEFAULT_MODE
            return _source_files(pod, field, source, mode, facts, lookup)
    if (projected := volume.get("projected")) is not None:
        mode = projected.get("defaultMode") or _DEFAULT_MODE
        found: dict[str, tuple[bytes, int]] = {}
        for part in projected.get("sources") or ():
            for field, source in part.items():
                found.update(_source_files(pod, field, source, mode, facts, lookup))
        return found
    kind = next((key for key in volume if key != "name"), "none")
    raise VolumeError(f"{kind} volumes are not supported by the local cluster yet, only {_SUPPORTED} are")


def _source_files(
    pod: Manifest, field: str, source: Mapping[str, Any], mode: int, facts: PodFacts, lookup: Lookup
) -> dict[str, tuple[bytes, int]]:
    if field == "downwardAPI":
        return {
            item["path"]: (_downward(pod, item, facts).encode(), item.get("mode") or mode)
            for item in source.get("items") or ()
        }
    kinds = {"configMap": "ConfigMap", "secret": "Secret"}
    if field not in kinds:
        raise VolumeError(f"{field} is not supported by the local cluster yet, only {_SUPPORTED} are")
    name = source.get("name") or source.get("secretName") or ""
    obj = lookup(kinds[field], name)
    if obj is None:
        if source.get("optional"):
            return {}
        raise VolumeError(f'{kinds[field].lower()} "{name}" not found')
    return _chosen(object_data(obj), source.get("items") or (), mode, bool(source.get("optional")))


def _chosen(
    data: Mapping[str, bytes], items: Sequence[Mapping[str, Any]], mode: int, optional: bool
) -> dict[str, tuple[bytes, int]]:
    if not items:
        return {key: (value, mode) for key, value in data.items()}
    found = {}
    for item in items:
        if item["key"] in data:
            found[item["path"]] = (data[item["key"]], item.get("mode") or mode)
        elif not optional:
            raise VolumeError(f"references non-existent config key: {item['key']}")
    return found


def _downward(pod: Manifest, item: Mapping[str, Any], facts: PodFacts) -> str:
    if (reference := item.get("fieldRef")) is not None:
        return field_value(pod, reference["fieldPath"], facts)
    raise VolumeError("resourceFieldRef in volumes is not supported by the local cluster yet")


def _write(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folders = {folder}
    for name, (data, mode) in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folders |= {each for each in path.parents if each.is_relative_to(folder)}
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    for each in folders:  # the daemon's umask is for itself; a replica may run as any user
        each.chmod(0o755)
