"""Container engines: which one is here, and how each is told to build and push."""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chalkcompute.build.progress import Say
from chalkcompute.errors import ImageBuildError
from chalkcompute.spec.checks import without_credentials

__all__ = ["Engine", "Job", "find_engine", "is_local"]

_NAMES = ("buildah", "podman", "docker", "buildctl")
_ALIVE = {"docker": ("version",), "buildctl": ("debug", "workers")}  # what needs its daemon
_ALIVE_SECONDS = 20.0
_STEP = re.compile(r"(?:STEP \d+(?:/\d+)?: |#\d+ \[[^\]]*\d+/\d+\] )(?P<step>.*)")
_VALUE = re.compile(r"\bENV (?P<name>\w+)=.*")
_TAIL = 15  # lines that an error shows


@dataclass(frozen=True, slots=True)
class Job:
    """One image to build and push.

    Attributes:
        context: Folder with the files.
        dockerfile: The Dockerfile.
        platform: `linux/amd64`.
        name: What it is pushed as, `host/repository:tag`.
        is_docker: Whether its manifest is to be Docker's rather than OCI's.
        secrets: Files that steps may see and that stay out of the image, by their ids.
        insecure_base: Whether every base it has is in a registry of this machine, which may have no TLS.
    """

    context: Path
    dockerfile: Path
    platform: str
    name: str
    is_docker: bool
    secrets: Mapping[str, Path]
    insecure_base: bool = False


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        name: `buildah`, `podman`, `docker` or `buildctl`.
        path: Its program.
    """

    name: str
    path: str

    def commands(self, job: Job) -> list[list[str]]:
        """The command lines that build and push."""
        secrets = [part for id_, file in job.secrets.items() for part in ("--secret", f"id={id_},src={file}")]
        if self.name == "buildctl":
            insecure = ",registry.insecure=true" if is_local(job.name) else ""
            return [
                [self.path, "build", "--progress=plain", "--frontend", "dockerfile.v0",
                 "--local", f"context={job.context}", "--local", f"dockerfile={job.dockerfile.parent}",
                 "--opt", f"filename={job.dockerfile.name}", "--opt", f"platform={job.platform}", *secrets,
                 "--output", f"type=image,name={job.name},push=true{insecure}"]
            ]  # fmt: skip
        common = ["--platform", job.platform, "--tag", job.name, "--file", str(job.dockerfile), *secrets]
        if self.name == "docker":
            return [
                [self.path, "build", "--progress=plain", *common, str(job.context)],
                [self.path, "push", "--quiet", job.name],
            ]
        kind = "docker" if job.is_docker else "oci"
        insecure_build = ["--tls-verify=false"] if job.insecure_base else []
        insecure_push = ["--tls-verify=false"] if is_local(job.name) else []
        # A build that fails would leave its container behind without `--force-rm`.
        options = ["--layers", "--force-rm", "--format", kind, *insecure_build]
        return [
            [self.path, "build", *options, *common, str(job.context)],
            [self.path, "push", *insecure_push, job.name, f"docker://{job.name}"],
        ]

    def run(self, job: Job, environ: Mapping[str, str], say: Say) -> None:
        """Build and push.

        Raises:
            ImageBuildError: It failed; the hint has the last lines of what the engine said.
        """
        for command in self.commands(job):
            self._run(command, dict(environ) | {"DOCKER_BUILDKIT": "1"}, job, say)

    def _run(self, command: Sequence[str], environ: dict[str, str], job: Job, say: Say) -> None:
        tail: deque[str] = deque(maxlen=_TAIL)
        step = ""
        with subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                assert process.stdout is not None  # it is a pipe
                for line in process.stdout:
                    text = without_credentials("".join(c if c.isprintable() else " " for c in line)).strip()
                    text = _VALUE.sub(r"ENV \g<name>", text)  # a value may be a secret after all
                    tail.append(text)
                    match = _STEP.match(text)
                    if match:
                        step = re.sub(r"--mount=\S+ ", "", match["step"])
                        say(f"{self.name}: {step}")
            except BaseException:
                process.terminate()
                raise
        if process.returncode != 0:
            at = f" at `{step}`" if step and command[1] == "build" else ""
            verb = "build" if command[1] == "build" else "push"
            raise ImageBuildError(
                f"`{self.name}` could not {verb} the image for {job.platform}{at}",
                hint="its last words:\n  " + "\n  ".join(line for line in tail if line),
            )


def find_engine(environ: Mapping[str, str], why: str) -> Engine:
    """The first engine that is here and answers.

    Args:
        environ: Its `PATH` is searched.
        why: What needs it, for the message.

    Raises:
        ImageBuildError: None is here.
    """
    silent = []
    for name in _NAMES:
        path = shutil.which(name, path=environ.get("PATH"))
        if path is None:
            continue
        if name not in _ALIVE or _answers([path, *_ALIVE[name]], environ):
            return Engine(name, path)
        silent.append(name)
    here = "".join(f"; `{name}` is here, but its daemon does not answer" for name in silent)
    raise ImageBuildError(
        f"{why} needs a container engine, and none is here{here}",
        hint="install `buildah` (`apt-get install buildah`), `podman` or `docker`, or start from an image "
        "that has what is needed",
    )


def _answers(command: Sequence[str], environ: Mapping[str, str]) -> bool:
    try:
        done = subprocess.run(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ALIVE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def is_local(name: str) -> bool:
    """Whether an image's registry is on this machine, where engines must be told that it has no TLS."""
    host = name.partition("/")[0].rpartition(":")[0] or name.partition("/")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
