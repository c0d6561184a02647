"""From an `Image` to what a deploy can apply: files are read, and what must be built is built and pushed.

What needs no build needs no registry: the base image runs as it is, with the configuration in the Pod and
the files in ConfigMaps beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from chalkcompute.build import build_image
from chalkcompute.errors import SpecError
from chalkcompute.image import Image
from chalkcompute.manifests.files import fits_config_maps
from chalkcompute.service.progress import Reporter
from chalkcompute.service.registries import find_platforms, find_registry
from chalkcompute.session import Session
from chalkcompute.sources import SourceFile, SourceSet, collect
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content, FileContent, FileSet
from chalkcompute.types import OnProgress

__all__ = ["PreparedImage", "prepare_image"]


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What an `Image` has become.

    Attributes:
        spec: The spec, with the reference of the image and, where none was built, its configuration.
        content: What goes with the spec, local files now among it.
        warnings: What the user should know of the files and the build.
    """

    spec: ScalingGroupSpec
    content: Content
    warnings: tuple[str, ...] = ()


def prepare_image(
    session: Session,
    spec: ScalingGroupSpec,
    image: Image,
    content: Content,
    *,
    push: bool,
    on_progress: OnProgress | None = None,
) -> PreparedImage:
    """Read, and where needed build and push.

    Args:
        session: Settings and cluster; the cluster is asked only when something is built.
        spec: What was asked for beside the image.
        image: The description.
        content: What goes with the spec so far; its secrets win over variables of the image.
        push: False builds without pushing, for a dry run.
        on_progress: Called on every step.

    Raises:
        SpecError: A local file cannot be read, or the description cannot be.
        ConfigError: It must be built, and no registry is named.
        ImageError: The base cannot be had, a step fails, or the registry refuses.
    """
    mounted, copied = _divided(image)
    content = replace(content, files=(*content.files, *(_content(item) for item in mounted)))
    sets = [*mounted, *copied]
    warned = (*_exposed(sets), *_empty(sets))
    if not image.needs_build and not copied:
        secret = {*content.secret_values, *(ref.env for ref in spec.secrets)}
        return PreparedImage(_configured(spec, image, secret), content, warned)
    reporter = Reporter(on_progress, session.world())
    cluster, scope = session.cluster(), session.scope()
    registry = find_registry(cluster, scope)
    platforms, assumed = find_platforms(cluster, scope)
    environ = session.environment()
    built = build_image(
        image,
        copied=copied,
        repository=f"{registry}/{spec.name}",
        platforms=platforms,
        environ=environ,
        cache=_cache(environ),
        push=push,
        on_progress=partial(reporter.say, "building"),
    )
    warnings = (*warned, *([assumed] if assumed is not None else []), *built.warnings)
    return PreparedImage(replace(spec, image=built.reference), content, warnings)


def _divided(image: Image) -> tuple[list[SourceSet], list[SourceSet]]:
    """The files to deliver beside the image, and those that become a layer of it.

    What does not fit into ConfigMaps becomes a layer, the largest first.
    """
    mounted: list[SourceSet] = []
    copied: list[SourceSet] = []
    for item in image.files:
        (copied if item.strategy == "copy" else mounted).append(collect(item))
    while not fits_config_maps(mounted):
        largest = max(mounted, key=_size)
        mounted.remove(largest)
        copied.append(largest)
    return mounted, copied


def _exposed(sets: Sequence[SourceSet]) -> tuple[str, ...]:
    """A warning for each `.env` that comes along with its directory, which nobody may have meant."""
    return tuple(
        f"`{file.source}` goes along to `{file.path}`, where it is no secret: whoever may read ConfigMaps or "
        "pull the image can read it; leave it out with `.gitignore`, `.chalkignore` or `exclude=`"
        for item in sets
        if item.is_directory
        for file in item.files
        if file.source.name == ".env"
    )


def _empty(sets: Sequence[SourceSet]) -> tuple[str, ...]:
    """A warning for each directory of which nothing comes along: a wrong path, or rules leave all out."""
    return tuple(
        f"nothing of the directory for `{item.destination}` goes along: it is empty, or `.gitignore`, "
        "`.chalkignore` and `exclude=` leave everything out"
        for item in sets
        if item.is_directory and not item.files
    )


def _size(item: SourceSet) -> int:
    return sum(file.size for file in item.files)


def _content(item: SourceSet) -> FileSet:
    return FileSet(
        item.destination,
        item.is_directory,
        tuple(FileContent(file.path, file.mode, _read(file)) for file in item.files),
    )


def _read(file: SourceFile) -> bytes:
    try:
        data = file.source.read_bytes()
    except OSError as error:
        raise SpecError(f"`{file.source}` cannot be read: {error.strerror}", field="image") from None
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise SpecError(
            f"`{file.source}` was changed while it was being read", field="image", hint="deploy again"
        )
    return data


def _configured(spec: ScalingGroupSpec, image: Image, secret_names: Collection[str]) -> ScalingGroupSpec:
    """The spec with the configuration of an image that is not built; what the group itself says wins."""
    variables = {name: value for name, value in image.environment.items() if name not in secret_names}
    return replace(
        spec,
        image=image.base_image,
        entrypoint=spec.entrypoint if spec.entrypoint is not None else image.command,
        # An entrypoint of the group's own replaces the image's whole command line, as in Kubernetes.
        args=spec.args if spec.entrypoint is not None or spec.args is not None else image.args,
        working_dir=spec.working_dir if spec.working_dir is not None else image.working_dir,
        env={**variables, **spec.env},
    )


def _cache(environ: Mapping[str, str]) -> Path:
    """The folder of layers that were built before (XDG Base Directory Specification)."""
    home = Path(environ.get("HOME") or Path.home())
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "chalk"
