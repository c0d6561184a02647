"""Images made by hand, for tests of the runtime."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalkcompute.local.ports import ImageLayer, ImagePullError, PulledImage

__all__ = ["OCI_LAYER", "FakeImages", "Member", "archive", "as_layer", "host_programs"]

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
Member = tuple[str, Any]


def archive(*members: Member) -> bytes:
    """A tar archive of (name, content).

    Content: bytes are a file (executable when they start with `#!` or as an ELF), None is a folder, `->x` a
    link, `=x` a hard link; a `TarInfo` is taken as it is.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, content in members:
            info = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.name = name
            data = b""
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, str):
                info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                info.linkname = content.removeprefix("->").removeprefix("=")
            elif isinstance(content, bytes):
                data, info.size = content, len(content)
                info.mode = 0o755 if content.startswith((b"#!", b"\x7fELF")) else 0o644
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def as_layer(
    folder: Path, tar: bytes, media_type: str = OCI_LAYER, *, blob: bytes | None = None
) -> ImageLayer:
    """A layer whose blob is in a folder."""
    blob = tar if blob is None else blob
    digest = hashlib.sha256(blob).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / digest).write_bytes(blob)
    diff_id = "sha256:" + hashlib.sha256(tar).hexdigest()
    return ImageLayer(f"sha256:{digest}", diff_id, media_type, folder / digest)


class FakeImages:
    """Implements `ports.Images` with images that tests make."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: dict[str, PulledImage] = {}
        self.policies: list[str] = []

    def add(
        self,
        name: str,
        *layers: bytes,
        config: Mapping[str, Any] | None = None,
        host_base: str | None = None,
        **document: Any,
    ) -> None:
        made = [
            as_layer(self._folder, layer, f"{OCI_LAYER}+gzip", blob=gzip.compress(layer, 1))
            for layer in layers
        ]
        digest = hashlib.sha256(name.encode()).hexdigest()
        self._images[name] = PulledImage(
            f"sha256:{digest}",
            f"{name.partition(':')[0]}@sha256:{digest}",
            {"os": "linux", **document, "config": dict(config or {})},
            tuple(made),
            host_base=host_base,
        )

    async def pull(self, image: str, *, policy: str = "IfNotPresent") -> PulledImage:
        self.policies.append(policy)
        try:
            return self._images[image]
        except KeyError:
            raise ImagePullError(f"no `{image}` here") from None


def host_programs(*names: str) -> list[Member]:
    """Programs of this machine with the libraries that they need: an image without an image."""
    wanted = [shutil.which(name) or "" for name in names]
    members: dict[str, Any] = {}
    for program in wanted:
        members[f"bin/{Path(program).name}"] = Path(program).resolve().read_bytes()
        said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", said):
            members[library.lstrip("/")] = Path(os.path.realpath(library)).read_bytes()
    # Libraries are executable, as the loader must be.
    return list(members.items())
