"""A process that dies half-way, and two at once: nothing is lost, running it again finishes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.harness import IMAGE, SERVER, Chalk, Kubernetes, eventually

CREATE = [
    "scaling-group",
    "create",
    "--name=half",
    f"--image={IMAGE}",
    "--port=8000",
    f"--entrypoint={json.dumps(SERVER)}",
    "--cpu=50m",
    "--memory=96Mi",
    "--shutdown-delay=1",
]


def records(kubernetes: Kubernetes, namespace: str) -> list[str]:
    return [
        c["metadata"]["name"]
        for c in kubernetes.items(f"/api/v1/namespaces/{namespace}/configmaps", "chalk.ai/scaling-group=half")
        if c["metadata"]["name"] == "chalk-sg-half"
    ]


def test_a_create_killed_after_its_first_write_is_finished_by_the_next(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    process = chalk.start(*CREATE)
    eventually(lambda: records(kubernetes, namespace) or process.poll() is not None, "the record is there")
    process.kill()
    process.communicate()
    chalk(*CREATE)
    (group,) = chalk.sg("list", "-o", "json").json()["scaling_groups"]
    assert group["status"] == "Available"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_create_asked_to_end_cleans_up_and_says_what_goes_on(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, tmp_path: Path, number: int, code: int
) -> None:
    slow = json.dumps(["sleep", "600"])
    create = [a for a in CREATE if not a.startswith("--entrypoint")] + [f"--entrypoint={slow}"]
    process = chalk.start(*create, env={"TMPDIR": str(tmp_path)})
    eventually(
        lambda: kubernetes.items(f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes"),
        "all is applied",
    )
    process.send_signal(number)
    ended = chalk.end(process, *create, code=code)
    assert "Error: terminated" in ended.err
    assert any(hint in ended.err for hint in ("`half` goes on by itself", "run it again")), ended
    assert list(tmp_path.iterdir()) == []
    # The lease is given up, so that the next need not wait for it to run out.
    chalk(*CREATE)


def test_a_delete_killed_half_way_leaves_nothing_behind(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    chalk(*CREATE)
    process = chalk.start("scaling-group", "delete", "--name=half")
    eventually(
        lambda: (
            any("chalk-sg-hist-" in o for o in kubernetes.group_objects(namespace, "half"))
            or process.poll() is not None
        ),
        "the delete has begun",
    )
    process.kill()
    process.communicate()
    chalk.sg("delete", "--name=half", code=None)
    eventually(
        lambda: [o for o in kubernetes.group_objects(namespace, "half") if "chalk-sg-hist-" not in o] == [],
        "nothing but the tombstone is left",
    )
    (gone,) = chalk.sg("list", "--all", "-o", "json").json()["scaling_groups"]
    assert gone["status"] == "Deleted"


def test_two_creates_at_once_make_one_group(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    both = [chalk.start(*CREATE, "--replicas=2") for _ in range(2)]
    ended = [chalk.end(p, *CREATE, code=None) for p in both]
    codes = sorted(outcome.code for outcome in ended)
    assert codes[0] == 0, ended
    assert codes[1] in (0, 4), ended
    assert records(kubernetes, namespace) == ["chalk-sg-half"]
    assert len(chalk.sg("list", "-o", "json").json()["scaling_groups"]) == 1


def test_a_name_used_again_is_a_new_group(chalk: Chalk) -> None:
    chalk(*CREATE)
    first = chalk.sg("get", "half", "-o", "json").json()["id"]
    chalk.sg("delete", "half")
    chalk(*CREATE)
    second = chalk.sg("get", "half", "-o", "json").json()["id"]
    assert first != second
    history = chalk.sg("list", "--all", "-o", "json").json()["scaling_groups"]
    assert {g["id"] for g in history} == {first, second}


def test_every_moment_of_a_rollout_has_its_replicas(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    """Enough replicas of either revision are available all the time."""
    chalk(*CREATE, "--replicas=2")
    process = chalk.start(*CREATE, "--replicas=2", "--env", "A=1")
    lowest = 2
    while process.poll() is None:
        status = kubernetes.deployment(namespace, "half")["status"]
        lowest = min(lowest, status.get("availableReplicas", 0))
        time.sleep(0.1)
    chalk.end(process, *CREATE)
    assert lowest == 2
