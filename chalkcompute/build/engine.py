"""The steps that must run: done by a container engine, pushed as an image to build on."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from chalkcompute.build.base import Base, BaseImage, Place, read_image
from chalkcompute.build.context import base_names, context_hash, dockerfile_of, pip_secrets, write_context
from chalkcompute.build.engines import Engine, Job, is_local
from chalkcompute.build.plan import Plan
from chalkcompute.build.progress import Say
from chalkcompute.build.transfer import push_base_image, transfer_base
from chalkcompute.errors import ImageBuildError, ImageNotFoundError, RegistryError
from chalkcompute.image import (
    AptInstall,
    CopyFiles,
    FromDockerfile,
    PipInstall,
    PipRequirements,
    RunCommands,
    Step,
)
from chalkcompute.registry import (
    DOCKER_MANIFEST,
    CredentialSource,
    FetchedManifest,
    Registry,
    choose_platform,
    parse_reference,
)
from chalkcompute.spec.checks import without_credentials

__all__ = ["dockerfile_digests", "run_steps", "what_runs"]

_TAG = 12
# `COPY --from=IMAGE`, `RUN --mount=from=IMAGE`, `FROM $IMAGE`: who knows whether these are of this machine.
_PULLS_MORE = re.compile(r"\bfrom=|^\s*FROM\s[^\n]*\$", re.IGNORECASE | re.MULTILINE)
_HOST_BASE = "chalk.ai/host-base"  # label of the local cluster's stand-in


def what_runs(step: Step) -> str:
    """A step as it was written, for messages."""
    match step:
        case AptInstall(packages):
            return f"`apt_install({list(packages)})`"
        case RunCommands(commands):
            return f"`run_commands({', '.join(map(repr, commands))})`"
        case FromDockerfile(path):
            return f'`from_dockerfile("{path}")`'
        case PipInstall(packages):
            return without_credentials(f"`pip_install({list(packages)})`")
        case PipRequirements(path):
            return f'`pip_install_from_requirements("{path}")`'
    return f"`{type(step).__name__}`"


def dockerfile_digests(plan: Plan, credentials: CredentialSource) -> list[str]:
    """What the Dockerfile of a plan depends on: its context, and the digests of what it starts from."""
    found = []
    for step in plan.steps:
        if isinstance(step, FromDockerfile):
            found.append(context_hash(step))
            found += [_digest(name, credentials) for name in base_names(dockerfile_of(step))]
    return found


def _digest(name: str, credentials: CredentialSource) -> str:
    """The digest of an image, or its name where its registry has none: an engine may have it nevertheless."""
    try:
        reference = parse_reference(name)
        if reference.digest:
            return reference.digest
        with Registry(reference.domain, credentials=credentials) as registry:
            return registry.resolve(reference.path, reference.reference).digest
    except (ValueError, RegistryError):
        return name


def run_steps(
    plan: Plan,
    base: Base | None,
    inputs: Sequence[str],
    target: Registry,
    host: str,
    repository: str,
    engine: Engine,
    *,
    environ: Mapping[str, str],
    cache: Path,
    say: Say,
) -> Base:
    """Have the steps of `plan` done, for each platform, unless the registry has the result.

    Args:
        plan: Only what is to run.
        base: What it starts from, None when a Dockerfile says it.
        inputs: What a Dockerfile depends on.
        target: The registry.
        host: Its name in references.
        repository: Where the result goes.
        engine: Which does it.
        environ: For the engine.
        cache: A folder of our own.
        say: Told what is going on.

    Returns:
        The result, to build on.

    Raises:
        ImageBuildError: A step failed.
        RegistryError: A registry cannot be reached, or refuses us.
    """
    key = plan.steps_key([image.digest for image in base.images] if base is not None else inputs)[:_TAG]
    place = Place(target, repository, None, True)
    images = []
    for number, platform in enumerate(plan.platforms):
        tag = f"{key}-steps-{platform.removeprefix('linux/').replace('/', '-')}"
        try:
            found = target.manifest(repository, tag)
        except ImageNotFoundError:
            image = base.images[number] if base is not None else None
            if base is not None and image is not None:
                _check_can_run(image, base.name, plan)
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="chalk-engine-", dir=cache) as name:
                scratch = Path(name)
                if base is not None and image is not None:
                    transfer_base(base, target, repository, cache, say)
                    push_base_image(base, image, target, repository, scratch)
                job = _job(plan, image, f"{host}/{repository}", tag, platform, environ, scratch)
                say(f"{engine.name} runs {len(plan.steps)} step(s) for {platform}")
                engine.run(job, environ, say)
            found = target.manifest(repository, tag)
        images.append(read_image(place, _one(target, repository, found, platform), platform, tag))
    name = base.name if base is not None else f"{host}/{repository}:{key}"
    warnings = base.warnings if base is not None else ()
    return Base(name, images[0].digest, place, tuple(images), warnings)


def _check_can_run(image: BaseImage, name: str, plan: Plan) -> None:
    """The host base of a local cluster has nothing in it that could run."""
    if _HOST_BASE in (image.settings.get("Labels") or {}):
        step = [step for step in plan.steps if not isinstance(step, CopyFiles)][-1]
        raise ImageBuildError(
            f"{what_runs(step)} cannot run: `{name}` could not be pulled, and this machine's "
            "Python stands in for it, in which nothing else can run",
            hint="see to it that the image can be pulled, or take a base that can",
        )


def _one(target: Registry, repository: str, found: FetchedManifest, platform: str) -> FetchedManifest:
    """The image itself; BuildKit may push an index with an attestation beside it."""
    if not found.is_index:
        return found
    return target.manifest(repository, choose_platform(found.body, platform).digest)


def _pulls_from_here_only(dockerfile: str) -> bool:
    """Whether all that a Dockerfile pulls is in registries of this machine. In doubt it is not."""
    names = base_names(dockerfile)
    return bool(names) and all(map(is_local, names)) and not _PULLS_MORE.search(dockerfile)


def _job(
    plan: Plan,
    image: BaseImage | None,
    repository: str,
    tag: str,
    platform: str,
    environ: Mapping[str, str],
    scratch: Path,
) -> Job:
    name = f"{repository}:{tag}"
    first = plan.steps[0]
    if image is None:
        assert isinstance(first, FromDockerfile)  # what else has no base
        return Job(
            first.path.parent,
            first.path,
            platform,
            name,
            is_docker=False,
            secrets={},
            insecure_base=_pulls_from_here_only(dockerfile_of(first)),
        )
    dockerfile, context, secrets = write_context(plan, f"{repository}@{image.digest}", scratch)
    return Job(
        context,
        dockerfile,
        platform,
        name,
        is_docker=image.media_type == DOCKER_MANIFEST,
        secrets={**pip_secrets(environ, scratch), **secrets},
        insecure_base=is_local(repository),
    )
