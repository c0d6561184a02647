"""Images: the quick start as printed, what is built and what is not, and what is left at the end."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chalkcompute import Image, ScalingGroup, ScalingGroupSpec
from chalkcompute.types import Progress
from tests.e2e.contents import EXAMPLES, TELLING, objects, tags, versions
from tests.e2e.harness import IMAGE, SMALL, Chalk, Kubernetes, eventually

Answer = Callable[..., tuple[int, str]]

QUICK_START = """
from chalkcompute import ScalingGroup, Image

img = (
    Image.debian_slim("3.12")
    .pip_install(["flask"])
    .add_local_file("./app.py", "/app/app.py")
    .entrypoint(["python", "/app/app.py"])
)

sg = ScalingGroup(
    image=img,
    name="hello-api",
    port=8080,
    min_replicas=1,
    max_replicas=3,
).deploy().wait_ready()

resp = sg.call("/health", method="GET")
print(resp.status_code, resp.text)

sg.delete()
"""
"""As the specification prints it."""


def telling(base: Image) -> Image:
    """An image that tells what it sees, on port 8000."""
    return base.entrypoint(["python", "-c", TELLING])


def history(kubernetes: Kubernetes, namespace: str) -> set[str]:
    return {name for name in objects(kubernetes, namespace) if name.startswith("configmaps/chalk-sg-hist-")}


class Steps:
    """Every step that was reported."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, step: Progress) -> None:
        self.said.append(f"{step.phase}: {step.message}")

    @property
    def of_a_build(self) -> list[str]:
        return [
            step for step in self.said if any(word in step for word in ("installing", "pushing", "packing"))
        ]


def test_the_quick_start_of_the_specification(
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    registry: str,
    real: bool,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    shutil.copy(EXAMPLES / "hello" / "app.py", tmp_path)
    script = tmp_path / "quick_start.py"
    script.write_text(QUICK_START)
    done = chalk.python(script, code=None)
    if real and "UnreachableError" in done.err:
        record_property("not answered", "the gateway of this cluster is not reached from here")
        chalk.sg("delete", "hello-api")
    else:
        assert (done.code, done.out) == (0, "200 ok\n"), done
    assert set(objects(kubernetes, namespace)) == history(kubernetes, namespace)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["app.py", "quick_start.py"]


def test_what_is_unchanged_is_not_built_again(
    client: Any, kubernetes: Kubernetes, namespace: str, registry: str, answer: Answer, tmp_path: Path
) -> None:
    source = tmp_path / "app.py"
    shutil.copy(EXAMPLES / "hello" / "app.py", source)

    def deploy() -> tuple[ScalingGroup, Steps]:
        image = (
            Image.base(IMAGE)
            .pip_install(["flask"])
            .add_local_file(source, "/app/app.py")
            .entrypoint(["python", "/app/app.py"])
        )
        group = ScalingGroup(image=image, name="again", port=8080, client=client, shutdown_delay_seconds=1)
        steps = Steps()
        return group.deploy(on_progress=steps).wait_ready(), steps

    def maps() -> set[str]:
        return {name for name in objects(kubernetes, namespace) if name.startswith("configmaps/again-files-")}

    group, steps = deploy()
    assert steps.of_a_build, steps.said
    image = group.refresh().image
    assert image.startswith(f"{registry}/again@sha256:")
    built, mounted = tags(registry, "again"), maps()
    assert kubernetes.container(namespace, "again")["image"] == image
    assert len(mounted) == 1
    assert answer("again", "/health") == (200, "ok")

    group, steps = deploy()
    assert (group.revision, group.refresh().image, steps.of_a_build) == (1, image, [])
    assert (tags(registry, "again"), maps()) == (built, mounted)

    source.write_text(source.read_text().replace('return "ok"', 'return "still ok"'))
    group, steps = deploy()
    assert (group.revision, group.refresh().image, steps.of_a_build) == (2, image, [])
    assert tags(registry, "again") == built
    assert maps() > mounted, "the first revision keeps its files"
    eventually(lambda: answer("again", "/health") == (200, "still ok"), "the new code answers")
    group.delete()
    assert maps() == set()


def test_what_is_large_or_asked_for_becomes_a_layer(
    client: Any, kubernetes: Kubernetes, namespace: str, registry: str, answer: Answer, tmp_path: Path
) -> None:
    content = {
        "large.bin": random.Random(20).randbytes(20 * 1024 * 1024),
        "baked.txt": b"in the image",
        "beside.txt": b"beside the image",
    }
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    image = telling(
        Image.base(IMAGE)
        .add_local_file(tmp_path / "large.bin", "/srv/large.bin")
        .add_local_file(tmp_path / "baked.txt", "/srv/baked.txt", mode=0o600, strategy="copy")
        .add_local_file(tmp_path / "beside.txt", "/srv/beside.txt", mode=0o755)
    )
    group = ScalingGroup(image=image, name="large", port=8000, client=client, **SMALL).deploy().wait_ready()
    assert group.refresh().image.startswith(f"{registry}/large@sha256:")
    (mounted,) = (o for name, o in objects(kubernetes, namespace).items() if "/large-files-" in name)
    assert len(mounted["binaryData"]) == 1
    seen = json.loads(answer("large", "/files/srv")[1])
    modes = {"large.bin": "0o644", "baked.txt": "0o600", "beside.txt": "0o755"}
    assert seen == {
        f"/srv/{name}": [modes[name], hashlib.sha256(data).hexdigest()] for name, data in content.items()
    }


def test_the_image_of_a_python_file(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, registry: str, answer: Answer
) -> None:
    image = f"--image={EXAMPLES / 'hello' / 'service.py'}:image"
    create = ["create", image, "--name=of-a-file", "--cpu=50m", "--memory=96Mi", "--shutdown-delay=1"]
    tried = chalk.sg(*create, "--dry-run", "-o", "json").json()
    assert (objects(kubernetes, namespace), tags(registry, "of-a-file")) == ({}, [])
    created = chalk.sg(*create, "-o", "json").json()
    assert created["image"] == tried["image"], "what a dry run says is what will be"
    assert created["image"].startswith(f"{registry}/of-a-file@sha256:")
    assert answer("of-a-file", "/health") == (200, "ok")
    before = versions(kubernetes, namespace)
    assert "unchanged" in chalk.sg(*create).out
    assert versions(kubernetes, namespace) == before
    assert "/app/app.py" in chalk.sg("get", "of-a-file").out
    printed = chalk.sg("manifests", *create[1:]).out
    assert created["image"] in printed
    chalk.sg("delete", "of-a-file")
    assert set(objects(kubernetes, namespace)) == history(kubernetes, namespace)


def test_files_beside_a_plain_image_need_no_build(
    client: Any, chalk: Chalk, kubernetes: Kubernetes, namespace: str, answer: Answer, tmp_path: Path
) -> None:
    """No registry is named here, so that nothing can be pushed."""
    folder = tmp_path / "code"
    (folder / "sub" / "node_modules").mkdir(parents=True)
    data = random.Random(1).randbytes(3 * 700_000)
    kept = {f"sub/{n}.bin": data[n * 700_000 :][:700_000] for n in range(3)}
    kept |= {"main.py": b"print()", "sub/kept.log": b"kept"}
    left_out = {"secret.env": b"X=1", "a.log": b"", "sub/node_modules/m.js": b"", ".gitignore": b"*.log\n"}
    left_out[".gitignore"] += b"/secret.env\nnode_modules/\n"
    left_out["sub/.gitignore"] = b"!kept.log\n"
    for name, data in {**kept, **left_out}.items():
        (folder / name).write_bytes(data)
    (folder / "main.py").chmod(0o755)
    (tmp_path / "hosts.extra").write_text("one file")

    image = telling(
        Image.base(IMAGE)
        .add_local_dir(folder, "/srv/code")
        .add_local_file(tmp_path / "hosts.extra", "/etc/hosts.extra")
        .env({"WORD": "image", "OTHER": "image"})
        .workdir("/srv/code")
    )
    group = ScalingGroup(image=image, name="plain", port=8000, env={"WORD": "group"}, client=client, **SMALL)
    group.deploy().wait_ready()
    assert group.refresh().image == IMAGE
    seen = json.loads(answer("plain", "/files/srv/code")[1])
    ignore_files = {".gitignore", "sub/.gitignore"}
    ignore_files = {".gitignore", "sub/.gitignore"}
    assert {name.removeprefix("/srv/code/") for name in seen} - ignore_files == set(kept)
    assert {name: seen[f"/srv/code/{name}"][1] for name in kept} == {
        name: hashlib.sha256(data).hexdigest() for name, data in kept.items()
    }
    assert seen["/srv/code/main.py"][0] == "0o755"
    assert json.loads(answer("plain", "/read/etc/hosts.extra")[1]) == "one file"
    assert answer("plain", "/read/etc/passwd")[0] == 200, "a single file keeps its neighbours"
    assert json.loads(answer("plain", "/env/WORD,OTHER")[1]) == {"WORD": "group", "OTHER": "image"}
    maps = [name for name in objects(kubernetes, namespace) if "/plain-files-" in name]
    assert len(maps) == 4, "three for the folder, one for the single file"
    group.delete()
    assert set(objects(kubernetes, namespace)) == history(kubernetes, namespace)


def test_files_that_no_revision_needs_go(
    client: Any, chalk: Chalk, kubernetes: Kubernetes, namespace: str, answer: Answer, tmp_path: Path
) -> None:
    """The history keeps twenty revisions; what went before them goes after the next rollout."""
    file = tmp_path / "word.txt"
    spec = ScalingGroupSpec(name="words", image=IMAGE, port=8000, **SMALL)
    file.touch()
    image = telling(Image.base(IMAGE).add_local_file(file, "/srv/word.txt"))
    for number in range(1, 22):
        file.write_text(f"word {number}")
        client.create_scaling_group(spec, image=image)
    client.wait_scaling_group("words", timeout=120)
    assert json.loads(answer("words", "/read/srv/word.txt")[1]) == "word 21"
    assert chalk.sg("get", "words", "-o", "json").json()["revision"] == 21
    file.write_text("word 22")  # with it goes what only pods of the first revisions still held
    client.create_scaling_group(spec, image=image)
    client.wait_scaling_group("words", timeout=120)
    held = [
        base64.b64decode(obj["binaryData"]["f0"]).decode()
        for name, obj in objects(kubernetes, namespace).items()
        if "/words-files-" in name
    ]
    assert sorted(held) == sorted(f"word {number}" for number in range(3, 23))
    chalk.sg("delete", "words")
    assert set(objects(kubernetes, namespace)) == history(kubernetes, namespace)
