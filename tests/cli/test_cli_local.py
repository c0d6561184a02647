"""`chalk local`, as far as it goes without starting a daemon; the end-to-end suite starts one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from chalk_cli.commands.local import SANDBOXES, _how_to_choose, _status_pairs, _write_up
from chalk_cli.context import CliContext
from chalk_cli.main import cli
from chalkcompute.local.lifecycle import LocalStatus, daemon_log_path
from chalkcompute.local.runtime.tiers import TIERS
from tests.cli.conftest import Invoke


def test_status_of_a_cluster_that_never_ran(invoke: Invoke, tmp_path: Path) -> None:
    home = tmp_path / "state"
    shown = invoke("local", "status", f"--home={home}")
    assert "not running" in shown.stdout
    assert str(home) in shown.stdout
    document = json.loads(invoke("local", "status", "-o", "json", env={"CHALK_LOCAL_HOME": str(home)}).stdout)
    assert (document["schema"], document["running"], document["state_dir"]) == (1, False, str(home))


def test_status_says_what_the_sandbox_cannot_do() -> None:
    found = LocalStatus(
        running=True,
        state_dir=Path("/s"),
        kubeconfig=Path("/s/kubeconfig"),
        pid=7,
        server="https://127.0.0.1:16443",
        https_port=18443,
        http_port=18080,
        registry="localhost:5005",
        tier="notify",
        limitations=("no limits on memory",),
    )
    pairs = _status_pairs(found)
    assert ("Sandbox", "notify") in pairs
    assert ("Limitation", "no limits on memory") in pairs
    assert ("Gateway", "https://<environment>-<name>.gw.localhost:18443") in pairs
    assert ("Plain HTTP", "http://<environment>-<name>.gw.localhost:18080") in pairs
    assert ("Registry", "localhost:5005") in pairs
    assert "Plain HTTP" not in dict(_status_pairs(dataclasses.replace(found, http_port=None)))


@pytest.mark.parametrize(
    ("cpu", "memory", "said"),
    [
        ("cgroup v1", "cgroup v1", "CPU and memory by cgroup v1"),
        ("watched", "cgroup v2", "CPU watched, by pausing processes; memory by cgroup v2"),
        ("watched", "watched", "CPU watched, by pausing processes; memory watched, by ending processes"),
        ("engine", "engine", "CPU and memory by the engine"),
        ("not enforced", "not enforced", "CPU and memory not enforced"),
    ],
)
def test_status_says_how_limits_are_held(cpu: str, memory: str, said: str) -> None:
    limits = {"cpu": cpu, "memory": memory}
    found = LocalStatus(running=True, state_dir=Path("/s"), kubeconfig=Path("/s/kubeconfig"), limits=limits)
    assert dict(_status_pairs(found))["Limits"] == said
    assert found.to_dict()["limits"] == limits
    assert "Limits" not in dict(_status_pairs(dataclasses.replace(found, limits={})))


def test_status_says_which_gpus_there_are() -> None:
    found = LocalStatus(running=True, state_dir=Path("/s"), kubeconfig=Path("/s/kubeconfig"))
    assert dict(_status_pairs(found))["GPUs"] == "none"
    assert found.to_dict()["gpus"] == {"count": 0, "type": None}
    found = dataclasses.replace(found, gpus=2, gpu_type="nvidia-l4")
    assert dict(_status_pairs(found))["GPUs"] == "2 (nvidia-l4)"
    assert found.to_dict()["gpus"] == {"count": 2, "type": "nvidia-l4"}


@pytest.mark.parametrize(
    ("quiet", "output", "stdout"),
    [(False, "table", "running (pid 7)"), (True, "table", ""), (True, "json", '"running": true')],
)
def test_up_prints_its_table_unless_quiet(
    capsys: pytest.CaptureFixture[str], quiet: bool, output: str, stdout: str
) -> None:
    cli_context = CliContext(environ={})
    cli_context.quiet = quiet
    found = LocalStatus(running=True, state_dir=Path("/s"), kubeconfig=Path("/s/kubeconfig"), pid=7)
    _write_up(cli_context, found, output)
    said = capsys.readouterr().out
    assert stdout in said
    assert (said == "") == (stdout == "")


def test_a_sandbox_that_is_none_is_a_usage_error(invoke: Invoke, tmp_path: Path) -> None:
    assert set(SANDBOXES) == {"auto", *TIERS}
    said = invoke("local", "up", f"--home={tmp_path}/state", "--sandbox=bogus", code=2).stderr
    assert all(tier in said for tier in SANDBOXES)
    assert not (tmp_path / "state").exists()


def test_a_folder_chosen_by_a_flag_is_named_in_what_to_type_next() -> None:
    assert '"$(chalk local kubeconfig)"' in _how_to_choose(None)
    said = _how_to_choose(Path("/my state"))
    assert said == """to choose it:\n  export KUBECONFIG="$(chalk local kubeconfig --home '/my state')\""""


def test_kubeconfig_prints_the_path_and_nothing_else(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("local", "kubeconfig", f"--home={tmp_path}/state")
    assert result.stdout == f"{tmp_path}/state/kubeconfig\n"
    assert "chalk local up" in result.stderr


@pytest.mark.parametrize(("verb", "said"), [("down", "was not running"), ("reset", "no local cluster")])
def test_nothing_to_stop_is_no_error(invoke: Invoke, tmp_path: Path, verb: str, said: str) -> None:
    result = invoke("local", verb, f"--home={tmp_path}/state")
    assert (result.stdout, said in result.stderr) == ("", True)


def test_reset_leaves_a_folder_alone_that_is_not_its_own(invoke: Invoke, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("x")
    assert "nothing was removed" in invoke("local", "reset", f"--home={theirs}", code=5).stderr
    assert (theirs / "thesis.txt").exists()


def test_a_state_folder_that_is_a_file_is_not_a_usage_error(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "nothing was removed" in invoke("local", "reset", f"--home={tmp_path}/file", code=5).stderr


def test_logs(invoke: Invoke, tmp_path: Path) -> None:
    home = tmp_path / "state"
    assert "chalk local up" in invoke("local", "logs", f"--home={home}", code=3).stderr
    path = daemon_log_path(home)
    path.parent.mkdir(parents=True)
    path.write_text("one\ntwo\n")
    assert invoke("local", "logs", f"--home={home}").stdout == "one\ntwo\n"


def test_local_needs_no_client(tmp_path: Path) -> None:
    def refuse(**settings: object) -> None:
        raise AssertionError(f"a client was made: {settings}")

    context = CliContext(refuse, {})  # type: ignore[arg-type]
    result = CliRunner().invoke(cli, ["local", "status", f"--home={tmp_path}"], obj=context)
    assert result.exit_code == 0
