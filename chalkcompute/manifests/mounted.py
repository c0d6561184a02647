"""What is mounted into the replicas: volumes by their claims, local files out of ConfigMaps."""

from __future__ import annotations

from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.mounts import FileMount
from chalkcompute.types import Manifest

__all__ = ["pod_volumes", "volume_mounts"]


def pod_volumes(spec: ScalingGroupSpec) -> list[Manifest]:
    """`spec.volumes` of the pods."""
    out: list[Manifest] = []
    for number, claim in enumerate(_claims(spec)):
        source: Manifest = {"claimName": claim}
        if all(mount.read_only for mount in spec.volumes if mount.name == claim):
            source["readOnly"] = True  # several nodes may have attached what nobody writes to
        out.append({"name": f"volume-{number}", "persistentVolumeClaim": source})
    return out + [_files(number, mount) for number, mount in enumerate(spec.files)]


def volume_mounts(spec: ScalingGroupSpec) -> list[Manifest]:
    """`volumeMounts` of the container, in order of their paths: what is inside another comes after it."""
    claims = _claims(spec)
    mounts = [
        {
            "name": f"volume-{claims.index(mount.name)}",
            "mountPath": mount.path,
            **({"readOnly": True} if mount.read_only else {}),
        }
        for mount in spec.volumes
    ]
    for number, files in enumerate(spec.files):
        # By `subPath` one file lies among those of the image; a directory hides them.
        one = {} if files.is_directory else {"subPath": files.entries[0].path}
        mounts.append({"name": f"files-{number}", "mountPath": files.path, "readOnly": True, **one})
    return sorted(mounts, key=lambda mount: str(mount["mountPath"]))


def _claims(spec: ScalingGroupSpec) -> list[str]:
    return sorted({mount.name for mount in spec.volumes})


def _files(number: int, mount: FileMount) -> Manifest:
    name = f"files-{number}"
    if not mount.entries:
        return {"name": name, "emptyDir": {}}
    sources = [
        {
            "configMap": {
                "name": config_map,
                "items": [
                    {"key": entry.key, "path": entry.path, "mode": entry.mode}
                    for entry in mount.entries
                    if entry.config_map == index
                ],
            }
        }
        for index, config_map in enumerate(mount.config_maps)
    ]
    return {"name": name, "projected": {"sources": sources}}
