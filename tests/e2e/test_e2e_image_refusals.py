"""Images that cannot be: one clear message, nothing applied, nothing that a next run trips over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chalkcompute import Image, ScalingGroup
from chalkcompute.errors import ChalkError, ImageError, RegistryError, SpecError
from tests.e2e.contents import TELLING, tags, versions
from tests.e2e.front import front
from tests.e2e.harness import IMAGE, SMALL, Chalk, Kubernetes, Outcome

Answer = Callable[..., tuple[int, str]]

# Description, exit code, words of the message.
CASES: list[tuple[str, int, list[str]]] = [
    ('base.pip_install("flask")', 2, ["list of texts", 'pip_install(["flask"])']),
    ("base.pip_install([])", 2, ["`pip_install` is empty"]),
    ('base.pip_install(["-r", "x"])', 2, ["`-r`", "option"]),
    ('base.add_local_file("a.txt", "srv/a.txt")', 2, ["`srv/a.txt`", "not absolute", "`/srv/a.txt`"]),
    (
        'base.add_local_file("a.txt", "/srv/x").add_local_file("b.txt", "/srv/x")',
        2,
        ["a.txt`", "b.txt`", "both be at `/srv/x`"],
    ),
    ('base.add_local_file("a.txt", "/x").add_local_file("b.txt", "/x/b")', 2, ["below the file `/x`"]),
    ('base.add_local_file("none.txt", "/srv/x")', 2, ["none.txt` does not exist"]),
    ('base.add_local_dir("linked", "/srv/linked")', 2, ["linked/etc`", "leads to `/etc`", "exclude"]),
    ('base.add_local_dir("linked", "/srv/l", strategy="copy")', 2, ["linked/etc`", "leads to `/etc`"]),
    ('base.env({"A": 1})', 2, ["`A`", "int"]),
    ('Image.debian_slim("2.7")', 2, ["`2.7`"]),
    (
        'base.pip_install(["chalk-no-such-package-xyz"])',
        1,
        ["chalk-no-such-package-xyz was not found", "index"],
    ),
    ('base.pip_install(["flask==999"])', 1, ["flask==999"]),
    ('base.pip_install(["pywin32"])', 1, ["pywin32", "linux/amd64", "Python 3.12"]),
    ('Image.base("REGISTRY/none/none:v1").pip_install(["flask"])', 1, ["`none/none`", "`v1`", "REGISTRY"]),
    ('Image.base("registry.invalid/none:v1").pip_install(["flask"])', 1, ["`registry.invalid`"]),
]


@pytest.fixture(autouse=True)
def _embedded(real: bool) -> None:
    if real:
        pytest.skip("looks at the embedded cluster and its registry")


def only_error(outcome: Outcome) -> str:
    """What a failed command says after its progress: one error, and nothing on standard output."""
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert outcome.err.count("Error:") == 1, outcome
    return outcome.err[outcome.err.index("Error:") :]


def test_descriptions_and_builds_that_cannot_be(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, registry: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "etc").symlink_to("/etc")
    before = versions(kubernetes, namespace)
    failures = []
    for description, code, words in CASES:
        text = description.replace("REGISTRY", registry)
        (tmp_path / "service.py").write_text(
            f'from chalkcompute import Image\nbase = Image.debian_slim("3.12")\nimage = {text}\n'
        )
        done = chalk.sg("create", "--image=service.py:image", "--name=never", code=None, cwd=tmp_path)
        error = only_error(done)
        missing = [word for word in words if word.replace("REGISTRY", registry) not in error]
        if done.code != code or missing:
            failures.append(f"{text}: {missing}\n{done}")
        assert versions(kubernetes, namespace) == before, text
        assert tags(registry, "never") == [], text
    assert not failures, "\n".join(failures)


def copying(folder: Path, base: str) -> Image:
    """An image with three layers of our own."""
    image = Image.base(base).entrypoint(["python", "-c", TELLING])
    for name in ("one", "two", "three"):
        (folder / name).write_bytes(name.encode() * 100_000)
        image = image.add_local_file(folder / name, f"/srv/{name}", strategy="copy")
    return image


def test_a_registry_that_refuses_half_way(
    client: Any,
    kubernetes: Kubernetes,
    namespace: str,
    registry: str,
    answer: Answer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with front(registry) as stub:
        monkeypatch.setenv("CHALK_REGISTRY", stub.name)
        image = copying(tmp_path, IMAGE)
        before = versions(kubernetes, namespace)

        def deploy() -> ScalingGroup:
            return ScalingGroup(image=image, name="half", port=8000, client=client, **SMALL).deploy()

        for pieces in (0, 1, 2):
            stub.let_through = pieces
            with pytest.raises(RegistryError, match=stub.name) as caught:
                deploy()
            assert caught.value.status == 403
            assert "DENIED" in str(caught.value)
            assert versions(kubernetes, namespace) == before
            assert tags(stub.name, "half") == []
        stub.let_through = None
        deploy().wait_ready()
        assert len(tags(stub.name, "half")) == 1
        assert set(json.loads(answer("half", "/files/srv")[1])) == {"/srv/one", "/srv/two", "/srv/three"}
        client.delete_scaling_group("half")


def test_registries_that_cannot_be_used(
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    registry: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "service.py").write_text(
        "from chalkcompute import Image\n"
        f'image = Image.base("{IMAGE}").add_local_file("a.txt", "/srv/a.txt", strategy="copy")\n'
    )
    before = versions(kubernetes, namespace)

    def refused(name: str, *words: str, code: int = 1) -> None:
        done = chalk.sg(
            "create",
            "--image=service.py:image",
            "--name=never",
            code=code,
            cwd=tmp_path,
            env={"CHALK_REGISTRY": name},
        )
        error = only_error(done)
        for word in words:
            assert word in error, done
        assert versions(kubernetes, namespace) == before

    with front(registry, certificate=tmp_path) as stub:
        refused(f"{stub.name}/team", f"`{stub.name}`", "not trusted", "certificate")
        assert stub.asked == []
    refused("127.0.0.1:1/team", "`127.0.0.1:1`")
    refused("registry.invalid/team", "`registry.invalid`")
    refused("https://registry.invalid/team", "CHALK_REGISTRY", code=2)


def test_no_registry_is_named(client: Any, kubernetes: Kubernetes, namespace: str, tmp_path: Path) -> None:
    """What must be built needs one; the local cluster names its own on every namespace."""
    status, body = kubernetes.request(
        "patch",
        f"/api/v1/namespaces/{namespace}",
        {"metadata": {"annotations": {"chalk.ai/registry": ""}}},
        content_type="application/merge-patch+json",
    )
    assert status == 200, body
    before = versions(kubernetes, namespace)
    with pytest.raises(ChalkError, match=f"no registry is named for namespace `{namespace}`") as caught:
        ScalingGroup(image=copying(tmp_path, IMAGE), name="never", client=client).deploy()
    assert "CHALK_REGISTRY" in str(caught.value.hint)
    assert not isinstance(caught.value, SpecError | ImageError)
    assert versions(kubernetes, namespace) == before
