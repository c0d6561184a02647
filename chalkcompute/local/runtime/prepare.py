"""From an image's name to what a replica of it needs: folders, the interpreter, the configuration."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from chalkcompute.local.ports import ImageLayer, ImagePullError, Images, PulledImage
from chalkcompute.local.runtime.hostbase import HostBase, Interpreter
from chalkcompute.local.runtime.hostlayer import make_host_layer
from chalkcompute.local.runtime.imageconfig import ImageConfig, foreign_platform
from chalkcompute.local.runtime.images import parse_reference
from chalkcompute.local.runtime.layers import LayerStore
from chalkcompute.local.runtime.tiers import Tier
from chalkcompute.local.runtime.unpack import LayerError

__all__ = ["DEFAULT_PATH", "ImagePreparer", "PreparedImage"]

DEFAULT_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAYERS = "images/layers"
_SHEBANG = b"#!/usr/local/bin/python"
_NO_NAMESPACES = (
    "the sandbox tier `{tier}` shares this machine's root, and an image brings its own: start the local "
    "cluster as root, or allow user namespaces (`sysctl user.max_user_namespaces`, on Debian also "
    "`kernel.unprivileged_userns_clone=1`, on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`); "
    "here only images based on an official `python` image run"
)


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """An image that can be run.

    Attributes:
        id: What the container's status shows as `imageID`.
        warning: What whoever runs it should know, or None.
        config: How it wants to be run.
        folders: Its layers, the uppermost first; empty in tiers without namespaces.
        interpreter: The Python of this machine beneath it, None for a real image.
        merged: All its files in one folder, in tiers without namespaces, where it has any.
    """

    id: str
    warning: str | None
    config: ImageConfig
    folders: tuple[Path, ...] = ()
    interpreter: Interpreter | None = None
    merged: Path | None = None


@dataclass(slots=True)
class ImagePreparer:
    """Pulls images, unpacks them, and remembers what came of it.

    Attributes:
        images: Where images come from; None when only the host base is to be had.
        host_base: Finds interpreters of this machine.
        tier: The sandbox's tier.
        state_dir: Layers go below it.
        folder: Where layers for interpreters go.
        program_folder: Where the programs of an interpreter are in tiers without namespaces.
    """

    images: Images | None
    host_base: HostBase
    tier: Tier
    state_dir: Path
    folder: Path
    program_folder: Callable[[Interpreter], Path]
    _prepared: dict[str, PreparedImage] = field(default_factory=dict)
    _store: LayerStore = field(init=False)

    def __post_init__(self) -> None:
        owners = self.tier.namespaces == "root" and os.getuid() == 0
        self._store = LayerStore(self.state_dir.absolute() / _LAYERS, owners=owners)

    async def pull(self, image: str, policy: str) -> PreparedImage:
        """Make an image ready.

        Raises:
            ImagePullError: It cannot be had, or not be run here.
        """
        parse_reference(image)
        if self.images is None:
            prepared = await self._substitute(image)
        else:
            prepared = await self._unpack(image, await self.images.pull(image, policy=policy))
        self._prepared[image] = prepared
        return prepared

    async def ready(self, image: str) -> PreparedImage:
        """The image as it was last pulled; pulls it if it never was."""
        return self._prepared.get(image) or await self.pull(image, "IfNotPresent")

    async def _substitute(self, image: str) -> PreparedImage:
        """The host base and nothing else."""
        interpreter, warning = await self.host_base.resolve(parse_reference(image), image)
        env = {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8", "PYTHON_VERSION": interpreter.version}
        folders = await asyncio.to_thread(self._host_layers, image, interpreter)
        config = ImageConfig(cmd=("python3",), env=env)
        return PreparedImage(interpreter.image_id(), warning, config, folders, interpreter)

    async def _unpack(self, image: str, pulled: PulledImage) -> PreparedImage:
        if (found := foreign_platform(pulled.config)) is not None:
            raise _failure(
                image,
                f"no match for platform in manifest: not found: the image is for {found}, "
                "which this machine is not; build it for several platforms",
            )
        interpreter = None
        if pulled.host_base is not None:
            interpreter = await self.host_base.of_version(pulled.host_base)
            if interpreter is None:
                raise _failure(
                    image,
                    f"it was built on the Python {pulled.host_base} of the machine itself, and this one has "
                    "none of that version: build it again here",
                )
        elif not self.tier.namespaces:
            raise _failure(image, _NO_NAMESPACES.format(tier=self.tier.name))
        config = ImageConfig.parse(pulled.config)
        try:
            if self.tier.namespaces:
                folders = await asyncio.to_thread(self._folders, image, pulled.layers, interpreter)
                return PreparedImage(pulled.reference, pulled.warning, config, folders, interpreter)
            assert interpreter is not None
            merged = await asyncio.to_thread(self._merged, pulled.layers, interpreter)
        except LayerError as error:
            raise _failure(image, f"failed to extract layer: {error}") from error
        return PreparedImage(pulled.reference, pulled.warning, config, (), interpreter, merged)

    def _folders(
        self, image: str, layers: tuple[ImageLayer, ...], interpreter: Interpreter | None
    ) -> tuple[Path, ...]:
        folders = self._store.folders(layers)
        return folders if interpreter is None else (*folders, *self._host_layers(image, interpreter))

    def _host_layers(self, image: str, interpreter: Interpreter) -> tuple[Path, ...]:
        if not self.tier.namespaces:
            return ()
        try:
            return (make_host_layer(self.folder.absolute(), interpreter),)
        except OSError as error:
            raise _failure(image, str(error)) from error

    def _merged(self, layers: tuple[ImageLayer, ...], interpreter: Interpreter) -> Path:
        python = self.program_folder(interpreter) / "python3"
        return self._store.merged(layers, lambda root: _point_scripts(root, python), f"scripts of {python}")


def _failure(image: str, why: str) -> ImagePullError:
    return ImagePullError(f'failed to pull and unpack image "{parse_reference(image)}": {why}')


def _point_scripts(root: Path, python: Path) -> None:
    """Let the image's Python scripts be run by an interpreter that is elsewhere."""
    programs = root / "usr/local/bin"
    if any(each.is_symlink() for each in (root / "usr", root / "usr/local", programs)):
        return  # it may lead out of the image
    for script in programs.glob("*"):
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if content.startswith(_SHEBANG):
            rest = content.partition(b"\n")[2]
            mode = stat.S_IMODE(script.stat().st_mode)
            script.unlink()  # other images share it
            script.write_bytes(b"#!%s\n%s" % (os.fsencode(python), rest))
            script.chmod(mode)
