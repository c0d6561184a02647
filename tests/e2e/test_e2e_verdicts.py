"""When it cannot work, the reason comes at once: the same verdict as text, JSON and exit code."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.harness import IMAGE, Chalk, Kubernetes, eventually


def settled(chalk: Chalk, name: str, cause: str) -> Any:
    """The verdict on a group that is not there yet, once it is seen; how long that takes is the cluster's."""

    def look() -> Any:
        verdict = chalk.sg("get", name, "-o", "json").json()["verdict"]
        return verdict if verdict and verdict["cause"] == cause else None

    return eventually(look, f"the verdict on {name} is {cause}")


def test_crash_names_exit_code_and_last_lines(chalk: Chalk) -> None:
    program = "import sys; print('no model at /models/llama3', flush=True); sys.exit(3)"
    failed = chalk.sg(
        "create",
        "--name=crash",
        f"--image={IMAGE}",
        "--entrypoint",
        json.dumps(["python", "-c", program]),
        code=6,
    )
    assert "no model at /models/llama3" in failed.err
    assert "3" in failed.err
    group = chalk.sg("get", "crash", "-o", "json").json()
    assert group["status"] == "Failed"
    listed = chalk.sg("list", "-o", "json").json()["scaling_groups"]
    assert [(g["status"], g["verdict"]["cause"]) for g in listed] == [("Failed", "CrashLoop")]
    verdict = group["verdict"]
    assert verdict["cause"] == "CrashLoop"
    assert verdict["terminal"] is True
    assert verdict["next"]
    assert any("no model at /models/llama3" in line for e in verdict["evidence"] for line in e["lines"])
    assert any(e.get("exit_code") == 3 for e in verdict["evidence"])


def test_crash_in_json_mode_is_one_object_on_stderr(chalk: Chalk) -> None:
    failed = chalk.sg(
        "create",
        "--name=crash",
        f"--image={IMAGE}",
        "--entrypoint=python,-c,raise SystemExit(7)",
        "-o",
        "json",
        code=6,
    )
    error = json.loads([line for line in failed.err.splitlines() if line.startswith("{")][-1])
    assert error["error"]["exit_code"] == 6
    assert error["error"]["verdict"]["cause"] == "CrashLoop"


def test_program_that_does_not_exist(chalk: Chalk) -> None:
    failed = chalk.sg("create", "--name=nope", f"--image={IMAGE}", "--entrypoint=no-such-program", code=6)
    assert "no-such-program" in failed.err
    assert chalk.sg("get", "nope", "-o", "json").json()["verdict"]["cause"] == "StartError"


def test_image_that_cannot_be_pulled(chalk: Chalk) -> None:
    image = "registry.invalid/team/missing:v1"
    failed = chalk.sg("create", "--name=pull", f"--image={image}", code=6)
    assert image in failed.err
    assert chalk.sg("get", "pull", "-o", "json").json()["verdict"]["cause"] == "ImagePull"


def test_more_cpu_than_any_node_has(chalk: Chalk) -> None:
    chalk.serve("huge", "--cpu=4000", "--no-wait")
    assert "cpu" in settled(chalk, "huge", "Unschedulable")["message"]
    failed = chalk.serve("huge", "--cpu=4000", "--timeout=3", code=7)
    assert "cpu" in failed.err


def test_gpu_type_that_no_node_has(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("gpu", "--gpu=nvidia-no-such-gpu:1", "--no-wait")
    verdict = settled(chalk, "gpu", "Unschedulable")
    assert verdict["terminal"] is False
    failed = chalk.serve("gpu", "--gpu=nvidia-no-such-gpu:1", "--timeout=3", code=7)
    # Where no node has a GPU of any type, that is what is said.
    assert "nvidia-no-such-gpu" in failed.err or "no GPU" in failed.err
    pod = kubernetes.deployment(namespace, "gpu")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-no-such-gpu"}
    assert [t["key"] for t in pod["tolerations"]] == ["nvidia.com/gpu"]
    resources = pod["containers"][0]["resources"]
    assert (resources["requests"]["nvidia.com/gpu"], resources["limits"]["nvidia.com/gpu"]) == ("1", "1")
    chalk.serve("gpu", "--gpu=2", "--no-wait")
    pod = kubernetes.deployment(namespace, "gpu")["spec"]["template"]["spec"]
    assert "nodeSelector" not in pod
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"


def test_nothing_listens_on_the_port(chalk: Chalk) -> None:
    chalk.serve("deaf", "--port=9999", "--no-wait")
    assert "9999" in settled(chalk, "deaf", "NotListening")["message"]
    failed = chalk.serve("deaf", "--port=9999", "--timeout=3", code=7)
    assert "9999" in failed.err


def test_a_readiness_path_decides(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("path", "--readiness-path=/")
    probe = kubernetes.container(namespace, "path")["readinessProbe"]
    assert probe["httpGet"]["path"] == "/"
    assert "tcpSocket" not in probe
    chalk.serve("path", "--readiness-path=/no-such-page", "--no-wait")
    assert "404" in settled(chalk, "path", "NotListening")["message"]
    group = chalk.sg("get", "path", "-o", "json").json()
    assert group["replicas"]["ready"] == 1, "the revision before goes on serving"
    assert (group["status"], group["revision"]) == ("Running", 2)


def test_a_bad_update_leaves_the_old_replicas_serving(chalk: Chalk) -> None:
    chalk.serve("solid", "--replicas=2")
    failed = chalk.sg(
        "create",
        "--name=solid",
        f"--image={IMAGE}",
        "--port=8000",
        "--replicas=2",
        "--entrypoint=python,-c,raise SystemExit(9)",
        code=6,
    )
    assert "9" in failed.err
    group = chalk.sg("get", "solid", "-o", "json").json()
    assert group["status"] == "Failed"
    assert group["replicas"]["ready"] == 2
    chalk.serve("solid", "--replicas=2")
    assert chalk.sg("get", "solid", "-o", "json").json()["status"] == "Available"


def test_no_wait_returns_at_once_and_get_tells_later(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    chalk.sg(
        "create",
        "--name=later",
        f"--image={IMAGE}",
        "--entrypoint=python,-c,raise SystemExit(5)",
        "--no-wait",
    )
    assert chalk.sg("get", "later", "-o", "json").json()["status"] in ("Pending", "Running", "Failed")
    assert "exit code 5" in settled(chalk, "later", "CrashLoop")["message"]
    chalk.sg("delete", "later")
    assert [o for o in kubernetes.group_objects(namespace, "later") if "chalk-sg-hist-" not in o] == []
