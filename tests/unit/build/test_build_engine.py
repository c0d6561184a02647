"""Steps that run: what an engine is told, and a real one where it is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from chalkcompute.build.context import base_names, context_hash, pip_secrets, write_context
from chalkcompute.build.engine import _pulls_from_here_only
from chalkcompute.build.engines import Engine, Job, find_engine, is_local
from chalkcompute.build.plan import make_plan
from chalkcompute.errors import ImageBuildError
from chalkcompute.image import FromDockerfile, Image
from chalkcompute.sources import collect
from tests.unit.build.conftest import Build, fake_buildah, make_wheel, pull, push_base

SITE = "usr/local/lib/python3.12/site-packages"


def test_the_context_of_all_steps(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/run").write_text("x")
    (tmp_path / "src/run").chmod(0o755)
    (tmp_path / "requirements.txt").write_text("flask\n")
    image = (
        Image.base("a")
        .add_local_dir(tmp_path / "src", "/src", strategy="copy")
        .pip_install_from_requirements(tmp_path / "requirements.txt")
        .pip_install(["numpy>=2"])
        .run_commands("/src/run")
        .env({"A": "1 $B", "LINES": "1\n2"})
        .pip_install(["later"])
    )
    plan = make_plan(image, [collect(item) for item in image.files], ["linux/amd64"])
    early, late = plan.split(len(plan.steps_to_run))
    assert late.packages == ("later",)
    assert late.copied == ()
    folder = tmp_path / "scratch"
    folder.mkdir()
    dockerfile, context, secrets = write_context(early, "host/app@sha256:00", folder)
    mounts = (
        "--mount=type=secret,id=chalk-pip,target=/etc/pip.conf "
        "--mount=type=secret,id=chalk-ca,target=/run/chalk-ca.pem "
    )
    (given,) = secrets
    inside = f"/run/{given.replace('-1-0-', '-1-')}/requirements.txt"
    assert dockerfile.read_text().splitlines() == [
        "FROM host/app@sha256:00",
        'ENV A="1 \\$B"',
        "# ENV LINES has a line break in it, which no Dockerfile can say",
        "COPY 0/ /src/",
        f"RUN {mounts}--mount=type=secret,id={given},target={inside},mode=0444 "
        f"pip install --no-cache-dir -r {inside}",
        f"RUN {mounts}pip install --no-cache-dir 'numpy>=2'",
        "RUN /src/run",
    ]
    assert (context / "0/run").stat().st_mode & 0o777 == 0o755
    assert secrets[given].read_text() == "flask\n"
    assert stat.S_IMODE(secrets[given].stat().st_mode) == 0o600


def test_what_a_dockerfile_depends_on(tmp_path: Path) -> None:
    text = "FROM --platform=linux/amd64 debian:13 AS one\nfrom one\nFROM scratch\nFROM $X\nFROM python:3.12\n"
    assert base_names(text) == ["debian:13", "python:3.12"]
    step = FromDockerfile(tmp_path / "Dockerfile")
    step.path.write_text("FROM a\nRUN true\n")
    before = context_hash(step)
    (tmp_path / "a").write_text("1")
    assert context_hash(step) == before
    step.path.write_text("FROM a\nCOPY a /\n")
    copies = context_hash(step)
    (tmp_path / "a").write_text("2")
    assert context_hash(step) != copies


def test_secrets_of_pip_stay_out_of_the_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    secrets = pip_secrets(
        {"PIP_INDEX_URL": "https://u:canary@i/", "PIP_CERT": str(tmp_path / "ca.pem")}, tmp_path
    )
    text = secrets["chalk-pip"].read_text()
    assert "index-url = https://u:canary@i/\n" in text
    assert "cert = /run/chalk-ca.pem" in text
    assert stat.S_IMODE(secrets["chalk-pip"].stat().st_mode) == 0o600
    assert secrets["chalk-ca"] == tmp_path / "ca.pem"


@pytest.mark.parametrize("name", ["buildah", "podman", "docker", "buildctl"])
def test_command_lines(name: str) -> None:
    def job(host: str) -> Job:
        local = is_local(f"{host}/app:1")
        return Job(
            Path("/c"), Path("/d/Dockerfile"), "linux/arm64", f"{host}/app:1", False, {"s": Path("/f")}, local
        )

    lines = [" ".join(command) for command in Engine(name, name).commands(job("127.0.0.1:5000"))]
    assert "linux/arm64" in lines[0]
    assert "--secret id=s,src=/f" in lines[0]
    assert "127.0.0.1:5000/app:1" in lines[-1]
    relaxed = {"buildctl": "registry.insecure=true", "docker": ""}.get(name, "--tls-verify=false")
    assert all(relaxed in line for line in lines)
    if relaxed:
        elsewhere = Engine(name, name).commands(job("ghcr.io"))
        assert not any(relaxed in part for command in elsewhere for part in command)


def test_none_here_and_one_that_is_silent(tmp_path: Path, build: Build, registry_host: str) -> None:
    with pytest.raises(ImageBuildError, match=r"needs a container engine, and none is here\n") as caught:
        find_engine({"PATH": str(tmp_path)}, "it")
    assert "buildah" in str(caught.value.hint)
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    with pytest.raises(ImageBuildError, match="`docker` is here, but its daemon does not answer"):
        find_engine({"PATH": str(tmp_path)}, "it")
    base = push_base(registry_host, "engine-none/base")
    image = Image.base(base).apt_install(["curl"])
    with pytest.raises(ImageBuildError, match=r"`apt_install\(\['curl'\]\)` needs a container engine"):
        build(image, "engine-none/app", environ={"PATH": str(tmp_path)})
    with pytest.raises(ImageBuildError, match="has not run yet"):
        build(image, "engine-none/app", push=False)


def _engine_environ(tmp_path: Path, environ: dict[str, str]) -> dict[str, str]:
    """`buildah` with a store of its own, without namespaces, which tests in a container may not make."""
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{store}/graph"\nrunroot = "{store}/run"\n'
    )
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "buildah").symlink_to(str(shutil.which("buildah")))
    return environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "BUILDAH_ISOLATION": "chroot",
        "CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"),
    }


@pytest.fixture
def real_engine(tmp_path: Path, environ: dict[str, str]) -> dict[str, str]:
    if shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.skip("needs `buildah` and root")
    changed = _engine_environ(tmp_path, environ)
    probe = subprocess.run(["buildah", "info"], env=changed, capture_output=True, check=False, timeout=60)
    if probe.returncode != 0:
        pytest.skip("`buildah` does not work here")
    return changed


@pytest.fixture(scope="session")
def shell() -> dict[str, bytes]:
    """The shell of this machine and the libraries that it needs."""
    files = {"bin/sh": Path("/bin/sh"), "bin/cat": Path("/bin/cat")}
    for program in list(files.values()):
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            files[library.lstrip("/")] = Path(library)
    return {name: path.read_bytes() for name, path in files.items()}


def test_an_engine_that_says_nothing_good(tmp_path: Path, build: Build, registry_host: str) -> None:
    path = fake_buildah(
        tmp_path / "tools",
        "echo 'STEP 1/2: ENV A=\"canary\"'\necho 'STEP 2/2: RUN make'\n"
        "echo 'https://u:canary@host/x: no' >&2\nexit 3\n",
    )
    base = push_base(registry_host, "engine-bad/base")
    said: list[str] = []
    image = Image.base(base).run_commands("make")
    with pytest.raises(
        ImageBuildError, match="could not build the image for linux/amd64 at `RUN make`"
    ) as caught:
        build(image, "engine-bad/app", environ={"PATH": path}, on_progress=said.append)
    assert "https://host/x: no" in str(caught.value.hint)
    assert "canary" not in f"{caught.value.hint} {said}"
    assert said[-2:] == ["buildah: ENV A", "buildah: RUN make"]


def test_a_package_without_wheels_goes_to_the_engine(
    tmp_path: Path, build: Build, registry_host: str, wheels: Path, environ: dict[str, str]
) -> None:
    base = push_base(registry_host, "engine-wheel/base")
    make_wheel(wheels, "mine", tag="cp312-cp312-macosx_11_0_arm64")
    changed = environ | {"PATH": fake_buildah(tmp_path / "tools", "echo no compiler\nexit 1\n")}
    with pytest.raises(ImageBuildError, match="`buildah` could not build it either") as caught:
        build(Image.base(base).pip_install(["mine"]), "engine-wheel/app", environ=changed)
    assert "mine" in str(caught.value)
    assert "no compiler" in str(caught.value.hint)


def test_steps_run_and_the_rest_comes_on_top(
    build: Build, registry_host: str, tmp_path: Path, real_engine: dict[str, str], shell: dict[str, bytes]
) -> None:
    base = push_base(registry_host, "engine/base", files=shell)
    (tmp_path / "note").write_text("hello")
    image = (
        Image.base(base)
        .add_local_file(tmp_path / "note", "/opt/note", strategy="copy")
        .env({"WHO": "me"})
        .run_commands("cat /opt/note > /result; echo $WHO >> /result")
        .pip_install(["tiny"])
        .cmd(["x"])
    )
    built = build(image, "engine/app", environ=real_engine)
    made = pull(registry_host, "engine/app", built.digest)
    assert f"{SITE}/tiny/__init__.py" in made.members(-1)
    assert made.read(-2, "result") == "hellome\n"
    assert made.config["config"]["Cmd"] == ["x"]
    assert not build(image, "engine/app", environ={"PATH": ""}).is_new
    other = build(image.cmd(["y"]), "engine/app", environ=real_engine | {"PATH": "/usr/bin:/bin"})
    assert other.is_new

    with pytest.raises(ImageBuildError, match="at `RUN exit 3`"):
        build(Image.base(base).run_commands("exit 3"), "engine/app", environ=real_engine)
    left = subprocess.run(["buildah", "containers", "-q"], env=real_engine, capture_output=True, check=True)
    assert left.stdout == b""


def test_a_dockerfile_with_its_context(
    build: Build, registry_host: str, tmp_path: Path, real_engine: dict[str, str], shell: dict[str, bytes]
) -> None:
    base = push_base(registry_host, "dockerfile/base", files=shell)
    folder = tmp_path / "docker"
    folder.mkdir()
    (folder / "note").write_text("one")
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY note /from-context\nENV A=1\n")
    image = Image.from_dockerfile(folder / "Dockerfile").run_commands("cat /from-context > /copy")
    built = build(image.env({"B": "2"}), "dockerfile/app", environ=real_engine)
    made = pull(registry_host, "dockerfile/app", built.digest)
    assert made.read(-1, "copy") == "one"
    assert made.config["config"]["Env"][-2:] == ["A=1", "B=2"]
    assert not build(image.env({"B": "2"}), "dockerfile/app").is_new
    (folder / "note").write_text("two")
    assert build(image.env({"B": "2"}), "dockerfile/app", environ=real_engine).is_new


@pytest.mark.parametrize(
    ("dockerfile", "relaxed"),
    [
        ("FROM localhost:5000/a\n", True),
        ("FROM 127.0.0.1:5000/a AS one\nFROM one\nFROM localhost/b\n", True),
        ("FROM localhost:5000/a\nFROM python:3.12\n", False),
        ("FROM localhost:5000/a\nCOPY --from=ghcr.io/a/b /x /x\n", False),
        ("FROM localhost:5000/a\nRUN --mount=type=bind,from=ghcr.io/a/b ls\n", False),
        ("ARG A=python\nFROM localhost:5000/a\nFROM ${A}\n", False),
        ("FROM scratch\n", False),
    ],
)
def test_a_registry_of_this_machine_is_asked_without_tls(dockerfile: str, relaxed: bool) -> None:
    assert _pulls_from_here_only(dockerfile) is relaxed


PIP = b"""#!/bin/sh
while [ "$1" != -r ]; do shift; done
cat "$2" > /seen
echo "$3" >> /seen
"""


def test_no_password_of_an_index_stays_in_the_image(
    build: Build, registry_host: str, tmp_path: Path, real_engine: dict[str, str], shell: dict[str, bytes]
) -> None:
    base = push_base(registry_host, "engine-secret/base", files={**shell, "bin/pip": PIP})
    file = tmp_path / "requirements.txt"
    file.touch()
    first = Image.base(base).pip_install(["flask", "x @ https://me:canary@i.example/x.whl"]).run_commands(":")
    second = Image.base(base).pip_install_from_requirements(file).run_commands(":")
    for image, content in ((first, ""), (second, "one\n"), (second, "two # https://me:canary@i.example\n")):
        file.write_text(content)
        built = build(image, "engine-secret/app", environ=real_engine)
        made = pull(registry_host, "engine-secret/app", built.digest)
        (seen,) = (made.read(n, "seen") for n in range(len(made.layers)) if "seen" in made.members(n))
        # The step has seen it, of this run and not of one that the engine remembers.
        assert seen == (f"{content}\n" if content else "x @ https://me:canary@i.example/x.whlflask\n")
        for number in range(len(made.layers)):
            for name, member in made.members(number).items():
                hidden = name == "seen" or not member.isreg() or b"canary" not in made.bytes(number, name)
                assert hidden, name
        assert "canary" not in json.dumps([made.config, made.manifest])
