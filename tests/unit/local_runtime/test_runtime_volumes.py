"""Volumes as real processes see them: what the kubelet makes of a Pod, mounted by the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chalkcompute.local.kubelet.environment import PodFacts
from chalkcompute.local.kubelet.volumes import VolumeFolders
from chalkcompute.local.ports import Manifest
from tests.unit.local_runtime.conftest import RunSandboxed, Sandbox

CONFIG = {"kind": "ConfigMap", "data": {"f0": "from the map\n"}}
CLAIM: Manifest = {
    "metadata": {"name": "data"},
    "spec": {"volumeName": "pvc-1"},
    "status": {"phase": "Bound"},
}
POD: Manifest = {
    "metadata": {"name": "web", "namespace": "default", "uid": "u"},
    "spec": {
        "volumes": [
            {"name": "disk", "persistentVolumeClaim": {"claimName": "data"}},
            {
                "name": "files",
                "projected": {
                    "sources": [
                        {"configMap": {"name": "c", "items": [{"key": "f0", "path": "deep/app.toml"}]}}
                    ]
                },
            },
        ]
    },
}
MOUNTS = [
    {"name": "disk", "mountPath": "/data"},
    {"name": "disk", "mountPath": "/seen", "readOnly": True},
    {"name": "disk", "mountPath": "/part", "subPath": "models/v1"},
    {"name": "files", "mountPath": "/etc/app.toml", "subPath": "deep/app.toml"},
]
SCRIPT = """
echo written > /data/file; echo part > /part/model
cat /seen/file /data/models/v1/model /etc/app.toml
touch /seen/x 2>/dev/null || echo refused
echo x 2>/dev/null >> /etc/app.toml || echo refused
ls /etc/hosts
"""


def test_claims_and_files_in_a_replica(strongest_tier: str, tmp_path: Path, sandboxed: RunSandboxed) -> None:
    """A claim is shared and stays; one file mounted keeps what the image has beside it."""
    if strongest_tier == "plain":  # paths are rewritten there, and scripts are not
        return
    folder = tmp_path / "volumes" / "default" / "data"
    folder.mkdir(parents=True)
    volumes = VolumeFolders(tmp_path / "pods", claims=tmp_path / "volumes")
    objects = {"ConfigMap": CONFIG, "PersistentVolumeClaim": CLAIM}
    volumes.set_up(POD, PodFacts("127.0.0.1", "127.0.0.1"), lambda kind, name: objects[kind])
    container: dict[str, Any] = {"name": "app", "volumeMounts": MOUNTS}
    mounts = volumes.mounts(POD, container, lambda text: text)

    async def scenario(box: Sandbox) -> tuple[str, str]:
        _, first = await box.run("sh", "-c", SCRIPT, mounts=mounts)
        _, second = await box.run("cat", "/data/file", pod="other", mounts=mounts)
        return first, second

    first, second = sandboxed(strongest_tier, scenario)
    assert first.split("\n")[:6] == ["written", "part", "from the map", "refused", "refused", "/etc/hosts"]
    assert second == "written\n"
    assert (folder / "models" / "v1" / "model").read_text() == "part\n"
