"""Builds without a container engine: wheels and files become layers on top of the base's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chalkcompute.build.base import Base, BaseImage
from chalkcompute.build.compose import Composed, compose, compose_index
from chalkcompute.build.housekeeping import used
from chalkcompute.build.layers import Layer, cached_layer, save_layer, source_entries, write_layer
from chalkcompute.build.plan import Plan, key_of
from chalkcompute.build.progress import Say
from chalkcompute.build.pythons import ImagePython, find_python
from chalkcompute.build.transfer import fetched_layer, locked, push_image, transfer_base
from chalkcompute.build.wheels import install_packages, installed_entries
from chalkcompute.registry import Registry
from chalkcompute.sources import SourceSet
from chalkcompute.spec.checks import without_credentials

__all__ = ["build_without_engine"]


def build_without_engine(
    plan: Plan,
    base: Base,
    target: Registry,
    repository: str,
    *,
    environ: Mapping[str, str],
    cache: Path,
    push: bool,
    say: Say,
) -> Composed:
    """Make the image, or the index of several, and push all of it but the tag.

    Raises:
        ImageBuildError: The packages cannot be installed, or a file has changed meanwhile.
        RegistryError: A registry cannot be reached, or refuses us.
    """
    with tempfile.TemporaryDirectory(prefix="chalk-build-", dir=_made(cache)) as name:
        scratch = Path(name)
        existing = sorted({folder for image in base.images for folder in _folders(image)})
        copied = [_copied(files, scratch, n, existing) for n, files in enumerate(plan.copied)]
        made: list[tuple[Composed, list[Layer]]] = []
        for image in base.images:
            layers = [*_packages(plan, base, image, environ, cache, say), *copied]
            made.append((compose(image, layers, plan.image, base_name=base.name), layers))
        if push:
            transfer_base(base, target, repository, cache, say)
            for composed, layers in made:
                push_image(target, repository, composed, layers, scratch, say)
        return _one([composed for composed, _ in made])


def _one(images: Sequence[Composed]) -> Composed:
    return images[0] if len(images) == 1 else compose_index(images)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _folders(image: BaseImage) -> Iterator[str]:
    """Folders that a base is sure to have, with their parents.

    A layer that has them too would change their owner: a service that is not root would lose its own home.
    """
    user = str(image.settings.get("User") or "").partition(":")[0]
    if user and not user.isdecimal():
        yield f"/home/{user}"
    for folder in (image.settings.get("WorkingDir"), image.environment.get("HOME")):
        if isinstance(folder, str) and folder.startswith("/"):
            yield folder


def _copied(files: SourceSet, scratch: Path, number: int, existing: Sequence[str]) -> Layer:
    made_by = f"chalk copy {files.destination}"
    path = scratch / f"copied-{number}.tar.gz"
    return write_layer(source_entries(files), path, made_by, existing=existing)


def _packages(
    plan: Plan, base: Base, image: BaseImage, environ: Mapping[str, str], cache: Path, say: Say
) -> list[Layer]:
    """The site-packages, out of the cache if these packages were installed onto this base before."""
    if not plan.packages and not plan.requirements:
        return []
    python = find_python(image, base.name, lambda layer: fetched_layer(base, layer, cache, say))
    key = key_of(
        [plan.python_packages, image.digest, image.platform, python.site, python.version, python.is_musl]
    )
    path = cache / "layers" / f"{key}.tar.gz"
    with locked(path, say):
        layer = cached_layer(path)
        if layer is None:
            say(f"installing {_named(plan)} for Python {python.version}, {image.platform}")
            layer = _install(plan, python, image.platform, environ, path, say)
        used(path)
        used(path.with_suffix(".json"))
    return [layer]


def _install(
    plan: Plan, python: ImagePython, platform: str, environ: Mapping[str, str], path: Path, say: Say
) -> Layer:
    with tempfile.TemporaryDirectory(prefix="site-", dir=path.parent) as name:
        folder = Path(name)
        install_packages(plan.packages, plan.requirements, python, platform, into=folder, environ=environ)
        say("packing the Python packages")
        made_by = f"chalk pip_install {_named(plan)}"
        existing = (python.site, python.scripts)
        layer = write_layer(installed_entries(folder, python), path, made_by, existing=existing)
    save_layer(layer)
    return layer


def _named(plan: Plan) -> str:
    named = [*plan.packages, *(f"-r {path.name}" for path in plan.requirements)]
    return without_credentials(", ".join(named))
