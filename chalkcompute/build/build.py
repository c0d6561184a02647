"""From a description to a reference by digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from chalkcompute.build.base import Base, find_base
from chalkcompute.build.compose import Composed
from chalkcompute.build.engine import dockerfile_digests, run_steps, what_runs
from chalkcompute.build.engineless import build_without_engine
from chalkcompute.build.engines import Engine, find_engine
from chalkcompute.build.housekeeping import tidy
from chalkcompute.build.plan import Plan, make_plan
from chalkcompute.build.wheels import NoWheelError
from chalkcompute.errors import ImageBuildError, ImageNotFoundError, SpecError
from chalkcompute.image import Image
from chalkcompute.registry import (
    CredentialSource,
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
        push: Whether to push; if not, the digest is what it would be. Steps that run must push.
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
    credentials = docker_credentials(environ)
    with ExitStack() as stack:
        target = stack.enter_context(Registry(goal.domain, credentials=credentials))
        base, inputs = None, dockerfile_digests(plan, credentials)
        if image.base_image:
            say(f"looking for the base {image.base_image}")
            base = _base(plan, goal, target, credentials, stack)
            inputs = [base.digest]
        key = plan.key(inputs)[:_TAG]
        known = _known(target, goal.path, key)
        build = _Build(goal, target, environ, cache, push, say)
        digest = known if known is not None else build.run(plan, base, inputs, key)
    return BuiltImage(
        reference=f"{goal.domain}/{goal.path}@{digest}",
        tag=f"{goal.domain}/{goal.path}:{key}",
        digest=digest,
        is_new=known is None,
        warnings=base.warnings if base is not None else (),
    )


def _base(
    plan: Plan, goal: ImageReference, target: Registry, credentials: CredentialSource, stack: ExitStack
) -> Base:
    name = _parsed(plan.image.base_image, "the base")
    own = None
    if name.domain != goal.domain:
        own = stack.enter_context(Registry(name.domain, credentials=credentials))
    return find_base(name, own, target, plan.platforms)


@dataclass(frozen=True, slots=True)
class _Build:
    """One build that is not in the registry yet."""

    goal: ImageReference
    target: Registry
    environ: Mapping[str, str]
    cache: Path
    push: bool
    say: Callable[[str], None]

    def run(self, plan: Plan, base: Base | None, inputs: Sequence[str], key: str) -> str:
        """Make the image and tag it with its key; its digest."""
        if plan.steps_to_run and not self.push:
            raise ImageBuildError(
                f"{what_runs(plan.steps_to_run[-1])} has not run yet, and nothing is to be pushed now",
                hint="what such a step makes is known only once it has run: build and push it first",
            )
        tidy(self.cache)
        try:
            made = self.make(plan, base, inputs)
        except OSError as error:
            where = f"`{error.filename}`: " if error.filename else ""
            raise ImageBuildError(
                f"the image cannot be built: {where}{error.strerror or error}",
                hint=f"it needs a folder to write to, with room in it: `{self.cache}`",
            ) from error
        if self.push:
            # The tag comes last: who finds it finds all of the image.
            self.target.push_manifest(self.goal.path, key, made.media_type, made.manifest)
        return made.digest

    def make(self, plan: Plan, base: Base | None, inputs: Sequence[str]) -> Composed:
        """Steps that must run first, by an engine; then all else without one."""
        must = plan.steps_to_run
        left, start = plan, base
        if must:
            engine = find_engine(self.environ, what_runs(must[-1]))
            left, start = self._run(plan, len(must), base, inputs, engine)
        assert start is not None  # without a base there is a Dockerfile, which an engine built
        try:
            return self._finish(left, start)
        except NoWheelError as error:
            engine = self._engine_for(error)
            self.say(f"{error.message}; {engine.name} builds it")
            try:
                left, start = self._run(plan, len(plan.steps), base, inputs, engine)
            except ImageBuildError as failed:
                raise ImageBuildError(
                    f"{error.message}; `{engine.name}` could not build it either: {failed.message}",
                    hint=failed.hint,
                ) from None
            return self._finish(left, start)

    def _engine_for(self, error: NoWheelError) -> Engine:
        if not self.push:
            raise error
        try:
            return find_engine(self.environ, "a package without wheels")
        except ImageBuildError:
            raise error from None

    def _run(
        self, plan: Plan, number: int, base: Base | None, inputs: Sequence[str], engine: Engine
    ) -> tuple[Plan, Base]:
        """The plan that is left, and what it starts from."""
        early, late = plan.split(number)
        parts = [early] if base is not None else list(early.split(1))  # a Dockerfile has its own context
        for part in parts:
            if part.steps:
                base = run_steps(
                    part, base, inputs, self.target, self.goal.domain, self.goal.path, engine,
                    environ=self.environ, cache=self.cache, say=self.say,
                )  # fmt: skip
        assert base is not None  # one of the parts made it
        return late, base

    def _finish(self, plan: Plan, base: Base) -> Composed:
        return build_without_engine(
            plan, base, self.target, self.goal.path,
            environ=self.environ, cache=self.cache, push=self.push, say=self.say,
        )  # fmt: skip


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
