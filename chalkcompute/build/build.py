"""From a description to a reference by digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from chalkcompute.build.base import find_base
from chalkcompute.build.engineless import build_without_engine
from chalkcompute.build.plan import make_plan
from chalkcompute.errors import ImageBuildError, ImageNotFoundError, SpecError
from chalkcompute.image import Image
from chalkcompute.registry import (
    ImageReference,
    Registry,
    docker_credentials,
    parse_reference,
)
from chalkcompute.sources import SourceSet

__all__ = ["BuiltImage", "build_image"]

_TAG = 12  # characters of the key: enough for one repository's images


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image in a registry.

    Attributes:
        reference: By digest: `host/repository@sha256:…`. This is what to deploy.
        tag: By tag, for people: `host/repository:0123456789ab`.
        digest: Of the image, or of the index of several platforms.
        is_new: Whether it was built now; False means that nothing was built and nothing pushed.
        warnings: What the registry says about its base.
    """

    reference: str
    tag: str
    digest: str
    is_new: bool
    warnings: tuple[str, ...]


def build_image(
    image: Image,
    *,
    copied: Sequence[SourceSet],
    repository: str,
    platforms: Sequence[str],
    environ: Mapping[str, str],
    cache: Path,
    push: bool = True,
    on_progress: Callable[[str], None] | None = None,
) -> BuiltImage:
    """Build an image and push it, unless the registry has it.

    Args:
        image: The description.
        copied: The files that become layers: those of strategy "copy", and others as the caller sees fit.
        repository: Where it goes, without a tag: `localhost:5000/team/hello-api`.
        platforms: `linux/amd64`, `linux/arm64`; more than one makes an index.
        environ: Credentials (`DOCKER_CONFIG`), indexes (`PIP_INDEX_URL`, `UV_*`) and proxies come from it.
        cache: A folder of our own, made if need be; it can be deleted at any time.
        push: Whether to push; if not, the digest is what it would be.
        on_progress: Told what is going on, in short texts.

    Raises:
        SpecError: The description cannot be (field "image").
        ImageBuildError: A step failed, or nothing on this machine can run it.
        ImageNotFoundError: There is no such base.
        RegistryError: A registry cannot be reached, or refuses us.
    """
    say = on_progress or _nothing
    goal = _parsed(repository, "the repository to push to")
    if goal.digest is not None:
        raise SpecError(f"`{repository}` is an image and not a repository to push to", field="image")
    plan = make_plan(image, copied, platforms)
    if plan.steps_to_run:
        raise ImageBuildError("steps that run are not built yet")
    name = _parsed(image.base_image, "the base")
    credentials = docker_credentials(environ)
    with ExitStack() as stack:
        target = stack.enter_context(Registry(goal.domain, credentials=credentials))
        own = None
        if name.domain != goal.domain:
            own = stack.enter_context(Registry(name.domain, credentials=credentials))
        say(f"looking for the base {image.base_image}")
        base = find_base(name, own, target, plan.platforms)
        key = plan.key([base.digest])[:_TAG]
        known = _known(target, goal.path, key) if push else None
        digest = known
        if digest is None:
            made = build_without_engine(
                plan, base, target, goal.path, environ=environ, cache=cache, push=push, say=say
            )
            digest = made.digest
            if push:
                # The tag comes last: who finds it finds all of the image.
                target.push_manifest(goal.path, key, made.media_type, made.manifest)
    return BuiltImage(
        reference=f"{goal.domain}/{goal.path}@{digest}",
        tag=f"{goal.domain}/{goal.path}:{key}",
        digest=digest,
        is_new=known is None,
        warnings=base.warnings,
    )


def _known(target: Registry, repository: str, tag: str) -> str | None:
    try:
        return target.resolve(repository, tag).digest
    except ImageNotFoundError:
        return None


def _parsed(text: str, what: str) -> ImageReference:
    try:
        return parse_reference(text)
    except ValueError as error:
        raise SpecError(f"{what}: {error}", field="image") from None


def _nothing(_: str) -> None:
    pass
