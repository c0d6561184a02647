"""Every folder of `examples/`, deployed as its text says and used."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.contents import EXAMPLES, objects
from tests.e2e.harness import Chalk, Kubernetes, eventually

Answer = Callable[..., tuple[int, str]]


def test_these_are_all() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()) == ["hello", "notes", "package"]


def test_hello(chalk: Chalk, registry: str, real: bool) -> None:
    done = chalk.python(EXAMPLES / "hello" / "service.py", code=None)
    if real and "UnreachableError" in done.err:
        return  # the gateway of this cluster is not reached from here
    assert (done.code, done.out) == (0, "200 ok\n"), done


def test_package(chalk: Chalk, answer: Answer) -> None:
    chalk.sg("create", f"--image={EXAMPLES / 'package' / 'service.py'}:image", "--name=catalog")
    assert json.loads(answer("catalog", "/bolt")[1]) == {"part": "bolt", "stock": 12}
    assert json.loads(answer("catalog", "/")[1]) == ["bolt", "nut"]


def test_notes(
    client: Any,
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    registry: str,
    real: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two replicas share the notes; each is asked, by its own address, on the local cluster."""
    token = secrets.token_hex(8)
    if real:
        pytest.skip("its volume is ReadWriteMany, which few clusters have")
    monkeypatch.setenv("NOTES_TOKEN", token)
    done = chalk.python(EXAMPLES / "notes" / "service.py", env={"NOTES_TOKEN": token})
    assert done.out.strip() == client.get_scaling_group("notes").web_url
    eventually(lambda: client.get_scaling_group("notes").ready_replicas == 2, "both replicas are ready")

    import httpx

    first, second = (
        httpx.Client(
            base_url=f"http://{pod['status']['podIP']}:8080",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        for pod in kubernetes.pods(namespace, "notes")
    )
    with first, second:
        assert first.put("/notes/milk", content="two bottles").json() == {"written": 11}
        assert second.get("/notes/milk").json() == {"text": "two bottles"}
        assert second.put("/notes/milk", content="three").status_code == 200
        assert first.get("/notes/milk").json() == {"text": "three"}
        assert first.get("/notes/none").status_code == 404
        for wrong in ("", "Bearer wrong"):
            assert second.get("/notes/milk", headers={"Authorization": wrong}).status_code == 401

    assert client.call("notes", "/notes/milk", method="GET").status_code == 401
    headers = {"Authorization": f"Bearer {token}"}
    assert client.call("notes", "/notes/milk", method="GET", headers=headers).json() == {"text": "three"}
    chalk.sg("delete", "notes")
    left = {name for name in objects(kubernetes, namespace) if "/chalk-sg-hist-" not in name}
    assert left == {"persistentvolumeclaims/notes"}
    again = chalk.python(EXAMPLES / "notes" / "service.py", env={"NOTES_TOKEN": token})
    assert again.code == 0
    assert client.call("notes", "/notes/milk", method="GET", headers=headers).json() == {"text": "three"}
